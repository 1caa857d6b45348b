//! The driver of the update life cycle: performs what `drover-agent-core` decides.
//!
//! [`Prepared::open`] takes the journal, [`Prepared::start`] resumes: what is committed is
//! loaded from the disk before anything else, network or not. From then on one thread owns
//! the machine and the outbox; it persists their decisions before it acts on them. Models run
//! behind [`ModelHost`], MQTT behind [`Outgoing`] and [`Input`]; nothing here touches either.

mod driver;
pub mod host;
mod jobs;
mod library;
mod recorder;
mod transfer;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use drover_agent_core::{Config, Counters, OutboxConfig, Platform, Timing};
use drover_agent_store::{Journal, StoreError};
use drover_trust::TrustedRoot;
use drover_wire::message::{Digest, FailureCode, State, Up};
use tokio::sync::OwnedSemaphorePermit;

use crate::enrol::EnrolError;
use crate::identity::{Enrolment, Membership};
use crate::renew::Renewed;
use crate::trust::Trust;

pub(crate) use driver::CELL as STATE_CELL;
pub use host::{BundleFiles, HostReports, LoadFailure, ModelHost};
pub use recorder::Recorder;
pub(crate) use transfer::join as join_by;

/// Messages to the link that wait at most; more are dropped, since the link is lossy anyway.
const OUTGOING: usize = 64;

/// The journal, shared by the driver, the host jobs and the recorder. It is locked for one
/// operation at a time.
#[derive(Clone)]
pub struct SharedJournal(Arc<Mutex<Box<dyn Journal>>>);

impl std::fmt::Debug for SharedJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedJournal")
    }
}

impl SharedJournal {
    /// One operation.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut dyn Journal) -> T) -> T {
        // A panic between two operations leaves a journal that is as good as after a cut.
        let mut journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(journal.as_mut())
    }
}

/// What wakes the driver.
#[derive(Debug)]
pub enum Input {
    /// The link can send.
    Connected,
    /// The link cannot send.
    Disconnected,
    /// A message on the device's topic, unchecked.
    Message {
        /// Encoded envelope.
        bytes: Vec<u8>,
        /// Given back when the message was handled, so that few are in memory at once.
        permit: OwnedSemaphorePermit,
    },
    /// A message on the device's topic for roots, unchecked.
    Roots {
        /// Encoded chain.
        bytes: Vec<u8>,
        /// As for [`Input::Message`].
        permit: OwnedSemaphorePermit,
    },
    /// The fleet granted a certificate; it is stored already.
    Granted(Renewed),
    /// A new fleet took the device, or did not.
    Joined(Result<Box<Enrolment>, EnrolError>),
    /// A message on a bundle's topic, unchecked.
    Chunk {
        /// The topic's bundle.
        digest: Digest,
        /// Payload.
        bytes: Vec<u8>,
        /// As for [`Input::Message`].
        permit: OwnedSemaphorePermit,
    },
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
    /// The host loaded a candidate, or did not.
    Loaded {
        /// Which candidate.
        digest: Digest,
        /// How it went.
        outcome: Result<(), Unloaded>,
    },
    /// The host could not load what is committed.
    ActiveLost {
        /// Which bundle.
        digest: Digest,
        /// Why, for machines.
        code: FailureCode,
        /// Why, for people.
        detail: String,
    },
    /// Records were flushed to the disk.
    Appended,
    /// The agent stops.
    Stop,
}

/// Why a candidate was not loaded.
#[derive(Debug)]
pub enum Unloaded {
    /// Its files are damaged or missing.
    Incomplete,
    /// It is not fit to run here.
    Failed(LoadFailure),
}

/// What the link is to do. Without a connection it is dropped.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// Sign and send.
    Publish(Up),
    /// Take chunks of a bundle.
    Subscribe(Digest),
    /// Take no more chunks of a bundle.
    Unsubscribe(Digest),
}

/// Why the update life cycle could not start.
#[derive(Debug, thiserror::Error)]
pub enum OtaError {
    /// The journal failed.
    #[error("cannot use the agent's store")]
    Store(#[from] StoreError),
    /// The system has no thread left.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The driver ended while it resumed.
    #[error("the update driver ended unexpectedly")]
    Died,
}

/// Who the device is and how patient.
#[derive(Clone, Debug)]
pub struct Options {
    /// The device in its fleet.
    pub member: Arc<Membership>,
    /// Whose signatures count at first.
    pub root: TrustedRoot,
    /// When this agent was built, in seconds since 1970.
    pub built_unix_s: u64,
    /// What the device offers.
    pub platform: Platform,
    /// Waiting times of updates.
    pub timing: Timing,
    /// How records are sent.
    pub outbox: OutboxConfig,
}

/// What the driver shows of itself, renewed after each step.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// As the server hears it.
    pub state: State,
    /// Whether the link can send.
    pub connected: bool,
    /// Records that wait for the server.
    pub outbox_records: u64,
    /// Events that were not acted on.
    pub counters: Counters,
    /// Records that no message could carry.
    pub unsendable: u64,
    /// Chunks of confidential bundles that could not be decrypted.
    pub undecryptable: u64,
}

/// A journal that is open, with the handles that others need before the start.
#[derive(Debug)]
pub struct Prepared {
    journal: SharedJournal,
    boot: u64,
    sender: mpsc::Sender<Input>,
    receiver: mpsc::Receiver<Input>,
    recorder: Recorder,
}

impl Prepared {
    /// Counts this start and makes the handles.
    ///
    /// # Errors
    /// [`OtaError`] when the journal cannot be written or a thread cannot be made.
    pub fn open(mut journal: Box<dyn Journal>) -> Result<Self, OtaError> {
        let boot = journal.begin_boot()?;
        let journal = SharedJournal(Arc::new(Mutex::new(journal)));
        let (sender, receiver) = mpsc::channel();
        let recorder =
            Recorder::start(journal.clone(), boot, sender.clone()).map_err(OtaError::Thread)?;
        Ok(Self {
            journal,
            boot,
            sender,
            receiver,
            recorder,
        })
    }

    /// Where observations, profiles and events go.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Where the host reports the verdicts of trials.
    #[must_use]
    pub fn reports(&self) -> HostReports {
        HostReports(self.sender.clone())
    }

    /// Number of this start of the agent.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Resumes, and returns when what is committed has been loaded, or could not be.
    ///
    /// # Errors
    /// [`OtaError`] when the durable state cannot be read or a thread cannot be made.
    pub fn start(self, options: Options, host: Arc<dyn ModelHost>) -> Result<Driver, OtaError> {
        let (outgoing_in, outgoing) = tokio::sync::mpsc::channel(OUTGOING);
        let config = Config {
            device: options.member.device().clone(),
            root: options.root,
            boot: self.boot,
            built_unix_s: options.built_unix_s,
            platform: options.platform,
            timing: options.timing,
        };
        let recorder = self.recorder.clone();
        let started = driver::start(
            driver::Parts {
                config,
                member: options.member,
                outbox: options.outbox,
                journal: self.journal,
                recorder: self.recorder,
                outgoing: outgoing_in,
                sender: self.sender.clone(),
                receiver: self.receiver,
            },
            host,
        )?;
        Ok(Driver {
            sender: self.sender,
            outgoing: Some(outgoing),
            snapshot: started.snapshot,
            trust: started.trust,
            thread: Some(started.thread),
            recorder,
        })
    }
}

/// Both ends that a link needs.
#[derive(Debug)]
pub struct LinkEnds {
    /// What to send.
    pub outgoing: tokio::sync::mpsc::Receiver<Outgoing>,
    /// Where to put what came.
    pub input: mpsc::Sender<Input>,
}

/// The running update life cycle.
#[derive(Debug)]
pub struct Driver {
    sender: mpsc::Sender<Input>,
    outgoing: Option<tokio::sync::mpsc::Receiver<Outgoing>>,
    snapshot: Arc<Mutex<Snapshot>>,
    trust: Trust,
    thread: Option<JoinHandle<()>>,
    recorder: Recorder,
}

impl Driver {
    /// The ends of the link; there are none after the first call.
    pub fn link_ends(&mut self) -> Option<LinkEnds> {
        Some(LinkEnds {
            outgoing: self.outgoing.take()?,
            input: self.sender.clone(),
        })
    }

    /// Root and time as the update life cycle knows them.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// How things stand.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.snapshot.lock();
        snapshot.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops in good order: an attempt under way is not held against the candidate, and all
    /// records are on the disk when this returns.
    pub fn stop(mut self) {
        // The driver is gone already if this fails.
        let _ = self.sender.send(Input::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
        self.recorder.close();
    }
}

#[cfg(test)]
mod tests;
