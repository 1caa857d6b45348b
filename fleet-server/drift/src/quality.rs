//! The hard rules: data that is broken, whatever its distribution looks like.
//!
//! They come before any test and need no history, because a stuck or disconnected sensor must be
//! seen in the first window. Each asks for a large and an improbable excess over the baseline.

use crate::Fault;
use drover_sketch::{FeatureBaseline, FeatureCounts};

/// A run this many times the baseline's longest is a stuck sensor...
const RUN_FACTOR: u64 = 5;
/// ...unless it is shorter than this.
const SHORTEST_STUCK_RUN: u64 = 10;
/// Excess of a rate over the baseline's that is worth an alarm: five points.
const RATE_EXCESS: f64 = 0.05;
/// Probability below which the excess is not chance.
const CHANCE: f64 = 1e-6;

pub(crate) fn fault(baseline: &FeatureBaseline, counts: &FeatureCounts) -> Option<Fault> {
    if is_missing(baseline, counts) {
        Some(Fault::Missing)
    } else if is_out_of_range(baseline, counts) {
        Some(Fault::OutOfRange)
    } else if is_stuck(baseline, counts) {
        Some(Fault::Stuck)
    } else {
        None
    }
}

fn is_stuck(baseline: &FeatureBaseline, counts: &FeatureCounts) -> bool {
    // A feature that was constant in training has no natural run length.
    let constant = baseline.min() >= baseline.max();
    let limit = baseline.longest_run().saturating_mul(RUN_FACTOR);
    !constant && counts.longest_run > limit.max(SHORTEST_STUCK_RUN)
}

fn is_missing(baseline: &FeatureBaseline, counts: &FeatureCounts) -> bool {
    let offered = baseline.n_ref().saturating_add(baseline.missing()) as f64;
    let expected = (baseline.missing() as f64 + 0.5) / (offered + 1.0);
    is_excess(counts.missing_rate(), expected, counts.offered() as f64)
}

fn is_out_of_range(baseline: &FeatureBaseline, counts: &FeatureCounts) -> bool {
    // Neighbouring samples leave the range together, so only independent ones count.
    let stride = f64::from(baseline.stride());
    let reference = baseline.n_ref() as f64 / stride;
    // The next of m + 1 exchangeable values lies outside the range of the first m with
    // probability 2 / (m + 1), for any continuous distribution.
    let expected = (2.0 / (reference + 1.0)).min(0.5);
    let present = counts.n.saturating_add(counts.infinite) as f64 / stride;
    is_excess(counts.out_of_range_rate(), expected, present)
}

/// Whether `rate` over `n` trials exceeds `expected` by more than five points and more than
/// chance allows. The tail is bounded by `exp(-n KL(rate || expected))`; source: Hoeffding,
/// "Probability inequalities for sums of bounded random variables" (1963), theorem 1.
fn is_excess(rate: f64, expected: f64, n: f64) -> bool {
    if rate <= expected + RATE_EXCESS {
        return false;
    }
    let part = |share: f64, of: f64| {
        if share > 0.0 {
            share * (share / of).ln()
        } else {
            0.0
        }
    };
    let divergence = part(rate, expected) + part(1.0 - rate, 1.0 - expected);
    (-n * divergence).exp() < CHANCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_sketch::BinSketch;

    fn baseline(values: impl Iterator<Item = f32>) -> FeatureBaseline {
        FeatureBaseline::from_values("x", &values.collect::<Vec<_>>(), 16).unwrap()
    }

    fn scattered() -> impl Iterator<Item = f32> {
        (0..1013u32).map(|i| (i.pow(3) % 1013) as f32)
    }

    fn found(baseline: &FeatureBaseline, values: impl Iterator<Item = f32>) -> Option<Fault> {
        let mut sketch = BinSketch::new(baseline);
        values.for_each(|value| sketch.update(value));
        fault(baseline, sketch.counts())
    }

    #[test]
    fn healthy_data_has_no_fault() {
        let baseline = baseline(scattered());
        assert_eq!(found(&baseline, scattered()), None);
        assert_eq!(found(&baseline, std::iter::empty()), None);
    }

    #[test]
    fn a_stuck_sensor_is_seen_after_a_few_values() {
        let baseline = baseline(scattered());
        let stuck = |n| scattered().chain(std::iter::repeat_n(400.0, n));
        assert_eq!(found(&baseline, stuck(10)), None);
        assert_eq!(found(&baseline, stuck(11)), Some(Fault::Stuck));
    }

    #[test]
    fn long_runs_that_are_normal_are_no_fault() {
        let steps = baseline((0..2000u32).map(|i| (i / 50 % 7) as f32));
        assert_eq!(found(&steps, std::iter::repeat_n(3.0, 250)), None);
        assert_eq!(
            found(&steps, std::iter::repeat_n(3.0, 251)),
            Some(Fault::Stuck)
        );
        let constant = baseline(std::iter::repeat_n(1.0, 50));
        assert_eq!(found(&constant, std::iter::repeat_n(1.0, 5000)), None);
    }

    #[test]
    fn missing_values_count_against_the_baselines_rate() {
        let with_gaps = |every: usize| {
            scattered()
                .enumerate()
                .map(move |(i, v)| if i % every == 0 { f32::NAN } else { v })
        };
        let complete = baseline(scattered());
        assert_eq!(
            found(&complete, with_gaps(30)),
            None,
            "3 % is below five points"
        );
        assert_eq!(found(&complete, with_gaps(10)), Some(Fault::Missing));
        assert_eq!(found(&baseline(with_gaps(10)), with_gaps(9)), None);
        let nothing = std::iter::repeat_n(f32::NAN, 20);
        assert_eq!(found(&complete, nothing), Some(Fault::Missing));
    }

    #[test]
    fn values_outside_the_range_are_a_fault_when_many() {
        let baseline = baseline(scattered());
        let offset = |by: f32| scattered().map(move |v| v + by);
        assert_eq!(
            found(&baseline, offset(40.0)),
            None,
            "4 % is below five points"
        );
        assert_eq!(found(&baseline, offset(100.0)), Some(Fault::OutOfRange));
        let infinite = scattered().map(|v| if v < 100.0 { f32::INFINITY } else { v });
        assert_eq!(found(&baseline, infinite), Some(Fault::OutOfRange));
        let few = [5000.0; 2].into_iter();
        assert_eq!(found(&baseline, few), None, "two values prove nothing");
    }

    #[test]
    fn a_slow_stream_that_leaves_its_range_once_is_no_fault() {
        // A triangle wave of period 400, then one stay of 60 neighbouring values above it:
        // many values, but only one event.
        let wave = |n: u32| (0..n).map(|i| (i % 400).abs_diff(200) as f32);
        let baseline = baseline(wave(4000));
        assert!(baseline.stride() > 100, "{}", baseline.stride());
        let peak = (0..60u8).map(|i| 201.0 + f32::from(i.abs_diff(30)));
        assert_eq!(found(&baseline, wave(400).chain(peak)), None);
        let lifted = wave(4000).map(|v| v + 150.0);
        assert_eq!(found(&baseline, lifted), Some(Fault::OutOfRange));
    }
}
