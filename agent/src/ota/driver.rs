//! The thread that owns machine and outbox: input in, persist, effects out.
//!
//! After each event the durable state is on the disk before the first effect is performed.
//! While it cannot be written, nothing is performed and nothing further is decided; inference
//! and recording go on in their own threads. A power cut anywhere is a restart at
//! [`drover_agent_core::Event::Resumed`].

mod effect;
mod outbox;
mod trust;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use drover_agent_core::{
    Config, Ctx, Durable, Effect, Event, Machine, Outbox, OutboxConfig, OutboxEvent, Stored,
    VerifiedDown,
};
use drover_wire::chunk::Chunk;
use drover_wire::message::{self, Body, Down};
use tokio::sync::mpsc::Sender;

use super::jobs::{self, Job};
use super::library::Library;
use super::{
    Input, LoadFailure, ModelHost, OtaError, Outgoing, Recorder, SharedJournal, Snapshot, Unloaded,
    transfer,
};
use crate::clock::Monotonic;
use crate::exchange::ContentKeys;
use crate::identity::Membership;
use crate::trust::Trust;

/// State cell of the machine.
pub(crate) const CELL: &str = "machine";
/// Longest time without a look at the timers.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Wait before the durable state is written once more.
const PERSIST_AGAIN: Duration = Duration::from_secs(1);

/// What the driver is made of.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) member: Arc<Membership>,
    pub(super) outbox: OutboxConfig,
    pub(super) journal: SharedJournal,
    pub(super) recorder: Recorder,
    pub(super) outgoing: Sender<Outgoing>,
    pub(super) sender: mpsc::Sender<Input>,
    pub(super) receiver: mpsc::Receiver<Input>,
}

/// A driver that has resumed.
pub(super) struct Started {
    pub(super) snapshot: Arc<Mutex<Snapshot>>,
    pub(super) trust: Trust,
    pub(super) thread: JoinHandle<()>,
}

/// Resumes and starts the thread.
pub(super) fn start(parts: Parts, host: Arc<dyn ModelHost>) -> Result<Started, OtaError> {
    let clock = Monotonic::start();
    let stored = parts.journal.with(|j| j.load_state(CELL))?;
    let lost = parts.journal.with(|j| j.salvage().corrupt_records);
    let (durable, damage) = match stored.as_deref().map(Durable::decode) {
        None => (Durable::default(), None),
        Some(Ok(durable)) => (durable, None),
        Some(Err(error)) => (Durable::default(), Some(error)),
    };
    // The power went between the two steps of a move to another fleet.
    if transfer::has_left(&durable, &parts.config.root) {
        transfer::forget_records(&parts.journal)?;
    }
    let machine = Machine::new(parts.config.clone(), durable, clock.now_ms());
    let trust = Trust::new(
        machine.root().clone(),
        machine.trusted_now_s(clock.now_ms()),
    );
    let library = Library {
        journal: parts.journal.clone(),
        trust: trust.clone(),
        first_root: parts.config.root.clone(),
    };
    let jobs =
        jobs::start(library.clone(), host, parts.sender.clone()).map_err(OtaError::Thread)?;
    let snapshot = Arc::new(Mutex::new(Snapshot {
        state: machine.state(),
        connected: false,
        outbox_records: 0,
        counters: machine.counters(),
        unsendable: 0,
        undecryptable: 0,
    }));
    let driver = Driver {
        clock,
        machine,
        outbox: Outbox::new(parts.outbox),
        library,
        content: ContentKeys::new(parts.member.key()),
        undecryptable: 0,
        config: parts.config,
        outbox_config: parts.outbox,
        member: parts.member,
        moving: false,
        recorder: parts.recorder,
        outgoing: parts.outgoing,
        jobs,
        sender: parts.sender,
        receiver: parts.receiver,
        backlog: VecDeque::new(),
        connected: false,
        is_first_start: stored.is_none(),
        snapshot: Arc::clone(&snapshot),
    };
    driver.note(message::Event::Started {
        agent_version: env!("CARGO_PKG_VERSION").into(),
    });
    if lost > 0 {
        driver.note(message::Event::Salvaged { lost });
    }
    if let Some(error) = damage {
        tracing::error!(%error, "the stored update state is not readable; starting without it");
        driver.note(message::Event::Salvaged { lost: 1 });
    }
    let (done, reached) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("updates".into())
        .spawn(move || driver.run(&done))
        .map_err(OtaError::Thread)?;
    reached.recv().map_err(|_| OtaError::Died)?;
    Ok(Started {
        snapshot,
        trust,
        thread,
    })
}

struct Driver {
    clock: Monotonic,
    machine: Machine,
    outbox: Outbox,
    library: Library,
    content: ContentKeys,
    undecryptable: u64,
    config: Config,
    outbox_config: OutboxConfig,
    member: Arc<Membership>,
    /// A new fleet is being asked to take the device.
    moving: bool,
    recorder: Recorder,
    outgoing: Sender<Outgoing>,
    jobs: mpsc::Sender<Job>,
    sender: mpsc::Sender<Input>,
    receiver: mpsc::Receiver<Input>,
    /// Inputs that came while the durable state could not be written.
    backlog: VecDeque<Input>,
    connected: bool,
    /// Nothing was in the state cell.
    is_first_start: bool,
    snapshot: Arc<Mutex<Snapshot>>,
}

/// The agent stops.
struct Stop;

/// What the machine asks, and what it wants done.
struct Step {
    now_ms: u64,
    effects: Vec<Effect>,
}

impl Ctx for Step {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn random(&mut self) -> u64 {
        random()
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// For jitter; without a source of randomness the waits are merely not spread.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

impl Driver {
    fn run(mut self, resumed: &mpsc::Sender<()>) {
        let Err(Stop) = self.serve(resumed);
        // The machine's last word; if it cannot be written, an attempt counts as failed.
        let mut step = self.step();
        self.machine.on(&mut step, Event::Stopping);
        if let Some(bytes) = self.machine.take_dirty()
            && let Err(error) = self.save(&bytes)
        {
            tracing::warn!(
                error = crate::chain(&error),
                "cannot write the update state"
            );
        }
    }

    fn serve(&mut self, resumed: &mpsc::Sender<()>) -> Result<std::convert::Infallible, Stop> {
        let stored = self.stored();
        self.on(Event::Resumed(stored))?;
        if self.is_first_start {
            // Later ones have it in the durable state, where a new root may take it back.
            let unix_s = self.member.current().time_floor_s;
            self.on(Event::Time { unix_s })?;
        }
        // Answered once the host has loaded what is committed.
        self.job(Job::Reached(resumed.clone()));
        loop {
            self.show();
            let input = match self.backlog.pop_front() {
                Some(input) => Some(input),
                None => match self.receiver.recv_timeout(self.wait()) {
                    Ok(input) => Some(input),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Stop),
                },
            };
            match input {
                Some(input) => self.take(input)?,
                None => {
                    self.on(Event::Tick)?;
                    self.send(OutboxEvent::Tick);
                }
            }
        }
    }

    /// What lies on the disk at a start.
    fn stored(&self) -> Stored {
        let candidate = self.machine.durable().candidate.as_ref();
        let digest = candidate.map(|c| c.digest);
        let bundles = self.library.journal.with(|j| j.list_bundles());
        Stored {
            manifest: digest.and_then(|d| self.library.manifest(&d)),
            chunks: digest.map_or_else(Vec::new, |d| self.library.chunks(&d)),
            bundles: bundles
                .unwrap_or_default()
                .into_iter()
                .map(|entry| entry.digest)
                .collect(),
        }
    }

    fn take(&mut self, input: Input) -> Result<(), Stop> {
        match input {
            Input::Connected => {
                self.connected = true;
                self.on(Event::Connected)?;
                self.send(OutboxEvent::Connected);
            }
            Input::Disconnected => {
                self.connected = false;
                self.on(Event::Disconnected)?;
                self.send(OutboxEvent::Disconnected);
            }
            Input::Message { bytes, permit } => {
                self.message(&bytes)?;
                drop(permit);
            }
            Input::Chunk {
                digest,
                bytes,
                permit,
            } => {
                if let Some(chunk) = Chunk::decode(&bytes) {
                    self.chunk(digest, &chunk)?;
                }
                drop(permit);
            }
            Input::Roots { bytes, permit } => {
                self.on(Event::Roots { bytes })?;
                drop(permit);
            }
            Input::Granted(renewed) => self.granted(renewed)?,
            Input::Joined(outcome) => {
                self.moving = false;
                match outcome {
                    Ok(enrolment) => self.joined(*enrolment)?,
                    Err(error) => tracing::error!(
                        error = crate::chain(&error),
                        "the new fleet did not take this device; it stays in the old one"
                    ),
                }
            }
            Input::TrialPassed { digest } => self.on(Event::TrialPassed { digest })?,
            Input::TrialFailed { digest, detail } => {
                self.on(Event::TrialFailed { digest, detail })?;
            }
            Input::Loaded { digest, outcome } => {
                let event = match outcome {
                    Ok(()) => Event::Loaded { digest },
                    Err(Unloaded::Incomplete) => Event::Incomplete {
                        digest,
                        chunks: self.library.chunks(&digest),
                    },
                    Err(Unloaded::Failed(LoadFailure { code, detail })) => Event::LoadFailed {
                        digest,
                        code,
                        detail,
                    },
                };
                self.on(event)?;
            }
            Input::ActiveLost {
                digest,
                code,
                detail,
            } => self.on(Event::ActiveLost {
                digest,
                code,
                detail,
            })?,
            Input::Appended => self.send(OutboxEvent::Appended),
            Input::Stop => return Err(Stop),
        }
        Ok(())
    }

    /// A message on the device's topic.
    fn message(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        match VerifiedDown::open(bytes, self.machine.root(), self.member.device()) {
            Ok(down) => {
                let ack = match down.message() {
                    Down::Ack(ack) => Some(ack.clone()),
                    _ => None,
                };
                self.on(Event::Down(down))?;
                if let Some(ack) = ack {
                    self.send(OutboxEvent::Ack(ack));
                }
                Ok(())
            }
            Err(error) => self.on(Event::Rejected {
                code: error.code(),
                detail: crate::chain(&error),
            }),
        }
    }

    /// One event, and those that its effects answer with.
    fn on(&mut self, event: Event) -> Result<(), Stop> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut step = self.step();
            self.machine.on(&mut step, event);
            if let Some(bytes) = self.machine.take_dirty() {
                self.persist(&bytes)?;
            }
            for effect in step.effects {
                events.extend(self.perform(effect));
            }
        }
        Ok(())
    }

    fn step(&self) -> Step {
        Step {
            now_ms: self.clock.now_ms(),
            effects: Vec::new(),
        }
    }

    fn save(&self, bytes: &[u8]) -> Result<(), drover_agent_store::StoreError> {
        self.library.journal.with(|j| j.save_state(CELL, bytes))
    }

    /// Writes the durable state, however long it takes.
    fn persist(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut reported = false;
        while let Err(error) = self.save(bytes) {
            if !std::mem::replace(&mut reported, true) {
                tracing::error!(
                    error = crate::chain(&error),
                    "cannot write the update state; updates wait"
                );
            }
            match self.receiver.recv_timeout(PERSIST_AGAIN) {
                Ok(Input::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Stop),
                Ok(input) => self.backlog.push_back(input),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(())
    }

    fn note(&self, event: message::Event) {
        tracing::info!(?event, "noted");
        if let Err(error) = self.recorder.record(Body::Event(event)) {
            tracing::warn!(error = crate::chain(&error), "an event is lost");
        }
    }

    fn out(&self, outgoing: Outgoing) {
        // A link that does not keep up loses messages; all of them are sent again.
        if self.outgoing.try_send(outgoing).is_err() {
            tracing::debug!("a message to the link was dropped");
        }
    }

    fn job(&self, job: Job) {
        // Its thread ends only after this one.
        let _ = self.jobs.send(job);
    }

    /// Until the next timer.
    fn wait(&self) -> Duration {
        let timers = [self.machine.deadline(), self.outbox.deadline()];
        let due = timers.into_iter().flatten().min();
        due.map_or(MAX_WAIT, |at| {
            let wait = at.saturating_sub(self.clock.now_ms());
            Duration::from_millis(wait).min(MAX_WAIT)
        })
    }

    fn show(&self) {
        let shown = Snapshot {
            state: self.machine.state(),
            connected: self.connected,
            outbox_records: self.library.journal.with(|j| j.len()),
            counters: self.machine.counters(),
            unsendable: self.outbox.unsendable(),
            undecryptable: self.undecryptable,
        };
        let now_s = self.machine.trusted_now_s(self.clock.now_ms());
        self.library.trust.set_time(now_s);
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

/// Logs a failure that mends itself; whether there was none.
fn warn<T>(outcome: Result<T, drover_agent_store::StoreError>, what: &str) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(error = crate::chain(&error), "cannot {what}");
            false
        }
    }
}
