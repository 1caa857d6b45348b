//! Rollouts: a release, the devices it is for, and the stages in which they get it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ReleaseRef;

/// Which devices; a device matches when it fulfils every part that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Labels that a device has.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Identities or names, one of which is the device's.
    #[serde(default)]
    pub devices: Vec<String>,
}

/// Size of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Until this many devices in all have it.
    Count(u32),
    /// Until this share of the selected devices has it, in percent.
    Percent(u8),
}

/// In which order devices get the release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Strategy {
    /// Everyone at once.
    #[default]
    AllAtOnce,
    /// Growing groups; each has to succeed before the next one starts. Whoever is left after
    /// the last one forms one more stage.
    Staged {
        /// Sizes, each larger than the one before.
        stages: Vec<Stage>,
    },
}

/// What counts as success and as failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Share of a stage's reachable devices that has to commit before the next stage.
    pub min_success_share: f64,
    /// Above this share of failed devices in the rollout it pauses.
    pub max_failed_share: f64,
    /// A device that has not finished this long after its assignment counts as expired, in
    /// seconds.
    pub deadline_secs: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_success_share: 0.95,
            max_failed_share: 0.1,
            deadline_secs: 24 * 3600,
        }
    }
}

/// Asks for a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRollout {
    /// Digest (or its first 8 digits or more), `name` for the newest release of a model, or
    /// `name@version`.
    pub release: String,
    /// Which devices.
    #[serde(default)]
    pub selector: Selector,
    /// In which order.
    #[serde(default)]
    pub strategy: Strategy,
    /// What counts as success and as failure.
    #[serde(default)]
    pub policy: Policy,
    /// Whether it waits until a second person approves it; the server may ask for that anyway.
    #[serde(default)]
    pub approval: bool,
}

/// What a rollout is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    /// Nothing happens until a second person approves it.
    Waiting,
    /// Stages are under way.
    Active,
    /// Stopped by its policy; assigned devices go on, no other device starts.
    Paused,
    /// Every stage has passed; devices that match later still get the release.
    Completed,
}

/// Where one device is in a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum DeviceStatus {
    /// Its stage has not begun.
    Pending,
    /// The assignment is made; the device has not reported progress.
    Assigned,
    /// Chunks are under way.
    Fetching {
        /// Chunks that are there.
        have: u32,
        /// Chunks in all; 0 while the manifest is missing.
        total: u32,
    },
    /// Everything is there; the candidate is being checked.
    Staged,
    /// The candidate runs, not yet for good.
    Trial,
    /// It runs for good.
    Committed,
    /// It was not accepted.
    Failed {
        /// At which step.
        step: String,
        /// Why, for machines.
        code: String,
        /// Why, for people.
        detail: String,
    },
    /// Not heard of in time; it gets the current target when it comes back.
    Expired,
    /// A newer rollout of the same model took the device over.
    Superseded,
}

/// How many devices are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCounts {
    /// In all.
    pub total: u32,
    /// Their stage has not begun.
    pub pending: u32,
    /// Assigned, fetching, staged or on trial.
    pub updating: u32,
    /// Done.
    pub committed: u32,
    /// Failed.
    pub failed: u32,
    /// Silent beyond their deadline.
    pub expired: u32,
    /// Taken over by a newer rollout.
    pub superseded: u32,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StageStatus {
    /// From 1.
    pub number: u32,
    /// Whether it has begun.
    pub started: bool,
    /// Whether it has passed.
    pub passed: bool,
    /// Its devices.
    pub counts: DeviceCounts,
}

/// One device of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutDevice {
    /// Identity.
    pub device: String,
    /// Name for people; may be empty.
    pub name: String,
    /// Its stage, from 1.
    pub stage: u32,
    /// Sequence of the assignment that this rollout made for it.
    pub assignment: Option<u64>,
    /// Where it is.
    #[serde(flatten)]
    pub status: DeviceStatus,
    /// When that last changed, in milliseconds since 1970.
    pub changed_unix_ms: u64,
}

/// A rollout and its progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Identity, such as `r7`.
    pub id: String,
    /// What is rolled out.
    pub release: ReleaseRef,
    /// Which devices.
    pub selector: Selector,
    /// In which order.
    pub strategy: Strategy,
    /// What counts as success and as failure.
    pub policy: Policy,
    /// What it is doing.
    pub state: RolloutState,
    /// Why it paused, for people.
    pub reason: Option<String>,
    /// Account that created it; empty when that was before accounts existed.
    #[serde(default)]
    pub created_by: String,
    /// Account that approved it, if it had to be.
    #[serde(default)]
    pub approved_by: Option<String>,
    /// Stage that is under way or was the last, from 1.
    pub stage: u32,
    /// All stages.
    pub stages: Vec<StageStatus>,
    /// All devices, summed up.
    pub counts: DeviceCounts,
    /// All devices; empty in lists.
    pub devices: Vec<RolloutDevice>,
    /// Size of the bundle, in bytes.
    pub bundle_bytes: u64,
    /// Bytes of the bundle's chunks sent since the rollout began, repeats included.
    pub sent_bytes: u64,
    /// When it was created, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it was completed, in milliseconds since 1970.
    pub completed_unix_ms: Option<u64>,
}
