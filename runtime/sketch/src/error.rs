//! The crate's one error type.
//!
//! Written by hand rather than derived, so that a microcontroller build pulls in nothing but
//! serde, postcard and libm.

use alloc::string::String;
use core::fmt;

/// Why a baseline, a sketch or a profile was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SketchError {
    /// A feature had not one finite value to build a baseline from.
    NoValues {
        /// Name of the feature.
        feature: String,
    },
    /// The number of bins asked for lies outside [`crate::MIN_BINS`]..=[`crate::MAX_BINS`].
    Bins {
        /// What was asked for.
        asked: usize,
    },
    /// A feature's name is empty or longer than [`crate::MAX_NAME_BYTES`].
    Name {
        /// Length of the name in bytes.
        bytes: usize,
    },
    /// More features than [`crate::MAX_FEATURES`], or none.
    FeatureCount {
        /// How many there were.
        features: usize,
    },
    /// Two features of one baseline carry the same name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The first byte names a format that this build does not know.
    UnknownVersion {
        /// The version found.
        found: u8,
        /// The version this build reads.
        known: u8,
    },
    /// More bytes than the format allows.
    TooLarge {
        /// Length found.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes do not decode, or decode to something that no sketch can hold.
    Malformed {
        /// Which rule was broken.
        what: &'static str,
    },
    /// Two things that must not be added to, or compared with, each other.
    Incompatible {
        /// What differs.
        what: &'static str,
    },
    /// A feature index beyond the baseline's features.
    UnknownFeature {
        /// The index given.
        index: usize,
        /// How many features there are.
        features: usize,
    },
}

impl fmt::Display for SketchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValues { feature } => write!(
                f,
                "feature \"{feature}\" has no finite value; give baseline rows in which it was measured"
            ),
            Self::Bins { asked } => write!(
                f,
                "{asked} bins asked for; choose between {} and {}",
                crate::MIN_BINS,
                crate::MAX_BINS
            ),
            Self::Name { bytes } => write!(
                f,
                "feature name of {bytes} bytes; names have 1 to {} bytes",
                crate::MAX_NAME_BYTES
            ),
            Self::FeatureCount { features } => write!(
                f,
                "{features} features; a baseline has 1 to {}",
                crate::MAX_FEATURES
            ),
            Self::DuplicateName { name } => {
                write!(
                    f,
                    "feature name \"{name}\" is used twice; names must differ"
                )
            }
            Self::UnknownVersion { found, known } => write!(
                f,
                "format version {found} is unknown; this build reads version {known}"
            ),
            Self::TooLarge { bytes, limit } => {
                write!(f, "{bytes} bytes exceed the limit of {limit}")
            }
            Self::Malformed { what } => write!(f, "malformed: {what}"),
            Self::Incompatible { what } => write!(f, "cannot be combined: {what} differs"),
            Self::UnknownFeature { index, features } => write!(
                f,
                "feature index {index} is out of range; the baseline has {features} features"
            ),
        }
    }
}

impl core::error::Error for SketchError {}
