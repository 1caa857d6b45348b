//! Where one bin ends and the next begins.
//!
//! Edges are finite, strictly increasing and few. Bin `i` holds the values in
//! `(edge[i-1], edge[i]]`; the first and the last bin are open outwards, so that every finite
//! value has a bin. This module never looks at counts.

use crate::SketchError;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Fewest bins that may be asked for.
pub const MIN_BINS: usize = 2;
/// Most bins that may be asked for, and that a decoder accepts.
pub const MAX_BINS: usize = 64;

/// The inner bin edges of one feature: `bins - 1` values, none for a constant feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Edges(Vec<f32>);

impl Edges {
    /// Edges for a sample that is finite and sorted in ascending order.
    ///
    /// With at most `bins` distinct values each value gets a bin of its own, bounded half way to
    /// its neighbours so that a rounding difference between two CPUs moves nothing. Otherwise the
    /// edges are the sample's `i / bins` quantiles (linear interpolation, Hyndman and Fan 1996,
    /// definition 7), with tied ones merged.
    pub(crate) fn from_sorted(sorted: &[f32], bins: usize) -> Self {
        let mut distinct = Vec::with_capacity(bins + 1);
        for &value in sorted {
            if distinct.last() != Some(&value) {
                distinct.push(value);
                if distinct.len() > bins {
                    break;
                }
            }
        }
        if distinct.len() <= bins {
            return Self(
                distinct
                    .iter()
                    .zip(distinct.iter().skip(1))
                    .map(|(&low, &high)| midpoint(low, high))
                    .collect(),
            );
        }
        let mut edges = Vec::with_capacity(bins - 1);
        for i in 1..bins {
            let edge = quantile(sorted, i as f64 / bins as f64);
            if edges.last().is_none_or(|&last| last < edge) {
                edges.push(edge);
            }
        }
        Self(edges)
    }

    /// The bin that a finite `value` falls into.
    #[must_use]
    pub fn bin_of(&self, value: f32) -> usize {
        self.0.partition_point(|&edge| edge < value)
    }

    /// Number of bins: one more than there are edges.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.0.len() + 1
    }

    /// The edges in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    pub(crate) fn validate(&self) -> Result<(), SketchError> {
        if self.bins() > MAX_BINS {
            return Err(SketchError::Malformed {
                what: "more bins than allowed",
            });
        }
        if self.0.iter().any(|edge| !edge.is_finite()) {
            return Err(SketchError::Malformed {
                what: "an edge is not finite",
            });
        }
        if self
            .0
            .iter()
            .zip(self.0.iter().skip(1))
            .any(|(a, b)| a >= b)
        {
            return Err(SketchError::Malformed {
                what: "edges are not strictly increasing",
            });
        }
        Ok(())
    }
}

/// A value in `[low, high)` half way between two different values.
fn midpoint(low: f32, high: f32) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the midpoint of two f32 lies in the range of f32"
    )]
    let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
    // Between neighbouring floats the middle rounds to one of them; the upper one would put both
    // values into the lower bin.
    if middle < high { middle } else { low }
}

fn quantile(sorted: &[f32], q: f64) -> f32 {
    let last = sorted.len().saturating_sub(1);
    let position = q * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 <= position <= last, which is a usize"
    )]
    let index = (libm::floor(position) as usize).min(last);
    let at = |i: usize| sorted.get(i.min(last)).map_or(0.0, |&v| f64::from(v));
    let (low, high) = (at(index), at(index + 1));
    let t = position - index as f64;
    // The two branches keep the result exact at both ends of the interval.
    let value = if t < 0.5 {
        low + (high - low) * t
    } else {
        high - (high - low) * (1.0 - t)
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a value between two f32 lies in the range of f32"
    )]
    let value = value as f32;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_edges_split_evenly() {
        let sorted: Vec<f32> = (0..101u8).map(f32::from).collect();
        let edges = Edges::from_sorted(&sorted, 4);
        assert_eq!(edges.as_slice(), [25.0, 50.0, 75.0]);
        assert_eq!(edges.bin_of(25.0), 0, "the upper edge belongs to the bin");
        assert_eq!(edges.bin_of(25.1), 1);
        assert_eq!(edges.bin_of(f32::MIN), 0);
        assert_eq!(edges.bin_of(f32::MAX), 3);
    }

    #[test]
    fn ties_merge() {
        let mut sorted = vec![0.0; 600];
        sorted.extend((1..=400u16).map(f32::from));
        let edges = Edges::from_sorted(&sorted, 16);
        edges.validate().unwrap();
        assert_eq!(edges.as_slice()[0], 0.0);
        assert!(edges.bins() < 10, "{edges:?}");
    }

    #[test]
    fn few_values_get_a_bin_each() {
        let edges = Edges::from_sorted(&[1.0, 1.0, 2.0, 4.0], 16);
        assert_eq!(edges.as_slice(), [1.5, 3.0]);
        assert_eq!(Edges::from_sorted(&[7.0, 7.0], 16).bins(), 1);
        let next = f32::from_bits(1.0f32.to_bits() + 1);
        let close = Edges::from_sorted(&[1.0, next], 16);
        assert_ne!(close.bin_of(1.0), close.bin_of(next));
    }
}
