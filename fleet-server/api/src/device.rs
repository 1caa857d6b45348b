//! Devices, as an operator sees them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::DeviceTrust;

/// A bundle that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Running {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Digest of the bundle, hexadecimal.
    pub digest: String,
    /// Counter of the release.
    pub counter: u64,
}

/// Step of the update life cycle that the device reported last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing reported yet.
    Unknown,
    /// Nothing to do.
    Idle,
    /// The manifest or chunks are under way.
    Fetching {
        /// Digest of the bundle, hexadecimal.
        digest: String,
        /// Chunks that are there.
        have: u32,
        /// Chunks in all; 0 while the manifest is missing.
        total: u32,
    },
    /// Everything is there; the candidate is being checked.
    Staged {
        /// Digest of the bundle, hexadecimal.
        digest: String,
    },
    /// The candidate runs, not yet for good.
    Trial {
        /// Digest of the bundle, hexadecimal.
        digest: String,
    },
    /// The assigned bundle runs for good.
    Committed {
        /// Digest of the bundle, hexadecimal.
        digest: String,
    },
    /// The assigned bundle was not accepted; what ran before still runs.
    Failed {
        /// Digest of the bundle, hexadecimal.
        digest: String,
        /// At which step.
        step: String,
        /// Why, for machines.
        code: String,
        /// Why, for people.
        detail: String,
    },
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Identity, derived from the device's key.
    pub id: String,
    /// Name for people; may be empty.
    pub name: String,
    /// What selectors ask for.
    pub labels: BTreeMap<String, String>,
    /// Architecture, as Rust names it.
    pub arch: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Memory of the board, in bytes; 0 before the first hello.
    pub memory_bytes: u64,
    /// Whether it takes part.
    pub approved: bool,
    /// When it enrolled, in seconds since 1970.
    pub enrolled_unix_s: u64,
    /// When it was heard last, in milliseconds since 1970.
    pub last_seen_unix_ms: Option<u64>,
    /// Sequence of the assignment that it should follow; 0 when there is none.
    pub assignment_wanted: u64,
    /// Sequence of the assignment that it has accepted.
    pub assignment_accepted: u64,
    /// What it runs.
    pub active: Option<Running>,
    /// What it is doing about its assignment.
    pub phase: Phase,
    /// Observations stored of it.
    pub observations: u64,
    /// Serial number of the board, as the device says; may be empty.
    #[serde(default)]
    pub hardware: String,
    /// Why its certificates were taken back, if they were; it stays out for ever.
    #[serde(default)]
    pub revoked: Option<String>,
    /// Why it is kept out until an operator approves it again, if it is.
    #[serde(default)]
    pub quarantined: Option<String>,
    /// End of its newest certificate, in seconds since 1970.
    #[serde(default)]
    pub certificate_expires_unix_s: Option<u64>,
    /// What it trusts and what was tried against it, as it reported last.
    #[serde(default)]
    pub trust: Option<DeviceTrust>,
    /// Since when it has been without a fresh catalog for too long, in seconds since 1970.
    #[serde(default)]
    pub stale_since_unix_s: Option<u64>,
    /// Fleet that it was given to; it gets nothing new from this one.
    #[serde(default)]
    pub transferred_to: Option<String>,
}

/// Takes a device's certificates back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeDevice {
    /// Why, for people.
    pub reason: String,
}
