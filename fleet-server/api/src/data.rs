//! What is stored of each start of each device.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Records of one start of one device's agent, counted. Sequences of a start begin at 1, so
/// that nothing is missing when there are as many records as the last sequence says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BootStats {
    /// Which device.
    pub device: String,
    /// Name for people; may be empty.
    pub name: String,
    /// Which start of its agent.
    pub boot: u64,
    /// Records stored, each counted once however often it arrived.
    pub records: u64,
    /// Lowest sequence stored.
    pub first_sequence: u64,
    /// Highest sequence stored.
    pub last_sequence: u64,
    /// Records that are observations.
    pub observations: u64,
    /// Records that are drift profiles.
    pub profiles: u64,
    /// Records that are events.
    pub events: u64,
    /// Records that arrived again and were dropped.
    pub duplicates: u64,
}
