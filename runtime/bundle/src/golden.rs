//! Golden vectors: signed inputs and the outputs that a right engine gives for them.
//!
//! They travel inside the bundle. Every device runs them after each load, on its own CPU,
//! and refuses the model when an output lies outside the manifest's tolerance.

use serde::{Deserialize, Serialize};

use crate::manifest::Tolerance;
use crate::tensor::{DType, Tensor};

/// Format version of the encoded form.
pub const VERSION: u8 = 1;
/// Golden files larger than this are refused before they are parsed, in bytes.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// One input with its expected output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenCase {
    /// As the model's input takes it, the batch axis of 1 included.
    pub input: Tensor,
    /// As the reference gave it.
    pub output: Tensor,
}

/// All golden cases of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenVectors {
    /// At least one.
    pub cases: Vec<GoldenCase>,
}

/// Why bytes are not golden vectors, or why outputs do not match them.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// Longer than [`MAX_BYTES`].
    #[error("golden vectors of {0} bytes are over the limit of {MAX_BYTES}")]
    TooLarge(usize),
    /// Written by an unknown version.
    #[error("golden vector format {0} is unknown, this build reads format {VERSION}")]
    Version(u8),
    /// Not postcard of golden vectors.
    #[error("golden vectors do not parse")]
    Parse(#[source] postcard::Error),
    /// No case, bytes left over, or a tensor whose bytes do not fit its shape.
    #[error("golden vectors are inconsistent: {0}")]
    Inconsistent(&'static str),
    /// An output differs in dtype or number of elements.
    #[error("golden case {case}: the model gives {got_dtype} x {got}, expected {dtype} x {wanted}")]
    Form {
        /// Which case, from 0.
        case: usize,
        /// Element type expected.
        dtype: DType,
        /// Elements expected.
        wanted: usize,
        /// Element type there is.
        got_dtype: DType,
        /// Elements there are.
        got: usize,
    },
    /// An output lies outside the tolerance.
    #[error("golden case {case}: element {element} is {got}, expected {wanted} within {bound}")]
    Mismatch {
        /// Which case, from 0.
        case: usize,
        /// Which element of the flattened output.
        element: usize,
        /// What the model gave.
        got: f32,
        /// What the reference gave.
        wanted: f32,
        /// Largest difference allowed.
        bound: f32,
    },
    /// Too many cases put another element first than the reference does.
    #[error("the largest output is another one than expected in {differ} of {cases} golden cases")]
    Argmax {
        /// Cases that differ.
        differ: usize,
        /// All cases.
        cases: usize,
    },
}

impl GoldenVectors {
    /// Bytes of the bundle's golden file.
    ///
    /// # Errors
    /// [`GoldenError::TooLarge`] or [`GoldenError::Inconsistent`] when [`Self::decode`]
    /// would refuse the result.
    pub fn encode(&self) -> Result<Vec<u8>, GoldenError> {
        self.check()?;
        let bytes = postcard::to_extend(self, vec![VERSION]).map_err(GoldenError::Parse)?;
        if bytes.len() > MAX_BYTES {
            return Err(GoldenError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// Parses a golden file.
    ///
    /// # Errors
    /// Any of the parsing errors of [`GoldenError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GoldenError> {
        if bytes.len() > MAX_BYTES {
            return Err(GoldenError::TooLarge(bytes.len()));
        }
        let (&version, body) = bytes.split_first().ok_or(GoldenError::Version(0))?;
        if version != VERSION {
            return Err(GoldenError::Version(version));
        }
        let (vectors, rest) =
            postcard::take_from_bytes::<Self>(body).map_err(GoldenError::Parse)?;
        if !rest.is_empty() {
            return Err(GoldenError::Inconsistent("bytes follow the last case"));
        }
        vectors.check()?;
        Ok(vectors)
    }

    fn check(&self) -> Result<(), GoldenError> {
        if self.cases.is_empty() {
            return Err(GoldenError::Inconsistent("no case"));
        }
        let whole = |t: &Tensor| t.is_consistent() && !t.is_empty();
        if !self
            .cases
            .iter()
            .all(|c| whole(&c.input) && whole(&c.output))
        {
            return Err(GoldenError::Inconsistent("bytes do not fit a shape"));
        }
        Ok(())
    }

    /// Compares what a model gave for every case with what it should have given.
    ///
    /// Range fractions refer to the range of all expected outputs together. With
    /// `classifier`, the largest element must also be the expected one in at least 93 % of
    /// the cases, which catches outputs that are near in value but wrong in meaning.
    ///
    /// # Errors
    /// [`GoldenError::Form`], [`GoldenError::Mismatch`] or [`GoldenError::Argmax`] for the
    /// first difference found.
    pub fn compare(
        &self,
        outputs: &[Tensor],
        tolerance: Tolerance,
        classifier: bool,
    ) -> Result<(), GoldenError> {
        if outputs.len() != self.cases.len() {
            return Err(GoldenError::Inconsistent("one output per case"));
        }
        let bound = match tolerance {
            Tolerance::Steps(steps) => steps as f32,
            Tolerance::RangeFraction(fraction) => fraction * self.range(),
        };
        let mut differ = 0;
        for (case, (golden, got)) in self.cases.iter().zip(outputs).enumerate() {
            let wanted = &golden.output;
            if wanted.dtype() != got.dtype() || wanted.len() != got.len() {
                return Err(GoldenError::Form {
                    case,
                    dtype: wanted.dtype(),
                    wanted: wanted.len(),
                    got_dtype: got.dtype(),
                    got: got.len(),
                });
            }
            let (wanted, got) = (wanted.to_f32(), got.to_f32());
            for (element, (&w, &g)) in wanted.iter().zip(&got).enumerate() {
                // Written so that a NaN fails.
                let near = (w - g).abs() <= bound;
                if !near {
                    return Err(GoldenError::Mismatch {
                        case,
                        element,
                        got: g,
                        wanted: w,
                        bound,
                    });
                }
            }
            differ += usize::from(argmax(&wanted) != argmax(&got));
        }
        let cases = self.cases.len();
        if classifier && differ * 100 > cases * 7 {
            return Err(GoldenError::Argmax { differ, cases });
        }
        Ok(())
    }

    fn range(&self) -> f32 {
        let values = self.cases.iter().flat_map(|c| c.output.to_f32());
        let (low, high) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        (high - low).max(f32::MIN_POSITIVE)
    }
}

fn argmax(values: &[f32]) -> Option<usize> {
    let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(outputs: &[[f32; 2]]) -> GoldenVectors {
        let tensor = |v: &[f32]| Tensor::from_f32(vec![1, 2], v).unwrap();
        GoldenVectors {
            cases: outputs
                .iter()
                .map(|o| GoldenCase {
                    input: tensor(&[0.0, 1.0]),
                    output: tensor(o),
                })
                .collect(),
        }
    }

    fn outputs(values: &[[f32; 2]]) -> Vec<Tensor> {
        values
            .iter()
            .map(|v| Tensor::from_f32(vec![1, 2], v).unwrap())
            .collect()
    }

    #[test]
    fn decode_is_the_inverse_of_encode() {
        let golden = vectors(&[[0.0, 1.0], [1.0, 0.0]]);
        let bytes = golden.encode().unwrap();
        assert_eq!(GoldenVectors::decode(&bytes).unwrap(), golden);
        assert!(GoldenVectors::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(GoldenVectors::decode(&[VERSION, 0]).is_err(), "no case");
    }

    #[test]
    fn outputs_outside_the_tolerance_are_refused() {
        let golden = vectors(&[[0.0, 1.0], [1.0, 0.0]]);
        let tolerance = Tolerance::RangeFraction(0.06);
        let near = outputs(&[[0.05, 0.95], [1.0, 0.0]]);
        golden.compare(&near, tolerance, true).unwrap();
        let far = outputs(&[[0.0, 1.0], [0.9, 0.0]]);
        let message = golden
            .compare(&far, tolerance, true)
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("golden case 1: element 0 is 0.9"),
            "{message}"
        );
        let nan = outputs(&[[f32::NAN, 1.0], [1.0, 0.0]]);
        assert!(golden.compare(&nan, tolerance, false).is_err());
    }

    #[test]
    fn a_flipped_class_is_refused_even_when_values_are_near() {
        let golden = vectors(&[[0.0, 10.0], [5.0, 5.1]]);
        let flipped = outputs(&[[0.0, 10.0], [5.1, 5.0]]);
        let tolerance = Tolerance::RangeFraction(0.06);
        golden.compare(&flipped, tolerance, false).unwrap();
        assert!(matches!(
            golden.compare(&flipped, tolerance, true),
            Err(GoldenError::Argmax {
                differ: 1,
                cases: 2
            })
        ));
    }
}
