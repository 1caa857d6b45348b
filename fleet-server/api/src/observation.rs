//! Observations that devices sent.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was decided on a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The model decides nothing.
    None,
    /// Below the threshold.
    Normal,
    /// Above the threshold.
    Anomalous,
    /// Index of the class.
    Class(u32),
}

/// One observation; `(device, boot, sequence)` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Observation {
    /// Which device.
    pub device: String,
    /// Start of the agent that made it.
    pub boot: u64,
    /// Number of the record in that start.
    pub sequence: u64,
    /// When it was made, in milliseconds since 1970 by the device's clock.
    pub unix_ms: u64,
    /// When it was stored here, in milliseconds since 1970.
    pub received_unix_ms: u64,
    /// Digest of the bundle that made it, hexadecimal.
    pub model: String,
    /// Index of the window in its stream.
    pub window: u64,
    /// Score, as the manifest defines it; absent when it is not a finite number.
    pub score: Option<f32>,
    /// What was decided.
    pub decision: Decision,
    /// Time that the engine took, in microseconds.
    pub latency_us: u32,
}

/// One device's observations, summed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ObservationSummary {
    /// Which device.
    pub device: String,
    /// Name for people; may be empty.
    pub name: String,
    /// Observations stored; each is counted once however often it arrived.
    pub observations: u64,
    /// How many of them were anomalous.
    pub anomalous: u64,
    /// Starts of the agent that they came from.
    pub boots: u64,
    /// Records that arrived again and were dropped.
    pub duplicates: u64,
    /// Earliest one, in milliseconds since 1970 by the device's clock.
    pub first_unix_ms: Option<u64>,
    /// Latest one, in milliseconds since 1970 by the device's clock.
    pub last_unix_ms: Option<u64>,
    /// Window index of the latest one.
    pub last_window: Option<u64>,
    /// Scores of the latest ones, newest first.
    pub last_scores: Vec<f32>,
}
