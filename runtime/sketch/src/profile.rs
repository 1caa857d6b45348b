//! What one device, or a sum of devices, saw in one period.
//!
//! A profile names the bundle and the baseline its bins belong to, and is never merged across
//! different ones. Addition is not idempotent: whoever receives profiles must drop duplicates
//! first. A decoded profile has been checked for counts that no sketch can hold.

use crate::{FeatureCounts, MAX_FEATURES, MAX_PROFILE_BYTES, SketchError, codec};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// Counters of all features over one period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Digest of the encoded baseline whose bins are counted.
    pub schema: [u8; 32],
    /// Digest of the bundle that produced the values.
    pub bundle: [u8; 32],
    /// Start of the period, milliseconds since 1970 UTC.
    pub start_unix_ms: u64,
    /// End of the period, milliseconds since 1970 UTC; not before the start.
    pub end_unix_ms: u64,
    /// Model windows in the period.
    pub windows: u64,
    /// Counters in the order of the baseline's features.
    pub features: Vec<FeatureCounts>,
}

impl Profile {
    /// Adds another profile; the period becomes the span of both.
    ///
    /// # Errors
    /// `Incompatible` if bundle, schema or bins differ; nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), SketchError> {
        let refuse = |what| Err(SketchError::Incompatible { what });
        if self.bundle != other.bundle {
            return refuse("bundle");
        }
        if self.schema != other.schema {
            return refuse("baseline");
        }
        if self.features.len() != other.features.len() {
            return refuse("number of features");
        }
        let mut pairs = self.features.iter().zip(&other.features);
        if pairs.any(|(mine, theirs)| mine.bins.len() != theirs.bins.len()) {
            return refuse("number of bins");
        }
        for (mine, theirs) in self.features.iter_mut().zip(&other.features) {
            mine.merge(theirs)?;
        }
        self.start_unix_ms = self.start_unix_ms.min(other.start_unix_ms);
        self.end_unix_ms = self.end_unix_ms.max(other.end_unix_ms);
        self.windows = self.windows.saturating_add(other.windows);
        Ok(())
    }

    /// The form that travels: version byte 1, then postcard, counts as varints, moments as f32.
    ///
    /// # Errors
    /// `TooLarge` beyond [`MAX_PROFILE_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, SketchError> {
        codec::encode(VERSION, self, MAX_PROFILE_BYTES)
    }

    /// Reads and checks the form that travels.
    ///
    /// # Errors
    /// `UnknownVersion`, `TooLarge`, or what is wrong with the content.
    pub fn decode(bytes: &[u8]) -> Result<Self, SketchError> {
        let profile: Self = codec::decode(VERSION, bytes, MAX_PROFILE_BYTES)?;
        profile.validate()?;
        Ok(profile)
    }

    fn validate(&self) -> Result<(), SketchError> {
        if self.features.is_empty() || self.features.len() > MAX_FEATURES {
            return Err(SketchError::FeatureCount {
                features: self.features.len(),
            });
        }
        if self.end_unix_ms < self.start_unix_ms {
            return Err(SketchError::Malformed {
                what: "the period ends before it starts",
            });
        }
        self.features.iter().try_for_each(FeatureCounts::validate)
    }
}
