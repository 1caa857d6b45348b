//! The counters of one feature over one period: what is merged and what is sent.
//!
//! Addition is the only operation, so devices, hours and days combine in any order. Integers
//! saturate instead of wrapping, because a hostile profile must not turn a huge count into a
//! small one. Bin edges are not here: they travel once, in the baseline.

use crate::{SketchError, edges::MAX_BINS};
use alloc::{vec, vec::Vec};
use serde::{Deserialize, Serialize};

/// Counters and moments of one feature.
///
/// Moments are kept in f64 and travel as f32; encoding rounds them. `mean`, `m2`, `min` and
/// `max` are 0 while `n` is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureCounts {
    /// Thinned samples per bin.
    pub bins: Vec<u64>,
    /// Finite values, thinned or not.
    pub n: u64,
    /// Missing values (NaN).
    pub missing: u64,
    /// Values of either infinity.
    pub infinite: u64,
    /// Finite values below the baseline's minimum.
    pub below: u64,
    /// Finite values above the baseline's maximum.
    pub above: u64,
    /// Longest run of one unchanged finite value, counted from where it began, even if that was
    /// in an earlier period.
    pub longest_run: u64,
    /// Mean of the finite values, in the feature's unit.
    #[serde(with = "as_f32")]
    pub mean: f64,
    /// Sum of squared deviations from the mean, in the unit squared.
    #[serde(with = "as_f32")]
    pub m2: f64,
    /// Smallest finite value.
    pub min: f32,
    /// Largest finite value.
    pub max: f32,
}

impl FeatureCounts {
    /// Empty counters for `bins` bins.
    #[must_use]
    pub fn new(bins: usize) -> Self {
        Self {
            bins: vec![0; bins],
            n: 0,
            missing: 0,
            infinite: 0,
            below: 0,
            above: 0,
            longest_run: 0,
            mean: 0.0,
            m2: 0.0,
            min: 0.0,
            max: 0.0,
        }
    }

    /// Number of thinned samples: the sum over the bins.
    #[must_use]
    pub fn thinned_n(&self) -> u64 {
        self.bins
            .iter()
            .fold(0, |sum, &bin| sum.saturating_add(bin))
    }

    /// All values offered: finite, missing and infinite.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.n
            .saturating_add(self.missing)
            .saturating_add(self.infinite)
    }

    /// Share of the offered values that were missing; 0 if none were offered.
    #[must_use]
    pub fn missing_rate(&self) -> f64 {
        rate(self.missing, self.offered())
    }

    /// Share of the values present that were infinite or outside the baseline's range; 0 if
    /// none were present.
    #[must_use]
    pub fn out_of_range_rate(&self) -> f64 {
        rate(self.out_of_range(), self.n.saturating_add(self.infinite))
    }

    /// Values that were infinite or outside the baseline's range.
    #[must_use]
    pub fn out_of_range(&self) -> u64 {
        self.below
            .saturating_add(self.above)
            .saturating_add(self.infinite)
    }

    /// Population standard deviation of the finite values; 0 if there are none.
    #[must_use]
    pub fn std(&self) -> f64 {
        if self.n == 0 {
            return 0.0;
        }
        libm::sqrt((self.m2 / self.n as f64).max(0.0))
    }

    /// Adds `other`'s counters.
    ///
    /// Mean and M2 combine by Chan, Golub and LeVeque, "Updating formulae and a pairwise
    /// algorithm for computing sample variances" (1979), equation 2.1.
    ///
    /// # Errors
    /// `Incompatible` if the two have different numbers of bins; nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), SketchError> {
        if self.bins.len() != other.bins.len() {
            return Err(SketchError::Incompatible {
                what: "number of bins",
            });
        }
        for (mine, theirs) in self.bins.iter_mut().zip(&other.bins) {
            *mine = mine.saturating_add(*theirs);
        }
        if other.n > 0 {
            if self.n == 0 {
                (self.mean, self.m2) = (other.mean, other.m2);
                (self.min, self.max) = (other.min, other.max);
            } else {
                let (n, m) = (self.n as f64, other.n as f64);
                let delta = other.mean - self.mean;
                // Both lines are symmetric in their rounding: a + b and b + a are the same bits.
                self.mean = (self.mean * n + other.mean * m) / (n + m);
                self.m2 = (self.m2 + other.m2) + delta * delta * (n * m / (n + m));
                self.min = self.min.min(other.min);
                self.max = self.max.max(other.max);
            }
        }
        self.n = self.n.saturating_add(other.n);
        self.missing = self.missing.saturating_add(other.missing);
        self.infinite = self.infinite.saturating_add(other.infinite);
        self.below = self.below.saturating_add(other.below);
        self.above = self.above.saturating_add(other.above);
        self.longest_run = self.longest_run.max(other.longest_run);
        Ok(())
    }

    /// Sets every counter to zero and keeps the allocation.
    pub(crate) fn clear(&mut self) {
        self.bins.fill(0);
        let bins = core::mem::take(&mut self.bins);
        *self = Self {
            bins,
            ..Self::new(0)
        };
    }

    pub(crate) fn validate(&self) -> Result<(), SketchError> {
        let refuse = |what| Err(SketchError::Malformed { what });
        if self.bins.is_empty() || self.bins.len() > MAX_BINS {
            return refuse("a feature without bins or with more than allowed");
        }
        if self.thinned_n() > self.n {
            return refuse("more samples in the bins than values counted");
        }
        if self.below.saturating_add(self.above) > self.n {
            return refuse("more values out of range than values counted");
        }
        if !(self.mean.is_finite() && self.min.is_finite() && self.max.is_finite()) {
            return refuse("a moment is not finite");
        }
        if !(self.m2.is_finite() && self.m2 >= 0.0) {
            return refuse("the sum of squared deviations is negative or not finite");
        }
        if self.min > self.max {
            return refuse("the minimum is above the maximum");
        }
        if self.n == 0 && (self.mean, self.m2, self.min, self.max) != (0.0, 0.0, 0.0, 0.0) {
            return refuse("moments without values");
        }
        Ok(())
    }
}

fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Moments travel in half the bytes; what f32 cannot hold saturates instead of becoming infinite,
/// which the decoder would refuse.
mod as_f32 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        let limit = f64::from(f32::MAX);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding is what this function is for"
        )]
        let rounded = value.clamp(-limit, limit) as f32;
        serializer.serialize_f32(rounded)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        f32::deserialize(deserializer).map(f64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_refuses_other_bins_and_changes_nothing() {
        let mut a = FeatureCounts::new(3);
        a.n = 5;
        let before = a.clone();
        assert!(matches!(
            a.merge(&FeatureCounts::new(4)),
            Err(SketchError::Incompatible { .. })
        ));
        assert_eq!(a, before);
    }

    #[test]
    fn counters_saturate() {
        let mut a = FeatureCounts::new(1);
        a.bins[0] = u64::MAX;
        a.n = u64::MAX;
        let b = a.clone();
        a.merge(&b).unwrap();
        assert_eq!(
            (a.bins[0], a.n, a.thinned_n()),
            (u64::MAX, u64::MAX, u64::MAX)
        );
    }

    #[test]
    fn rates_of_nothing_are_zero() {
        let empty = FeatureCounts::new(2);
        assert_eq!(empty.missing_rate(), 0.0);
        assert_eq!(empty.out_of_range_rate(), 0.0);
        assert_eq!(empty.std(), 0.0);
    }
}
