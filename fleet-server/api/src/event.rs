//! What happened in the fleet, for people.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Part of normal work.
    Info,
    /// Somebody should look.
    Warning,
    /// A signature, digest or claim was wrong.
    Security,
}

/// What happened in the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows with each event.
    pub id: u64,
    /// When the server learnt of it, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Device that it is about.
    pub device: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// What kind, for machines, such as `rolled-back`.
    pub kind: String,
    /// What happened, for people.
    pub detail: String,
}
