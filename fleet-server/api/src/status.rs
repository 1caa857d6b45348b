//! The server at a glance.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Broker;

/// Answer of `/healthz`, which needs no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Whether the database answers.
    pub ok: bool,
    /// Version of the server.
    pub version: String,
}

/// The server at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the server.
    pub version: String,
    /// Name of the fleet.
    pub fleet: String,
    /// Version of the root metadata.
    pub root_version: u64,
    /// When this process started, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// The broker.
    pub broker: Broker,
    /// Devices enrolled.
    pub devices: u64,
    /// Devices that wait for approval.
    pub devices_waiting: u64,
    /// Devices heard in the last five minutes.
    pub devices_recent: u64,
    /// Releases published.
    pub releases: u64,
    /// Rollouts that still have something to do.
    pub rollouts_active: u64,
    /// Observations stored.
    pub observations: u64,
}
