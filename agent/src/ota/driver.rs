//! The thread that owns machine and outbox: input in, persist, effects out.
//!
//! After each event the durable state is on the disk before the first effect is performed.
//! While it cannot be written, nothing is performed and nothing further is decided; inference
//! and recording go on in their own threads. A power cut anywhere is a restart at
//! [`drover_agent_core::Event::Resumed`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use drover_agent_core::{
    Config, Ctx, Durable, Effect, Event, Key, Machine, Outbox, OutboxConfig, OutboxEffect,
    OutboxEvent, Stored, VerifiedDown,
};
use drover_agent_store::RecordKey;
use drover_bundle::VerifiedManifest;
use drover_trust::mutation::{Check, is_disabled};
use drover_wire::chunk::Chunk;
use drover_wire::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};
use drover_wire::message::{self, Ack, Body, Down, RootChain, Up};
use tokio::sync::mpsc::Sender;

use super::jobs::{self, Job};
use super::library::{Library, Unstaged};
use super::{
    Input, LoadFailure, ModelHost, OtaError, Outgoing, Recorder, SharedJournal, Snapshot, Unloaded,
    transfer,
};
use crate::clock::Monotonic;
use crate::exchange::{ContentKeys, Opened};
use crate::identity::{Enrolment, Membership};
use crate::renew::Renewed;
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
        outbox: Outbox::new(parts.outbox.clone()),
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

    fn chunk(&mut self, digest: message::Digest, chunk: &Chunk<'_>) -> Result<(), Stop> {
        let index = chunk.index;
        match self.content.open(&digest, index, chunk.bytes) {
            Opened::Content(bytes) => self.on(Event::Chunk {
                digest,
                index,
                bytes,
            }),
            Opened::KeyMissing => self.on(Event::KeyMissing { digest }),
            Opened::Damaged => {
                self.undecryptable += 1;
                // The first, then ever more rarely.
                if self.undecryptable.is_power_of_two() {
                    tracing::warn!(
                        index,
                        "{} chunks could not be decrypted so far",
                        self.undecryptable
                    );
                }
                Ok(())
            }
        }
    }

    /// The roots that came with a certificate; one after the other, since all at once may be
    /// more than a message holds.
    fn granted(&mut self, renewed: Renewed) -> Result<(), Stop> {
        for root in renewed.roots {
            let chain = RootChain { roots: vec![root] };
            match chain.encode() {
                Ok(bytes) => self.on(Event::Roots { bytes })?,
                Err(error) => tracing::warn!(error = crate::chain(&error), "a root is too large"),
            }
        }
        Ok(())
    }

    /// The device belongs to another fleet from now on. What is committed runs on; all else
    /// was the old fleet's, and so are the records.
    fn joined(&mut self, enrolment: Enrolment) -> Result<(), Stop> {
        let root = match enrolment.root() {
            Ok(root) => root,
            Err(error) => {
                tracing::error!(
                    error = crate::chain(&error),
                    "the new fleet's root is damaged"
                );
                return Ok(());
            }
        };
        // A power cut after this is found at the next start, by the root's fleet.
        if let Err(error) = self.member.join(enrolment) {
            tracing::error!(
                error = crate::chain(&error),
                "the device stays in its fleet"
            );
            return Ok(());
        }
        tracing::info!(fleet = root.root().fleet, "moved to another fleet");
        self.job(Job::DropCandidate);
        if let Err(error) = transfer::forget_records(&self.library.journal) {
            tracing::warn!(error = crate::chain(&error), "cannot remove records");
        }
        self.config.root = root.clone();
        self.library.first_root = root;
        let durable = self.machine.durable().clone();
        self.machine = Machine::new(self.config.clone(), durable, self.clock.now_ms());
        self.outbox = Outbox::new(self.outbox_config.clone());
        self.content = ContentKeys::new(self.member.key());
        self.connected = false;
        self.library.trust.set_root(self.machine.root().clone());
        let stored = self.stored();
        self.on(Event::Resumed(stored))
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

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Publish(message) => self.out(Outgoing::Publish(message)),
            Effect::Subscribe { digest } => self.out(Outgoing::Subscribe(digest)),
            Effect::Unsubscribe { digest } => self.out(Outgoing::Unsubscribe(digest)),
            Effect::StoreManifest { digest, envelope } => {
                if let Ok(verified) = VerifiedManifest::committed(&envelope, &digest) {
                    let manifest = verified.manifest();
                    let chunk = manifest.chunking.chunk_bytes;
                    self.content.expect(digest, chunk, manifest.total_bytes());
                }
                // Staging stores it once more; until then a restart asks for it again.
                warn(
                    self.library.store_manifest(&digest, &envelope),
                    "store a manifest",
                );
            }
            Effect::StoreChunk {
                digest,
                index,
                bytes,
            } => {
                let journal = &self.library.journal;
                let stored = journal.with(|j| j.put_chunk(&digest, index, &bytes));
                if warn(stored, "store a chunk") {
                    return Some(Event::ChunkStored { digest, index });
                }
            }
            Effect::Stage { manifest, envelope } => {
                return Some(self.stage(&manifest, &envelope));
            }
            Effect::DropChunks { digest } => {
                let dropped = self.library.journal.with(|j| j.drop_chunks(&digest));
                warn(dropped, "remove chunks");
            }
            Effect::LoadCandidate { digest } => self.job(Job::LoadCandidate(digest)),
            Effect::StartTrial { digest } => self.job(Job::StartTrial(digest)),
            Effect::Activate { digest } => self.job(Job::Activate(digest)),
            Effect::LoadCommitted { digest } => self.job(Job::LoadCommitted(digest)),
            Effect::Deactivate => self.job(Job::Deactivate),
            Effect::DropCandidate => self.job(Job::DropCandidate),
            Effect::RemoveBundle { digest } => {
                // What is left is removed at the next start.
                let removed = self.library.journal.with(|j| j.remove_bundle(&digest));
                warn(removed, "remove a bundle");
            }
            Effect::RootChanged(root) => {
                tracing::info!(version = root.root().version, "follows a new root");
                self.library.trust.set_root(root);
            }
            Effect::ContentKey {
                digest,
                encapsulated,
                wrapped,
            } => {
                if !self.content.take(digest, &encapsulated, &wrapped) {
                    tracing::warn!("a content key is not for this device, or damaged");
                }
            }
            Effect::Transfer(voucher) => self.transfer(*voucher),
            Effect::Record(event) => self.note(event),
        }
        None
    }

    /// Asks the new fleet; the answer is an input.
    fn transfer(&mut self, voucher: drover_trust::Voucher) {
        if std::mem::replace(&mut self.moving, true) {
            return;
        }
        let member = Arc::clone(&self.member);
        let sender = self.sender.clone();
        let asked = std::thread::Builder::new()
            .name("transfer".into())
            .spawn(move || {
                let joined = transfer::join(&voucher, member.key());
                // The driver is gone when the agent stops.
                let _ = sender.send(Input::Joined(joined.map(Box::new)));
            });
        if let Err(error) = asked {
            tracing::error!(%error, "cannot ask the new fleet");
            self.moving = false;
        }
    }

    fn stage(&self, manifest: &VerifiedManifest, envelope: &[u8]) -> Event {
        let digest = *manifest.digest();
        match self.library.stage(manifest, envelope) {
            Ok(()) => Event::Staged { digest },
            Err(Unstaged::Incomplete) => Event::Incomplete {
                digest,
                chunks: self.library.chunks(&digest),
            },
            Err(Unstaged::Failed(code, detail)) => Event::StageFailed {
                digest,
                code,
                detail,
            },
        }
    }

    /// One event for the outbox, and the pages that it asks for.
    fn send(&mut self, event: OutboxEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.outbox.on(self.clock.now_ms(), random(), event) {
                match effect {
                    OutboxEffect::Read { after } => events.push_back(self.page(after)),
                    OutboxEffect::Publish(message) => {
                        events.extend(taken_for_granted(&message));
                        self.out(Outgoing::Publish(message));
                    }
                    OutboxEffect::Remove { boot, first, last } => {
                        let journal = &self.library.journal;
                        let removed = journal.with(|j| j.remove_range(boot, first..=last));
                        // It is sent and acknowledged once more.
                        warn(removed, "remove records");
                    }
                }
            }
        }
    }

    fn page(&self, after: Option<Key>) -> OutboxEvent {
        let from = after.map(|key| RecordKey {
            boot: key.boot,
            seq: key.sequence,
        });
        // Nothing is sent that a power cut could still take back.
        let page = self.recorder.flush().and_then(|()| {
            let bytes = MAX_BATCH_BYTES as u64;
            self.library
                .journal
                .with(|j| j.oldest(MAX_BATCH_RECORDS, bytes, from))
        });
        let records = page.unwrap_or_else(|error| {
            tracing::warn!(error = crate::chain(&error), "cannot read records");
            Vec::new()
        });
        let key = |key: RecordKey| Key {
            boot: key.boot,
            sequence: key.seq,
        };
        OutboxEvent::Page {
            after,
            records: records.into_iter().map(|(k, r)| (key(k), r)).collect(),
        }
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

/// Takes sending for delivery: what a device must not do, and does not but in a test build
/// that switches the check off.
fn taken_for_granted(message: &Up) -> Option<OutboxEvent> {
    match message {
        Up::Batch(batch) if is_disabled(Check::LostReports) => {
            let sequences = batch.records.iter().map(|r| r.sequence);
            Some(OutboxEvent::Ack(Ack::of(batch.boot, sequences)))
        }
        _ => None,
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
