//! From a model's output to one number per window.
//!
//! Sums run in double precision, so that a score does not depend on the order in which a
//! compiler adds.

use drover_bundle::{Quantisation, Scoring, Tensor};

use super::quantise;

/// A manifest's scoring, with a buffer for the output's real values.
pub(super) struct Scorer {
    kind: Kind,
    quantisation: Option<Quantisation>,
    real: Vec<f32>,
}

enum Kind {
    First,
    ReconstructionMse,
    Classification { probabilities: bool },
}

/// Score of one window, and its class where there are classes.
#[derive(Debug, PartialEq)]
pub(super) struct Score {
    pub(super) value: f32,
    pub(super) class: Option<u32>,
}

impl Scorer {
    pub(super) fn new(scoring: &Scoring, quantisation: Option<Quantisation>) -> Self {
        let kind = match *scoring {
            Scoring::First => Kind::First,
            Scoring::ReconstructionMse => Kind::ReconstructionMse,
            Scoring::Classification { probabilities, .. } => Kind::Classification { probabilities },
        };
        Self {
            kind,
            quantisation,
            real: Vec::new(),
        }
    }

    /// A score is NaN where the output does not have one, for example because it is NaN
    /// itself.
    pub(super) fn score(&mut self, output: &Tensor, normalised: &[f32]) -> Score {
        quantise::read(output, self.quantisation, &mut self.real);
        match self.kind {
            Kind::First => plain(self.real.first().copied().unwrap_or(f32::NAN)),
            Kind::ReconstructionMse => plain(mse(normalised, &self.real)),
            Kind::Classification { probabilities } => classify(&self.real, probabilities),
        }
    }
}

fn plain(value: f32) -> Score {
    Score { value, class: None }
}

fn mse(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::NAN;
    }
    let squares = a.iter().zip(b).map(|(&x, &y)| {
        let difference = f64::from(x) - f64::from(y);
        difference * difference
    });
    (squares.sum::<f64>() / a.len() as f64) as f32
}

fn classify(values: &[f32], probabilities: bool) -> Score {
    let mut best: Option<(usize, f32)> = None;
    for (index, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return plain(f32::NAN);
        }
        // Of equal values the first wins.
        if best.is_none_or(|(_, highest)| value > highest) {
            best = Some((index, value));
        }
    }
    let Some((index, highest)) = best else {
        return plain(f32::NAN);
    };
    let value = if probabilities {
        highest
    } else {
        let share = |&v: &f32| (f64::from(v) - f64::from(highest)).exp();
        (1.0 / values.iter().map(share).sum::<f64>()) as f32
    };
    Score {
        value,
        class: u32::try_from(index).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconstruction_is_the_mean_of_squares() {
        // 0.5^2, 0, 2^2 over 3.
        assert_eq!(mse(&[1.0, 2.0, 3.0], &[0.5, 2.0, 5.0]), (4.25 / 3.0) as f32);
        assert!(mse(&[1.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn classes_score_their_share_of_the_softmax() {
        let third = classify(&[0.0, 3.0f32.ln(), 0.0], false);
        assert_eq!(third.class, Some(1));
        assert!(
            (third.value - 0.6).abs() < 1e-6,
            "3 of 5, got {}",
            third.value
        );
        let given = classify(&[0.25, 0.25, 0.5], true);
        assert_eq!(
            given,
            Score {
                value: 0.5,
                class: Some(2)
            }
        );
        assert_eq!(classify(&[0.5, 0.5], true).class, Some(0));
        assert!(classify(&[0.5, f32::NAN], true).value.is_nan());
    }
}
