//! Runs models: the thread that turns rows into outcomes, and the host that the update life
//! cycle commands.
//!
//! [`Stage`] holds what runs and decides everything; it is plain code behind a mutex that is
//! taken per row, so that a swap or a look at the state always falls between two rows. The
//! thread here only feeds it. Nothing is persisted: after a start the life cycle says again
//! what runs.

mod check;
mod host;
mod latency;
mod sink;
mod slot;
mod stage;
mod trial;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

pub use check::Checker;
pub(crate) use check::run as check_model;
pub use host::Host;
pub use sink::{Capture, Numbered, Recording, Reporting, Sinks};
pub use slot::{Bundle, Slot};
pub use stage::{Rules, Snapshot, Stage};

use crate::AgentError;
use crate::source::Feed;

/// How often deadlines are looked at when no row comes.
const TICK: Duration = Duration::from_millis(500);

/// A stage that other threads look at and command between rows.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Stage>>);

impl Shared {
    /// Shares `stage`.
    pub fn new(stage: Stage) -> Self {
        Self(Arc::new(Mutex::new(stage)))
    }

    /// The stage between two rows.
    pub fn lock(&self) -> MutexGuard<'_, Stage> {
        // A poisoned stage belongs to a thread that died, and the process ends for that.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the inference thread leaves behind.
pub type End = oneshot::Receiver<Result<(), AgentError>>;

/// Starts the inference thread. It takes rows until the queue is closed and, with
/// `until_end`, until the source has ended or failed; then it closes what is open.
///
/// A thread that died closes the returned channel without a result: the process must end,
/// because an agent that looks alive and infers nothing helps nobody.
///
/// # Errors
/// [`AgentError::File`] when the system gives no thread.
pub fn start(
    shared: Shared,
    mut rows: mpsc::Receiver<Feed>,
    until_end: bool,
) -> Result<End, AgentError> {
    let (done, end) = oneshot::channel();
    let ticking = shared.clone();
    let (alive, dead) = std::sync::mpsc::channel::<()>();
    spawn("deadlines", move || {
        // Times out while the inference thread holds the other end.
        while dead.recv_timeout(TICK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            ticking.lock().tick(Instant::now());
        }
    })?;
    spawn("inference", move || {
        let _alive = alive;
        let mut result = Ok(());
        while let Some(feed) = rows.blocking_recv() {
            let mut stage = shared.lock();
            match stage.feed(feed, Instant::now()) {
                Ok(goes_on) if goes_on || !until_end => {}
                Err(error) if !until_end => tracing::error!("{}", crate::chain(&error)),
                ended => {
                    result = ended.map(|_| ());
                    break;
                }
            }
        }
        shared.lock().close(Instant::now());
        // Nobody waits when the process is on its way out.
        let _ = done.send(result);
    })?;
    Ok(end)
}

fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), AgentError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(|_| ())
        .map_err(AgentError::file("start the thread", name))
}
