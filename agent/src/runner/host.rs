//! The stage as the update life cycle commands it.
//!
//! Loading, golden vectors included, happens on the driver's thread, for candidates in a
//! process of their own before ([`Checker`]); the stage is locked only to put the loaded model
//! in place.

use std::time::Instant;

use drover_runtime::{BoxError, LoadError};
use drover_wire::message::{Digest, FailureCode};

use super::{Bundle, Checker, Shared, Slot};
use crate::ota::{BundleFiles, LoadFailure, ModelHost};

/// A stage under the command of the update life cycle.
#[derive(Clone)]
pub struct Host {
    stage: Shared,
    checker: Option<Checker>,
}

impl Host {
    /// Puts `shared` under command.
    pub fn new(shared: Shared) -> Self {
        Self {
            stage: shared,
            checker: None,
        }
    }

    /// Candidates are tried by `checker` before they are loaded here.
    #[must_use]
    pub fn with_checker(self, checker: Checker) -> Self {
        Self {
            checker: Some(checker),
            ..self
        }
    }
}

impl ModelHost for Host {
    fn load_committed(&self, bundle: BundleFiles) -> Result<(), LoadFailure> {
        if self.stage.lock().active_digest() == Some(*bundle.digest()) {
            return Ok(());
        }
        // A source that does not fit (any more) is shown by the status; the model stays, for
        // the source may come back.
        let slot = load(bundle)?;
        self.stage.lock().run(slot, Instant::now());
        Ok(())
    }

    fn load_candidate(&self, bundle: BundleFiles) -> Result<(), LoadFailure> {
        if let Some(checker) = &self.checker {
            checker.check(bundle.manifest.manifest(), &bundle.model, &bundle.golden)?;
        }
        let slot = load(bundle)?;
        let columns = self.stage.lock().columns();
        if let Some(Err(error)) = columns.map(|columns| slot.check_fit(&columns)) {
            return Err(LoadFailure {
                code: FailureCode::Incompatible,
                detail: error.to_string(),
            });
        }
        self.stage.lock().stand_by(slot);
        Ok(())
    }

    fn start_trial(&self, digest: &Digest) {
        self.stage.lock().start_trial(digest, Instant::now());
    }

    fn activate(&self, digest: &Digest) {
        self.stage.lock().activate(digest, Instant::now());
    }

    fn deactivate(&self) {
        self.stage.lock().deactivate(Instant::now());
    }

    fn drop_candidate(&self) {
        self.stage.lock().drop_candidate();
    }
}

fn load(files: BundleFiles) -> Result<Slot, LoadFailure> {
    let digest = *files.digest();
    let golden = files.golden.encode().map_err(|error| LoadFailure {
        code: FailureCode::LoadFailed,
        detail: crate::chain(&error),
    })?;
    let bundle = Bundle {
        manifest: files.manifest.manifest().clone(),
        digest,
        model: files.model,
        golden,
        baseline: files.baseline,
    };
    Slot::load(bundle).map_err(|error| LoadFailure {
        code: code_of(&error),
        detail: crate::chain(&*error),
    })
}

pub(super) fn code_of(error: &BoxError) -> FailureCode {
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Golden(_)) => FailureCode::GoldenMismatch,
        Some(LoadError::Engine { .. }) => FailureCode::Incompatible,
        _ => FailureCode::LoadFailed,
    }
}
