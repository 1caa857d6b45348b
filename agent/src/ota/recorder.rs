//! Putting records into the outbox, from any thread.
//!
//! [`Recorder::record`] returns when the record is in the journal. It is on the disk at most
//! [`FLUSH_MS`] later, or as soon as [`FLUSH_RECORDS`] wait: one flush for many records, since
//! flash wears and a flush takes milliseconds. A power cut loses at most what was recorded
//! since; nothing is sent upstream before it is on the disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use drover_agent_store::StoreError;
use drover_wire::message::{Body, Event, Record};

use super::{Input, SharedJournal};
use crate::clock;

/// Longest time that a record waits for the disk, in milliseconds.
const FLUSH_MS: u64 = 200;
/// Records that wait for the disk at most.
const FLUSH_RECORDS: u64 = 64;

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is larger than a message to the server.
    #[error("record is too large to be sent")]
    TooLarge(#[source] drover_wire::message::WireError),
    /// The journal did not take it.
    #[error("record was not stored")]
    Store(#[source] StoreError),
}

/// See the module. Clones are the same recorder.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: SharedJournal,
    boot: u64,
    state: Mutex<Waiting>,
    wake: Condvar,
    driver: mpsc::Sender<Input>,
}

#[derive(Debug)]
struct Waiting {
    next: u64,
    unflushed: u64,
    /// As of the journal's own count, to tell evictions since.
    evicted: u64,
    closed: bool,
}

impl Recorder {
    pub(super) fn start(
        journal: SharedJournal,
        boot: u64,
        driver: mpsc::Sender<Input>,
    ) -> std::io::Result<Self> {
        let evicted = journal.with(|j| j.evicted());
        let inner = Arc::new(Inner {
            journal,
            boot,
            state: Mutex::new(Waiting {
                next: 1,
                unflushed: 0,
                evicted,
                closed: false,
            }),
            wake: Condvar::new(),
            driver,
        });
        let flusher = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("flusher".into())
            .spawn(move || flusher.flush_as_needed())?;
        Ok(Self(inner))
    }

    /// Stores a record and gives its number within this start of the agent.
    ///
    /// # Errors
    /// [`RecordError`]; the record is lost then, and the caller goes on without it.
    pub fn record(&self, body: Body) -> Result<u64, RecordError> {
        let mut state = self.0.lock();
        let sequence = self.0.append(&mut state, body)?;
        // The first starts the clock of the flusher, the last asks it to hurry.
        if state.unflushed == 1 || state.unflushed >= FLUSH_RECORDS {
            self.0.wake.notify_all();
        }
        Ok(sequence)
    }

    /// Puts everything on the disk now.
    ///
    /// # Errors
    /// Of the journal; the records stay in its memory and are flushed later.
    pub fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        self.0.flush(&mut state)
    }

    /// Puts everything on the disk and ends the flusher.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.wake.notify_all();
        if let Err(error) = self.flush() {
            tracing::error!(error = crate::chain(&error), "records may be lost");
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, state: &mut Waiting, body: Body) -> Result<u64, RecordError> {
        let sequence = state.next;
        let record = Record {
            sequence,
            unix_ms: clock::unix_ms(),
            body,
        };
        let bytes = record.encode().map_err(RecordError::TooLarge)?;
        self.journal
            .with(|j| j.append(self.boot, sequence, &bytes))
            .map_err(RecordError::Store)?;
        state.next += 1;
        state.unflushed += 1;
        Ok(sequence)
    }

    fn flush(&self, state: &mut Waiting) -> Result<(), StoreError> {
        if state.unflushed == 0 {
            return Ok(());
        }
        let evicted = self.journal.with(|j| j.evicted());
        let lost = evicted.saturating_sub(state.evicted);
        if lost > 0 {
            let body = Body::Event(Event::Evicted { records: lost });
            if self.append(state, body).is_ok() {
                state.evicted = evicted;
            }
        }
        self.journal.with(|j| j.flush())?;
        state.unflushed = 0;
        // The driver is gone when the agent stops.
        let _ = self.driver.send(Input::Appended);
        Ok(())
    }

    fn flush_as_needed(&self) {
        let period = Duration::from_millis(FLUSH_MS);
        let mut state = self.lock();
        let mut failing = false;
        while !state.closed {
            let idle = |s: &mut Waiting| !s.closed && s.unflushed == 0;
            let waited = self.wake.wait_while(state, idle);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            // After a failure every period once, however many wait.
            let gather = |s: &mut Waiting| !s.closed && (failing || s.unflushed < FLUSH_RECORDS);
            let waited = self.wake.wait_timeout_while(state, period, gather);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            match self.flush(&mut state) {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::error!(error = crate::chain(&error), "cannot flush records");
                    }
                    failing = true;
                }
            }
        }
    }
}
