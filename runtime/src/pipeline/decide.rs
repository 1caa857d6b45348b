//! From scores to verdicts: a median against jitter, and a threshold that is fixed or
//! calibrated on the stream.

use std::collections::VecDeque;

use drover_bundle::Decision;

use super::outcome::{Outcome, Verdict};

/// Decides the windows of one stream.
pub(super) struct Decider {
    rule: Decision,
    /// The last scores, the newest at the end.
    recent: VecDeque<f32>,
    sorted: Vec<f32>,
    /// Scores that the threshold will be calibrated on.
    scores: Vec<f32>,
    /// Windows that calibrated, those without a finite score included.
    taken: u64,
    threshold: Threshold,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Threshold {
    /// Not yet calibrated.
    Open,
    Set(f32),
    /// There is none: none is asked for, or the stream ended too early.
    Never,
}

/// What happens to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It waits for the threshold.
    Hold,
    /// It is decided, with all that wait.
    Release,
}

impl Decider {
    pub(super) fn new(rule: &Decision) -> Self {
        let mut decider = Self {
            rule: rule.clone(),
            recent: VecDeque::new(),
            sorted: Vec::new(),
            scores: Vec::new(),
            taken: 0,
            threshold: Threshold::Never,
        };
        decider.clear();
        decider
    }

    /// Begins a stream.
    pub(super) fn clear(&mut self) {
        self.recent.clear();
        self.scores.clear();
        self.taken = 0;
        self.threshold = match self.rule {
            Decision::None => Threshold::Never,
            Decision::Threshold { threshold, .. } => Threshold::Set(threshold),
            Decision::CalibratedQuantile { .. } => Threshold::Open,
        };
    }

    /// Decides nothing more of this stream.
    pub(super) fn give_up(&mut self) {
        self.threshold = Threshold::Never;
    }

    /// Windows that are held back at most.
    pub(super) fn held_windows(&self) -> u64 {
        match self.rule {
            Decision::CalibratedQuantile { windows, .. } => windows.into(),
            _ => 0,
        }
    }

    /// Takes the next score and gives the smoothed one.
    pub(super) fn push(&mut self, score: f32) -> (f32, Step) {
        let smoothed = self.smooth(score);
        if self.threshold != Threshold::Open {
            return (smoothed, Step::Release);
        }
        let Decision::CalibratedQuantile {
            windows,
            quantile,
            factor,
            ..
        } = self.rule
        else {
            return (smoothed, Step::Release);
        };
        self.taken += 1;
        if score.is_finite() {
            self.scores.push(score);
        }
        if self.taken < u64::from(windows) {
            return (smoothed, Step::Hold);
        }
        self.taken = 0;
        let mut scores = std::mem::take(&mut self.scores);
        // With no finite score among them the windows go undecided, and the next calibrate.
        if scores.len() >= 2 {
            let threshold = f64::from(factor) * quantile_of(&mut scores, quantile.into());
            self.threshold = Threshold::Set(threshold as f32);
        }
        (smoothed, Step::Release)
    }

    /// Writes verdict and threshold into a window that was released.
    pub(super) fn decide(&self, outcome: &mut Outcome) {
        if let Threshold::Set(threshold) = self.threshold
            && outcome.smoothed.is_finite()
        {
            outcome.threshold = Some(threshold);
            outcome.verdict = if outcome.smoothed > threshold {
                Verdict::Anomalous
            } else {
                Verdict::Normal
            };
        }
    }

    fn smooth(&mut self, score: f32) -> f32 {
        let median_of = match self.rule {
            Decision::None => 1,
            Decision::Threshold { median_of, .. }
            | Decision::CalibratedQuantile { median_of, .. } => median_of.max(1) as usize,
        };
        if median_of == 1 || !score.is_finite() {
            return score;
        }
        if self.recent.len() == median_of {
            self.recent.pop_front();
        }
        self.recent.push_back(score);
        self.sorted.clear();
        self.sorted.extend(&self.recent);
        median(&mut self.sorted)
    }
}

/// Of an even number of values, the mean of the middle two.
fn median(values: &mut [f32]) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let upper = values.len() / 2;
    match (values.get(upper), values.get(upper.wrapping_sub(1))) {
        (Some(&high), Some(&low)) if values.len().is_multiple_of(2) => (low + high) / 2.0,
        (Some(&middle), _) => middle,
        (None, _) => f32::NAN,
    }
}

/// Linear interpolation between the values around position `quantile * (n - 1)`.
fn quantile_of(values: &mut [f32], quantile: f64) -> f64 {
    values.sort_unstable_by(f32::total_cmp);
    let last = values.len().saturating_sub(1);
    let position = quantile.clamp(0.0, 1.0) * last as f64;
    let below = (position as usize).min(last);
    let at = |index: usize| values.get(index).map_or(f64::NAN, |&v| f64::from(v));
    let (low, high) = (at(below), at((below + 1).min(last)));
    low + (high - low) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_grow_into_their_window() {
        let mut decider = Decider::new(&Decision::Threshold {
            threshold: 1.0,
            median_of: 3,
        });
        let smoothed: Vec<f32> = [4.0, 2.0, 9.0, f32::NAN, 1.0, 1.0]
            .into_iter()
            .map(|score| decider.push(score).0)
            .collect();
        assert_eq!(smoothed[..3], [4.0, 3.0, 4.0]);
        assert!(smoothed[3].is_nan());
        // The NaN left no trace: 2, 9, 1 and 9, 1, 1.
        assert_eq!(smoothed[4..], [2.0, 1.0]);
    }

    #[test]
    fn quantiles_interpolate() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile_of(&mut values, 0.0), 1.0);
        assert_eq!(quantile_of(&mut values, 0.5), 2.5);
        // Position 0.9 * 3 = 2.7.
        assert!((quantile_of(&mut values, 0.9) - 3.7).abs() < 1e-12);
        assert_eq!(quantile_of(&mut values, 1.0), 4.0);
    }

    #[test]
    fn the_last_calibrating_score_sets_the_threshold() {
        let mut decider = Decider::new(&Decision::CalibratedQuantile {
            windows: 3,
            quantile: 0.5,
            factor: 2.0,
            median_of: 1,
        });
        assert_eq!(decider.push(1.0).1, Step::Hold);
        assert_eq!(decider.push(5.0).1, Step::Hold);
        assert_eq!(decider.push(2.0).1, Step::Release);
        assert_eq!(decider.threshold, Threshold::Set(4.0));
        decider.clear();
        assert_eq!(decider.threshold, Threshold::Open);
    }

    #[test]
    fn scores_that_are_not_finite_never_hold_a_stream_for_ever() {
        let mut decider = Decider::new(&Decision::CalibratedQuantile {
            windows: 2,
            quantile: 0.5,
            factor: 1.0,
            median_of: 1,
        });
        assert_eq!(decider.push(f32::NAN).1, Step::Hold);
        assert_eq!(decider.push(f32::NAN).1, Step::Release);
        assert_eq!(decider.threshold, Threshold::Open);
        assert_eq!(decider.push(1.0).1, Step::Hold);
    }
}
