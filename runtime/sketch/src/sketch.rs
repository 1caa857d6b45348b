//! One feature's live sketch: values stream in, counters come out.
//!
//! `update` costs a binary search over a few edges and allocates nothing. Besides the counters a
//! sketch holds its place in the stream (thinning phase, current run), which survives `reset`
//! and is never merged: a stuck sensor stays visible across period boundaries, and samples on
//! both sides of a boundary keep their distance.

use crate::{Edges, FeatureBaseline, FeatureCounts, SketchError};

/// Counts the values of one feature into the baseline's bins.
#[derive(Debug, Clone)]
pub struct BinSketch {
    edges: Edges,
    baseline_min: f32,
    baseline_max: f32,
    stride: u32,
    counts: FeatureCounts,
    /// Updates to let pass before the next sample is taken.
    skip: u32,
    last: Option<f32>,
    run: u64,
}

impl BinSketch {
    /// An empty sketch on the baseline's edges, range and stride.
    #[must_use]
    pub fn new(baseline: &FeatureBaseline) -> Self {
        Self::with(
            baseline.edges().clone(),
            baseline.min(),
            baseline.max(),
            baseline.stride(),
        )
    }

    pub(crate) fn with(edges: Edges, min: f32, max: f32, stride: u32) -> Self {
        let counts = FeatureCounts::new(edges.bins());
        Self {
            edges,
            baseline_min: min,
            baseline_max: max,
            stride,
            counts,
            skip: 0,
            last: None,
            run: 0,
        }
    }

    /// Takes the next value of the stream. NaN counts as missing; neither NaN nor an infinity
    /// enters bins, moments or runs.
    pub fn update(&mut self, value: f32) {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        if value.is_nan() {
            self.counts.missing = self.counts.missing.saturating_add(1);
            return;
        }
        if value.is_infinite() {
            self.counts.infinite = self.counts.infinite.saturating_add(1);
            return;
        }
        if due {
            if let Some(bin) = self.counts.bins.get_mut(self.edges.bin_of(value)) {
                *bin = bin.saturating_add(1);
            }
            self.skip = self.stride.saturating_sub(1);
        }
        self.range(value);
        self.moments(value);
        self.runs(value);
    }

    /// Adds the counters of a sketch of another stream, or of another part of this one.
    ///
    /// # Errors
    /// `Incompatible` if edges or stride differ; nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), SketchError> {
        if self.edges != other.edges {
            return Err(SketchError::Incompatible { what: "bin edges" });
        }
        if self.stride != other.stride {
            return Err(SketchError::Incompatible {
                what: "thinning stride",
            });
        }
        self.counts.merge(&other.counts)
    }

    /// Starts a new period: counters go to zero, the place in the stream stays.
    pub fn reset(&mut self) {
        self.counts.clear();
    }

    /// The counters of this period.
    #[must_use]
    pub fn counts(&self) -> &FeatureCounts {
        &self.counts
    }

    fn range(&mut self, value: f32) {
        if value < self.baseline_min {
            self.counts.below = self.counts.below.saturating_add(1);
        } else if value > self.baseline_max {
            self.counts.above = self.counts.above.saturating_add(1);
        }
    }

    /// Welford, "Note on a method for calculating corrected sums of squares and products" (1962).
    fn moments(&mut self, value: f32) {
        let counts = &mut self.counts;
        if counts.n == 0 {
            (counts.min, counts.max) = (value, value);
        } else {
            counts.min = counts.min.min(value);
            counts.max = counts.max.max(value);
        }
        counts.n = counts.n.saturating_add(1);
        let delta = f64::from(value) - counts.mean;
        counts.mean += delta / counts.n as f64;
        counts.m2 += delta * (f64::from(value) - counts.mean);
    }

    fn runs(&mut self, value: f32) {
        if self.last == Some(value) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(value);
            self.run = 1;
        }
        self.counts.longest_run = self.counts.longest_run.max(self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(stride: u32) -> BinSketch {
        let sorted: Vec<f32> = (0..=100u8).map(f32::from).collect();
        BinSketch::with(Edges::from_sorted(&sorted, 4), 0.0, 100.0, stride)
    }

    #[test]
    fn every_kind_of_value_is_counted_once() {
        let mut s = sketch(1);
        for v in [10.0, 30.0, 30.0, 30.0, f32::NAN, f32::INFINITY, -1.0, 101.0] {
            s.update(v);
        }
        let c = s.counts();
        assert_eq!(c.bins, [2, 3, 0, 1]);
        assert_eq!(
            (c.n, c.missing, c.infinite, c.below, c.above),
            (6, 1, 1, 1, 1)
        );
        assert_eq!((c.longest_run, c.min, c.max), (3, -1.0, 101.0));
        assert!((c.mean - 200.0 / 6.0).abs() < 1e-12);
        assert_eq!(c.offered(), 8);
    }

    #[test]
    fn thinning_keeps_its_distance_over_gaps_and_resets() {
        let mut s = sketch(3);
        for v in [1.0, 1.0, 1.0, f32::NAN, 60.0, 60.0, 60.0] {
            s.update(v);
        }
        // Taken: index 0; index 3 is missing, so index 4 instead; the next would be index 7.
        assert_eq!(s.counts().bins, [1, 0, 1, 0]);
        s.reset();
        s.update(60.0);
        assert_eq!(s.counts().thinned_n(), 1);
        assert_eq!(s.counts().longest_run, 4, "the run began before the reset");
        s.update(60.0);
        assert_eq!((s.counts().thinned_n(), s.counts().n), (1, 2));
    }

    #[test]
    fn merge_refuses_other_edges_and_strides() {
        let mut s = sketch(1);
        assert!(s.merge(&sketch(2)).is_err());
        let other = BinSketch::with(Edges::from_sorted(&[1.0, 2.0], 4), 1.0, 2.0, 1);
        assert!(s.merge(&other).is_err());
        assert!(s.merge(&sketch(1)).is_ok());
    }
}
