//! The thread that talks to the host, one call after the other.
//!
//! Loading a model may take seconds; the driver goes on meanwhile. Order is kept, so that a
//! candidate is dropped after it was loaded and never before.

use std::sync::{Arc, mpsc};

use drover_wire::message::{Digest, FailureCode};

use super::library::{Claim, Library};
use super::{Input, LoadFailure, ModelHost, Unloaded};

/// One call of the host.
#[derive(Debug)]
pub(super) enum Job {
    LoadCommitted(Digest),
    LoadCandidate(Digest),
    StartTrial(Digest),
    Activate(Digest),
    Deactivate,
    DropCandidate,
    /// Says that every job before this one is done.
    Reached(mpsc::Sender<()>),
}

/// Starts the thread; it ends when the last sender is gone.
pub(super) fn start(
    library: Library,
    host: Arc<dyn ModelHost>,
    driver: mpsc::Sender<Input>,
) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("model-host".into())
        .spawn(move || {
            for job in receiver {
                if let Some(answer) = perform(&library, host.as_ref(), job) {
                    // The driver is gone when the agent stops.
                    let _ = driver.send(answer);
                }
            }
        })?;
    Ok(sender)
}

fn perform(library: &Library, host: &dyn ModelHost, job: Job) -> Option<Input> {
    match job {
        Job::LoadCommitted(digest) => {
            let read = library.read(&digest, Claim::Committed);
            let loaded = read.and_then(|b| host.load_committed(b).map_err(Unloaded::Failed));
            let (code, detail) = match loaded {
                Ok(()) => return None,
                Err(Unloaded::Incomplete) => {
                    let detail = "files of the committed bundle are damaged or missing";
                    (FailureCode::Mismatch, detail.to_owned())
                }
                Err(Unloaded::Failed(LoadFailure { code, detail })) => (code, detail),
            };
            Some(Input::ActiveLost {
                digest,
                code,
                detail,
            })
        }
        Job::LoadCandidate(digest) => {
            let read = library.read(&digest, Claim::Candidate);
            let outcome = read.and_then(|b| host.load_candidate(b).map_err(Unloaded::Failed));
            Some(Input::Loaded { digest, outcome })
        }
        Job::StartTrial(digest) => {
            host.start_trial(&digest);
            None
        }
        Job::Activate(digest) => {
            host.activate(&digest);
            None
        }
        Job::Deactivate => {
            host.deactivate();
            None
        }
        Job::DropCandidate => {
            host.drop_candidate();
            None
        }
        Job::Reached(done) => {
            // Whoever waited has given up.
            let _ = done.send(());
            None
        }
    }
}
