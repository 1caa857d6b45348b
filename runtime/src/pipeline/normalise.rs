//! From sensor units to what the model was trained on.
//!
//! Statistics are kept and applied in double precision: a sensor with a large offset and a
//! small deviation would lose its signal in single precision.

use drover_bundle::Normalisation;

use super::error::PipelineError;

/// How each value of a row is normalised.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Normaliser {
    Identity,
    /// `(x - mean) / divisor`, clipped.
    Affine {
        /// Mean and divisor of each channel.
        channels: Vec<(f64, f64)>,
        clip: f64,
    },
}

impl Normaliser {
    /// Makes every value missing.
    pub(super) fn unknown(channels: usize) -> Self {
        Self::Affine {
            channels: vec![(f64::NAN, 1.0); channels],
            clip: 1.0,
        }
    }

    /// Appends the normalised row and says whether all of it is finite.
    pub(super) fn apply(&self, row: &[f32], out: &mut Vec<f32>) -> bool {
        let start = out.len();
        match self {
            Self::Identity => out.extend_from_slice(row),
            Self::Affine { channels, clip } => {
                out.extend(row.iter().zip(channels).map(|(&x, &(mean, divisor))| {
                    // A raw infinity is a missing value, not one at the clip.
                    let x = if x.is_finite() {
                        f64::from(x)
                    } else {
                        f64::NAN
                    };
                    ((x - mean) / divisor).clamp(-clip, *clip) as f32
                }));
            }
        }
        out.iter().skip(start).all(|v| v.is_finite())
    }
}

/// How a stream begins.
#[derive(Clone, Debug)]
pub(super) enum Start {
    Fixed(Normaliser),
    Calibrate(CalibrationRule),
}

/// A `CalibratedZScore` of a manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct CalibrationRule {
    rows: usize,
    epsilon: f64,
    clip: f64,
}

impl Start {
    pub(super) fn new(rule: &Normalisation, channels: usize) -> Result<Self, PipelineError> {
        let refuse = |why| Err(PipelineError::Normalisation(why));
        let bound = match rule {
            Normalisation::None => return Ok(Self::Fixed(Normaliser::Identity)),
            Normalisation::ZScore { clip, .. } | Normalisation::CalibratedZScore { clip, .. } => {
                f64::from(*clip)
            }
        };
        if bound.is_nan() || bound <= 0.0 {
            return refuse("a clip above zero");
        }
        match rule {
            Normalisation::None => Ok(Self::Fixed(Normaliser::Identity)),
            Normalisation::ZScore { mean, std, .. } => {
                if mean.len() != channels || std.len() != channels {
                    return refuse("one mean and one deviation per channel");
                }
                let pairs = mean.iter().zip(std);
                Ok(Self::Fixed(Normaliser::Affine {
                    channels: pairs.map(|(&m, &s)| (m.into(), s.into())).collect(),
                    clip: bound,
                }))
            }
            Normalisation::CalibratedZScore { rows, epsilon, .. } => {
                Ok(Self::Calibrate(CalibrationRule {
                    rows: *rows as usize,
                    epsilon: f64::from(*epsilon),
                    clip: bound,
                }))
            }
        }
    }

    /// Bytes of rows that are held back at most.
    pub(super) fn held_bytes(&self, channels: usize) -> u64 {
        match self {
            Self::Fixed(_) => 0,
            Self::Calibrate(rule) => rule.rows as u64 * channels as u64 * 4,
        }
    }
}

/// The first rows of a stream, held back until there are enough.
#[derive(Clone, Debug)]
pub(super) struct Calibration {
    rule: CalibrationRule,
    rows: Vec<f32>,
    taken: usize,
}

impl Calibration {
    pub(super) fn new(rule: CalibrationRule) -> Self {
        Self {
            rule,
            rows: Vec::new(),
            taken: 0,
        }
    }

    pub(super) fn push(&mut self, row: &[f32]) {
        self.rows.extend_from_slice(row);
        self.taken += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken >= self.rule.rows
    }

    /// The rows in order, one after the other.
    pub(super) fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Mean and population deviation of each channel over the values that are there; none
    /// when a channel has fewer than two.
    pub(super) fn normaliser(&self, channels: usize) -> Option<Normaliser> {
        let mut moments = Vec::with_capacity(channels);
        for channel in 0..channels {
            let values = || {
                let column = self.rows.iter().skip(channel).step_by(channels);
                column.filter(|v| v.is_finite()).map(|&v| f64::from(v))
            };
            let n = values().count();
            if n < 2 {
                return None;
            }
            let mean = values().sum::<f64>() / n as f64;
            let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
            moments.push((mean, variance.sqrt() + self.rule.epsilon));
        }
        Some(Normaliser::Affine {
            channels: moments,
            clip: self.rule.clip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(normaliser: &Normaliser, row: &[f32]) -> (Vec<f32>, bool) {
        let mut out = Vec::new();
        let finite = normaliser.apply(row, &mut out);
        (out, finite)
    }

    #[test]
    fn z_scores_are_clipped() {
        let rule = Normalisation::ZScore {
            mean: vec![10.0, -1.0],
            std: vec![2.0, 0.5],
            clip: 3.0,
        };
        let Start::Fixed(normaliser) = Start::new(&rule, 2).unwrap() else {
            panic!("a fixed z-score calibrates nothing");
        };
        // (13 - 10) / 2 and (-1.25 + 1) / 0.5.
        assert_eq!(apply(&normaliser, &[13.0, -1.25]), (vec![1.5, -0.5], true));
        assert_eq!(
            apply(&normaliser, &[100.0, -100.0]),
            (vec![3.0, -3.0], true)
        );
        assert!(!apply(&normaliser, &[f32::INFINITY, 0.0]).1);
        assert!(!apply(&normaliser, &[0.0, f32::NAN]).1);
        assert!(Start::new(&rule, 3).is_err());
    }

    #[test]
    fn calibration_takes_population_moments_of_what_is_there() {
        let rule = CalibrationRule {
            rows: 4,
            epsilon: 0.5,
            clip: 8.0,
        };
        let mut calibration = Calibration::new(rule);
        for row in [[2.0, 5.0], [4.0, 5.0], [f32::NAN, 5.0], [6.0, 5.0]] {
            assert!(!calibration.is_full());
            calibration.push(&row);
        }
        assert!(calibration.is_full());
        let normaliser = calibration.normaliser(2).unwrap();
        // Mean 4, variance (4 + 0 + 4) / 3; the second channel never moved.
        let (out, _) = apply(&normaliser, &[8.0, 5.25]);
        let deviation = (8.0f64 / 3.0).sqrt() + 0.5;
        assert_eq!(out, [(4.0 / deviation) as f32, 0.5]);
    }

    #[test]
    fn a_channel_that_is_missing_throughout_gives_no_calibration() {
        let mut calibration = Calibration::new(CalibrationRule {
            rows: 2,
            epsilon: 1.0,
            clip: 8.0,
        });
        calibration.push(&[1.0, f32::NAN]);
        calibration.push(&[2.0, 3.0]);
        assert_eq!(calibration.normaliser(2), None);
        assert!(!apply(&Normaliser::unknown(2), &[1.0, 1.0]).1);
    }
}
