//! The driver of the update life cycle: performs what `drover-agent-core` decides.

pub mod host;

use drover_wire::message::Digest;

pub use host::{BundleFiles, HostReports, LoadFailure, ModelHost};

/// What wakes the driver.
#[derive(Debug)]
pub enum Input {
    /// The host's verdict on a trial.
    TrialPassed {
        /// Which candidate.
        digest: Digest,
    },
    /// The host's verdict on a trial.
    TrialFailed {
        /// Which candidate.
        digest: Digest,
        /// Why, for people.
        detail: String,
    },
}
