//! How much a compiled model may lose, as specs and command lines write it: `steps=2`.
//!
//! What a bound is held against is `drover-runtime`'s; this is its form.

use std::fmt;
use std::str::FromStr;

/// How much a compiled model may lose against its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Largest difference, in steps of the last quantiser.
    Steps(f32),
    /// Largest difference, as a share of the range of the reference's outputs.
    Range(f32),
    /// Accuracy lost, in percentage points; needs labels.
    Accuracy(f32),
    /// Least share of the cases whose largest element is the reference's.
    Argmax(f32),
}

/// A text that is no bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no bound: write steps=2 (of the last quantiser), range=0.01 (share of the output's \
     range), accuracy=0.4 (percentage points) or argmax=0.99 (share of the cases)"
)]
pub struct BoundError(String);

impl FromStr for Bound {
    type Err = BoundError;

    fn from_str(text: &str) -> Result<Self, BoundError> {
        let wrong = || BoundError(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let value: f32 = value.trim().parse().map_err(|_| wrong())?;
        if !value.is_finite() || value < 0.0 {
            return Err(wrong());
        }
        match name.trim() {
            "steps" => Ok(Self::Steps(value)),
            "range" => Ok(Self::Range(value)),
            "accuracy" => Ok(Self::Accuracy(value)),
            "argmax" if value <= 1.0 => Ok(Self::Argmax(value)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(v) => write!(f, "steps={v}"),
            Self::Range(v) => write!(f, "range={v}"),
            Self::Accuracy(v) => write!(f, "accuracy={v}"),
            Self::Argmax(v) => write!(f, "argmax={v}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_they_are_written() {
        for text in ["steps=2", "range=0.01", "accuracy=0.4", "argmax=0.99"] {
            assert_eq!(text.parse::<Bound>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "steps",
            "steps=",
            "steps=-1",
            "step=2",
            "argmax=2",
            "range=nan",
        ] {
            let message = text.parse::<Bound>().unwrap_err().to_string();
            assert!(message.contains("write steps=2"), "{message}");
        }
    }
}
