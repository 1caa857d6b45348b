//! Why a profile could not be judged.

use drover_sketch::SketchError;

/// A profile that does not belong to the baseline it is held against.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriftError {
    /// Another number of features.
    #[error(
        "profile has {profile} features, the baseline has {baseline}; it was made for another bundle"
    )]
    Features {
        /// In the baseline.
        baseline: usize,
        /// In the profile.
        profile: usize,
    },
    /// Another number of bins in one feature.
    #[error(
        "feature \"{feature}\" has {profile} bins in the profile, {baseline} in the baseline; it was made for another bundle"
    )]
    Bins {
        /// Name of the feature.
        feature: String,
        /// In the baseline.
        baseline: usize,
        /// In the profile.
        profile: usize,
    },
    /// The profile names another bundle than the one judged.
    #[error("profile belongs to another bundle")]
    Bundle,
    /// The profile was counted with another baseline's bins.
    #[error("profile was counted with another baseline")]
    Schema,
    /// Profiles could not be added up.
    #[error("profiles cannot be added up")]
    Merge(#[source] SketchError),
}
