//! How far outputs lie from their reference, and whether that is within a bound.

use drover_bundle::Tensor;
use drover_bundle::spec::Bound;
use serde::Serialize;

use super::CompileError;
use super::step::Step;

/// Largest range share that exact numerics may lose where no quantiser is in the model: what
/// another order of additions makes of `f32`.
const FLOAT: Bound = Bound::Range(1e-4);
/// The same where quantisers set their scale as they run: five of 255 steps, because a scale
/// that moves with one element moves all others of its tensor.
const RUNNING: Bound = Bound::Range(0.02);
/// Float numerics drop the rounding of every quantiser, so that only a broken model is refused
/// where nobody says what is acceptable.
const ROUGH: Bound = Bound::Range(0.1);

/// How far outputs lie from their reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Largest of any element, in the output's unit.
    pub max_abs: f32,
    /// Mean of all elements.
    pub mean_abs: f32,
    /// Largest minus least reference output.
    pub range: f32,
    /// [`Self::max_abs`] over [`Self::range`].
    pub max_of_range: f32,
    /// What one step of the last quantiser is worth in the output.
    pub step: Option<f32>,
    /// [`Self::max_abs`] in steps.
    pub max_steps: Option<f32>,
    /// [`Self::mean_abs`] in steps.
    pub mean_steps: Option<f32>,
    /// Share of the cases whose largest element is the reference's, 0 to 1.
    pub argmax: f32,
}

/// Share of the cases whose largest element is the label, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Of the reference.
    pub reference: f32,
    /// Of the compiled model.
    pub compiled: f32,
}

impl Difference {
    /// Compares output by output; both have the same numbers of elements.
    pub(super) fn new(wanted: &[Tensor], got: &[Tensor], step: Step) -> Self {
        let (mut max, mut sum, mut count, mut same) = (0.0f64, 0.0f64, 0usize, 0usize);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for (wanted, got) in wanted.iter().zip(got) {
            let (wanted, got) = (wanted.to_f32(), got.to_f32());
            for (&w, &g) in wanted.iter().zip(&got) {
                let off = distance(w, g);
                max = max.max(off);
                sum += off;
                count += 1;
                low = low.min(f64::from(w));
                high = high.max(f64::from(w));
            }
            same += usize::from(argmax(&wanted) == argmax(&got));
        }
        let range = (high - low).max(0.0);
        let mean = sum / count.max(1) as f64;
        let step = match step {
            Step::Size(step) => Some(step),
            Step::None | Step::Running => None,
        };
        let steps = |value: f64| step.map(|s| (value / f64::from(s)) as f32);
        Self {
            max_abs: max as f32,
            mean_abs: mean as f32,
            range: range as f32,
            max_of_range: (max / range.max(f64::from(f32::MIN_POSITIVE))) as f32,
            step,
            max_steps: steps(max),
            mean_steps: steps(mean),
            argmax: same as f32 / wanted.len().max(1) as f32,
        }
    }
}

/// Of two elements that are equal, or both no number, 0; of one that is no number, endless.
fn distance(a: f32, b: f32) -> f64 {
    if a == b || a.is_nan() && b.is_nan() {
        return 0.0;
    }
    let off = (f64::from(a) - f64::from(b)).abs();
    if off.is_nan() { f64::INFINITY } else { off }
}

/// The place of the largest element, the first of several.
fn argmax(values: &[f32]) -> Option<usize> {
    let places = values.iter().enumerate();
    let largest = places.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    largest.map(|(place, _)| place)
}

impl Accuracy {
    /// Of outputs whose largest element is the answer.
    pub(super) fn new(wanted: &[Tensor], got: &[Tensor], labels: &[usize]) -> Self {
        let share = |outputs: &[Tensor]| {
            let right = outputs.iter().zip(labels);
            let right = right.filter(|(o, label)| argmax(&o.to_f32()) == Some(**label));
            right.count() as f32 / labels.len().max(1) as f32
        };
        Self {
            reference: share(wanted),
            compiled: share(got),
        }
    }

    /// Percentage points lost, negative when there are more right answers than before.
    pub fn lost_points(&self) -> f32 {
        (self.reference - self.compiled) * 100.0
    }
}

/// What holds when nobody names a bound; `steps` is what exact numerics of a model with
/// quantisers may be off.
pub(super) fn default_bound(exact: bool, step: Step, steps: f32) -> Bound {
    match (exact, step) {
        (false, Step::Size(_) | Step::Running) => ROUGH,
        (_, Step::None) => FLOAT,
        (true, Step::Size(_)) => Bound::Steps(steps),
        (true, Step::Running) => RUNNING,
    }
}

/// Holds `bound` against what was measured; gives the figure when it is over the bound.
pub(super) fn lost(
    bound: Bound,
    difference: &Difference,
    accuracy: Option<Accuracy>,
) -> Result<Option<String>, CompileError> {
    let cannot = |why| CompileError::Bound {
        bound: bound.to_string(),
        why,
    };
    // Written so that what is no number is over the bound.
    let (within, figure) = match bound {
        Bound::Steps(most) => {
            let steps = difference.max_steps.ok_or_else(|| {
                cannot("its output has no last quantiser of a fixed step; use range=…")
            })?;
            (steps <= most, format!("{steps:.3} output steps"))
        }
        Bound::Range(most) => {
            let share = difference.max_of_range;
            (share <= most, format!("{share:.6} of the output's range"))
        }
        Bound::Accuracy(most) => {
            let accuracy = accuracy.ok_or_else(|| cannot("there are no labels; give --labels"))?;
            let lost = accuracy.lost_points();
            (lost <= most, format!("{lost:.3} points of accuracy"))
        }
        Bound::Argmax(least) => {
            let share = difference.argmax;
            let figure = format!("{share:.4} of the cases keep their largest element");
            (share >= least, figure)
        }
    };
    Ok((!within).then_some(figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[f32; 2]]) -> Vec<Tensor> {
        let row = |r: &[f32; 2]| Tensor::from_f32(vec![1, 2], r).unwrap();
        rows.iter().map(row).collect()
    }

    #[test]
    fn differences_are_counted_in_every_unit() {
        let wanted = rows(&[[0.0, 1.0], [4.0, 2.0]]);
        let got = rows(&[[0.0, 1.5], [2.0, 2.5]]);
        let found = Difference::new(&wanted, &got, Step::Size(0.5));
        assert_eq!(
            (found.max_abs, found.mean_abs, found.range),
            (2.0, 0.75, 4.0)
        );
        assert_eq!((found.max_steps, found.mean_steps), (Some(4.0), Some(1.5)));
        assert_eq!((found.max_of_range, found.argmax), (0.5, 0.5));
        let accuracy = Accuracy::new(&wanted, &got, &[1, 0]);
        assert_eq!(accuracy.lost_points(), 50.0);

        let over = |bound| lost(bound, &found, Some(accuracy)).unwrap();
        assert_eq!(over(Bound::Steps(4.0)), None);
        assert_eq!(over(Bound::Steps(3.0)).unwrap(), "4.000 output steps");
        assert!(over(Bound::Range(0.4)).unwrap().contains("0.500000 of"));
        assert!(over(Bound::Argmax(0.6)).is_some() && over(Bound::Argmax(0.5)).is_none());
        assert!(
            over(Bound::Accuracy(49.0))
                .unwrap()
                .contains("50.000 points")
        );
        assert!(lost(Bound::Accuracy(1.0), &found, None).is_err());
    }

    #[test]
    fn what_is_no_number_is_never_within_a_bound() {
        let found = Difference::new(&rows(&[[0.0, 1.0]]), &rows(&[[0.0, f32::NAN]]), Step::None);
        assert_eq!(found.max_abs, f32::INFINITY);
        assert!(lost(Bound::Range(1e30), &found, None).unwrap().is_some());
        assert!(lost(Bound::Steps(1.0), &found, None).is_err());
    }
}
