//! The border between the update life cycle and whatever runs models: [`ModelHost`].
//!
//! The driver hands over bundles whose signatures, hashes and compatibility are checked, and
//! says when a candidate is to be tried, taken over or given up. The host loads, runs the
//! golden vectors, runs the trial and reports back through [`HostReports`]. It never decides
//! which version runs, and it persists nothing: after a power cut the driver tells it again
//! from the durable state, beginning with [`ModelHost::load_committed`].

use std::sync::mpsc;

use drover_bundle::{GoldenVectors, VerifiedManifest};
use drover_wire::message::{Digest, FailureCode};

use super::Input;

/// A bundle as it comes off the disk: every file was compared with its signed hash just now.
#[derive(Clone, Debug)]
pub struct BundleFiles {
    /// What the release keys signed; holds the digest too.
    pub manifest: VerifiedManifest,
    /// The ONNX graph.
    pub model: Vec<u8>,
    /// Inputs and expected outputs, to be run at each load.
    pub golden: GoldenVectors,
    /// Encoded drift baseline (`drover-sketch`), if the bundle has one.
    pub baseline: Option<Vec<u8>>,
}

impl BundleFiles {
    /// Identity of the bundle.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.manifest.digest()
    }
}

/// Why a bundle is not fit to run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct LoadFailure {
    /// [`FailureCode::LoadFailed`] when the engine refuses the model or memory does not
    /// suffice (tried again once), [`FailureCode::GoldenMismatch`] when it computes wrongly
    /// on this machine (final at once), [`FailureCode::Incompatible`] when the sensor source
    /// cannot feed it.
    pub code: FailureCode,
    /// Why, for people.
    pub detail: String,
}

/// Runs models. Calls come from one driver, in order; each may block, and
/// [`Self::load_committed`] and [`Self::load_candidate`] may take seconds.
///
/// Every call is idempotent: told twice, the host does it once.
pub trait ModelHost: Send + Sync + 'static {
    /// Loads what is committed and runs it; the first call after a start, before any network.
    ///
    /// # Errors
    /// [`LoadFailure`]; nothing of the bundle runs then.
    fn load_committed(&self, bundle: BundleFiles) -> Result<(), LoadFailure>;

    /// Loads a candidate beside what runs and checks its golden vectors. It gets no live data
    /// yet. A candidate that is loaded already is replaced.
    ///
    /// # Errors
    /// [`LoadFailure`]; what ran before runs on untouched, and no candidate is loaded.
    fn load_candidate(&self, bundle: BundleFiles) -> Result<(), LoadFailure>;

    /// Gives the candidate live windows beside the active model. Its outputs do not reach the
    /// sinks. The host ends the trial within a bounded time with one
    /// [`HostReports::trial_passed`] or [`HostReports::trial_failed`], also when the source
    /// is silent.
    fn start_trial(&self, digest: &Digest);

    /// Makes the candidate the active model between two windows; the former one is unloaded.
    /// A no-op when `digest` is active already.
    fn activate(&self, digest: &Digest);

    /// Stops running any model: the assignment names none.
    fn deactivate(&self);

    /// Unloads the candidate, whatever it was doing; what is active runs on.
    fn drop_candidate(&self);
}

/// How a host answers: a handle that any thread may clone and use.
#[derive(Clone, Debug)]
pub struct HostReports(pub(crate) mpsc::Sender<Input>);

impl HostReports {
    /// The candidate did well on live data.
    pub fn trial_passed(&self, digest: Digest) {
        self.send(Input::TrialPassed { digest });
    }

    /// The candidate failed on live data; `detail` is for people.
    pub fn trial_failed(&self, digest: Digest, detail: String) {
        self.send(Input::TrialFailed { digest, detail });
    }

    fn send(&self, input: Input) {
        // The driver is gone only when the agent stops; the trial starts anew then.
        let _ = self.0.send(input);
    }
}
