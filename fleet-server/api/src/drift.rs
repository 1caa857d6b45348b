//! Drift of the data that devices see, against the baseline inside their bundle.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a distribution has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Too little data to tell.
    Unknown,
    /// As in training.
    Stable,
    /// Moved, not far or not for long.
    Warning,
    /// Moved far.
    Alarm,
}

/// One feature on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeatureDrift {
    /// Name of the channel or output.
    pub feature: String,
    /// How far it has moved.
    pub level: Level,
    /// Values counted, thinned for autocorrelation.
    pub samples: u64,
    /// Population stability index.
    pub psi: Option<f64>,
    /// P-value of the test.
    pub p_value: Option<f64>,
    /// Share of values that were missing.
    pub missing_rate: f64,
    /// Share of values outside the range seen in training.
    pub out_of_range_rate: f64,
    /// Why, for people.
    pub why: String,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceDrift {
    /// Which device.
    pub device: String,
    /// Name for people; may be empty.
    pub name: String,
    /// The worst of its features.
    pub level: Level,
    /// Profiles that were summed.
    pub profiles: u64,
    /// Model windows that they cover.
    pub windows: u64,
    /// Start of what they cover, in milliseconds since 1970.
    pub start_unix_ms: u64,
    /// End of what they cover, in milliseconds since 1970.
    pub end_unix_ms: u64,
    /// Every feature.
    pub features: Vec<FeatureDrift>,
}

/// One feature over the whole fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetFeatureDrift {
    /// Name of the channel or output.
    pub feature: String,
    /// How far the fleet has moved.
    pub level: Level,
    /// Devices that alarm on it.
    pub devices_alarming: u32,
    /// Devices that have enough data to tell.
    pub devices_assessed: u32,
    /// Population stability index of all devices together.
    pub psi: Option<f64>,
}

/// Drift of all devices that run one bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftStatus {
    /// Model name.
    pub model: String,
    /// Version for people.
    pub version: String,
    /// Digest of the bundle, hexadecimal.
    pub digest: String,
    /// The worst of fleet and devices.
    pub level: Level,
    /// Every feature over the fleet.
    pub fleet: Vec<FleetFeatureDrift>,
    /// Every device.
    pub devices: Vec<DeviceDrift>,
}
