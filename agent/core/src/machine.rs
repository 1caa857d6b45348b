//! The state machine of the update life cycle: one phase, one table of phase and event.
//!
//! It decides what a device may run and when; it never loads, stores or sends anything
//! itself. Whatever it decides stands in [`Durable`] before an effect follows from it, so a
//! power cut at any point leaves the device on the old or the new bundle. Expiry stops only
//! the acceptance of instructions, never what runs or is under way.
//!
//! Two floors keep old bundles away, and they differ. The *counter* floor of a model name is
//! raised by each commit and judges what is assigned: a server, honest or not, cannot order a
//! device back to a release that it has left behind. The *epoch* floor is raised when a
//! bundle of a higher security epoch is committed and judges everything, the local fall-back
//! to the previous bundle too: falling back for its health is the device's own decision about
//! a bundle that it ran before, so a lower counter is no obstacle, but a bundle from before a
//! security release never runs again. Then the device runs nothing (safe mode) and waits for
//! an update.

mod assign;
mod attempt;
mod fetch;
mod pace;
mod report;
mod trust;

use drover_bundle::VerifiedManifest;
use drover_trust::mutation::{Check, is_disabled};
use drover_trust::{DeviceId, TrustedRoot};
use drover_wire::message::{Digest, Down, FailureCode, Up};

use crate::backoff::Backoff;
use crate::time::TrustedTime;
use crate::{Candidate, Ctx, Durable, Effect, Event, Progress};
use fetch::Fetch;
use report::Limiter;

/// A floor that moved on by less than this is persisted together with the next other change.
const PERSIST_FLOOR_EVERY_S: u64 = 300;

/// Who and where the device is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity of the device.
    pub device: DeviceId,
    /// Whose signatures count at first; a newer root in the durable state comes before it.
    pub root: TrustedRoot,
    /// Number of this start of the agent.
    pub boot: u64,
    /// When this agent was built, in seconds since 1970; it is later than that.
    pub built_unix_s: u64,
    /// What the device offers.
    pub platform: Platform,
    /// Waiting times.
    pub timing: Timing,
}

/// What a device offers to bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Version of the agent.
    pub agent_version: String,
    /// Architecture, as Rust names it.
    pub arch: String,
    /// Memory of the board, in bytes.
    pub memory_bytes: u64,
    /// Memory that one loaded model may take, in bytes.
    pub model_memory_bytes: u64,
    /// Engines that this build has.
    pub engines: Vec<String>,
}

/// Waiting times, in milliseconds, and the least rate of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// First wait for an answer of the server; it doubles.
    pub request_base_ms: u64,
    /// Longest wait for an answer of the server.
    pub request_cap_ms: u64,
    /// Wait before a candidate that failed is tried once more.
    pub attempt_ms: u64,
    /// Length of the windows over which the rate of a download is judged.
    pub rate_window_ms: u64,
    /// Chunks that must come in each window.
    pub least_chunks_per_window: u32,
    /// Longest time for all chunks of a bundle, before the download pauses.
    pub download_deadline_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            request_base_ms: 4_000,
            request_cap_ms: 120_000,
            attempt_ms: 30_000,
            rate_window_ms: 300_000,
            least_chunks_per_window: 4,
            download_deadline_ms: 6 * 3_600_000,
        }
    }
}

/// What was not acted on, since this start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that mean nothing in their phase, or for a candidate that is gone.
    pub ignored: u64,
    /// Instructions, manifests and chunks that were refused.
    pub refused: u64,
}

/// Where the candidate is, with what only this process knows of it.
#[derive(Debug)]
enum Phase {
    /// [`Event::Resumed`] has not come.
    Asleep,
    /// There is no candidate.
    Idle,
    /// The manifest is missing; these chunks lie on the disk since an earlier start.
    Manifest { chunks: Vec<u32> },
    /// Chunks are missing.
    Chunks(Fetch),
    /// All chunks are here and become files; with a timer, after the disk was full.
    Staging(Box<VerifiedManifest>),
    /// The host loads the candidate; with a timer, it will do so again.
    Loading,
    /// The candidate runs beside the active model.
    Trial,
}

/// [`Phase`] without its data, for the table.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Asleep,
    Idle,
    Manifest,
    Chunks,
    Staging,
    Loading,
    Trial,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    root: TrustedRoot,
    durable: Durable,
    dirty: bool,
    phase: Phase,
    connected: bool,
    time: TrustedTime,
    backoff: Backoff,
    /// When the phase's pending request or attempt is repeated.
    retry_at: Option<u64>,
    /// When loading what is committed is tried again.
    reload_at: Option<u64>,
    /// Waits after a source was too slow.
    pauses: Backoff,
    /// The candidate's manifest as its encoded envelope, once it was verified.
    manifest: Option<Vec<u8>>,
    limiter: Limiter,
    counters: Counters,
}

impl Machine {
    /// A machine on what the last start left; [`Event::Resumed`] is its first event.
    #[must_use]
    pub fn new(config: Config, mut durable: Durable, now_ms: u64) -> Self {
        let (root, dirty) = trust::start(&config, &mut durable);
        let floor_s = durable.time_floor_s.max(trust::earliest(&config, &root));
        let timing = config.timing;
        let longest_pause = timing.request_cap_ms.saturating_mul(8);
        Self {
            config,
            root,
            durable,
            dirty,
            phase: Phase::Asleep,
            connected: false,
            time: TrustedTime::new(floor_s, now_ms),
            backoff: Backoff::new(timing.request_base_ms, timing.request_cap_ms),
            retry_at: None,
            reload_at: None,
            pauses: Backoff::new(timing.request_cap_ms, longest_pause),
            manifest: None,
            limiter: Limiter::new(now_ms),
            counters: Counters::default(),
        }
    }

    /// The durable state, encoded, if it changed since the last call. It is to be persisted
    /// before any effect of the event is performed.
    pub fn take_dirty(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.dirty).then(|| self.durable.encode())
    }

    /// The durable state.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// What was not acted on.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// When [`Event::Tick`] is due, on the clock of [`Ctx::now_ms`].
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let pace = match &self.phase {
            Phase::Chunks(fetch) if self.connected => fetch.pace_deadline(&self.config.timing),
            _ => None,
        };
        let timers = [self.retry_at, self.reload_at, pace];
        timers.into_iter().flatten().min()
    }

    /// Takes one event.
    pub fn on(&mut self, ctx: &mut impl Ctx, event: Event) {
        use {Event as E, Kind as K};
        if let Some(digest) = event.candidate()
            && !self.is_candidate(digest)
        {
            return self.ignore();
        }
        match (self.kind(), event) {
            (K::Asleep, E::Resumed(stored)) => self.resume(ctx, stored),
            (
                K::Idle | K::Manifest | K::Chunks | K::Staging | K::Loading | K::Trial,
                E::Resumed(_),
            ) => self.ignore(),
            // The link may be faster than the disk; hello is said after the resumption.
            (_, E::Connected) => {
                self.connected = true;
                self.start_pace(ctx.now_ms());
                self.greet(ctx);
            }
            (_, E::Disconnected) => self.connected = false,
            (_, E::Rejected { code, detail }) => self.refuse(ctx, None, code, detail),
            // Nothing may be judged before the driver has shown what there is. Each of these
            // comes again by itself.
            (
                K::Asleep,
                E::Down(_)
                | E::Roots { .. }
                | E::Time { .. }
                | E::Chunk { .. }
                | E::KeyMissing { .. }
                | E::ChunkStored { .. }
                | E::ChunkLost { .. }
                | E::Staged { .. }
                | E::Incomplete { .. }
                | E::StageFailed { .. }
                | E::Loaded { .. }
                | E::LoadFailed { .. }
                | E::TrialPassed { .. }
                | E::TrialFailed { .. }
                | E::ActiveLost { .. }
                | E::Tick
                | E::Stopping,
            ) => self.ignore(),
            (_, E::Down(down)) => {
                self.hear_time(ctx, down.sent_unix_s());
                self.on_down(ctx, down.into_message());
            }
            (_, E::Roots { bytes }) => self.follow_roots(ctx, &bytes),
            (_, E::Time { unix_s }) => self.hear_time(ctx, unix_s),
            (
                _,
                E::ActiveLost {
                    digest,
                    code,
                    detail,
                },
            ) => self.lose_active(ctx, digest, code, detail),
            (_, E::Tick) => self.tick(ctx),
            (_, E::Stopping) => self.stop(),

            (K::Chunks, E::Chunk { index, bytes, .. }) => self.take_chunk(ctx, index, bytes),
            (K::Chunks, E::KeyMissing { digest }) => self.ask_for_key(ctx, digest),
            (K::Chunks, E::ChunkStored { index, .. }) => self.count_chunk(ctx, index),
            (K::Chunks, E::ChunkLost { digest, detail }) => {
                self.refuse(ctx, Some(digest), FailureCode::StorageFull, detail);
            }
            // Late copies of chunks that are here already, or of a manifest that must be
            // fetched anew after damage.
            (
                K::Idle | K::Manifest | K::Staging | K::Loading | K::Trial,
                E::Chunk { .. }
                | E::ChunkStored { .. }
                | E::ChunkLost { .. }
                | E::KeyMissing { .. },
            ) => self.ignore(),

            (K::Staging, E::Staged { .. }) => self.begin_attempt(ctx),
            (K::Staging, E::StageFailed { code, detail, .. }) => {
                self.stage_failed(ctx, code, detail);
            }
            (K::Staging | K::Loading, E::Incomplete { chunks, .. }) => {
                self.fetch_again(ctx, chunks);
            }
            (K::Loading, E::Loaded { .. }) => self.start_trial(ctx),
            // In a trial: the host answers for an earlier load of the same bundle, and the
            // one that the trial rests on failed.
            (K::Loading | K::Trial, E::LoadFailed { code, detail, .. }) => {
                self.load_failed(ctx, code, detail);
            }
            (K::Trial, E::TrialPassed { .. }) => self.commit(ctx),
            (K::Trial, E::TrialFailed { detail, .. }) => self.trial_failed(ctx, detail),

            // Answers to an effect of an earlier try at the same bundle.
            (
                K::Idle | K::Manifest | K::Chunks | K::Loading | K::Trial,
                E::Staged { .. } | E::StageFailed { .. },
            )
            | (K::Idle | K::Manifest | K::Chunks | K::Trial, E::Incomplete { .. })
            | (K::Idle | K::Manifest | K::Chunks | K::Staging | K::Trial, E::Loaded { .. })
            | (K::Idle | K::Manifest | K::Chunks | K::Staging, E::LoadFailed { .. })
            | (
                K::Idle | K::Manifest | K::Chunks | K::Staging | K::Loading,
                E::TrialPassed { .. } | E::TrialFailed { .. },
            ) => self.ignore(),
        }
    }

    fn on_down(&mut self, ctx: &mut impl Ctx, message: Down) {
        use Kind as K;
        match (self.kind(), message) {
            (
                _,
                Down::Desired {
                    assignment,
                    catalog,
                },
            ) => self.desire(ctx, assignment, &catalog),
            (_, Down::Assignment { .. }) => {
                let detail = "assignment: no catalog came with it".into();
                self.refuse(ctx, None, FailureCode::Unlisted, detail);
            }
            (_, Down::Transfer { voucher }) => self.transfer(ctx, &voucher),
            (
                _,
                Down::ContentKey {
                    digest,
                    encapsulated,
                    wrapped,
                },
            ) if self.is_candidate(&digest) => ctx.effect(Effect::ContentKey {
                digest,
                encapsulated,
                wrapped,
            }),
            (_, Down::ContentKey { .. }) => self.ignore(),
            (K::Manifest, Down::Manifest { digest, envelope }) if self.is_candidate(&digest) => {
                self.take_manifest(ctx, &envelope);
            }
            (_, Down::Manifest { .. }) => self.ignore(),
            // The outbox takes these.
            (_, Down::Ack(_)) => {}
            (_, Down::Resync) => self.greet(ctx),
            // It may be published later; the timer asks again.
            (_, Down::Unknown { .. }) => self.ignore(),
        }
    }

    fn tick(&mut self, ctx: &mut impl Ctx) {
        let now_ms = ctx.now_ms();
        let due = |at: &mut u64| *at <= now_ms;
        if self.reload_at.is_some_and(|at| at <= now_ms)
            && let Some(active) = &self.durable.active
        {
            // A further failure sets it again; no success is heard of.
            self.reload_at = Some(u64::MAX);
            ctx.effect(Effect::LoadCommitted {
                digest: active.running.digest,
            });
        }
        if self.judge_pace(ctx) || self.retry_at.take_if(due).is_none() {
            return;
        }
        match &self.phase {
            Phase::Chunks(fetch) if fetch.is_paused() => self.resume_download(ctx),
            Phase::Manifest { .. } | Phase::Chunks(_) => self.request(ctx),
            Phase::Staging(_) => self.stage(ctx),
            Phase::Loading => self.begin_attempt(ctx),
            Phase::Asleep | Phase::Idle | Phase::Trial => {}
        }
    }

    /// Says who the device is and where it stands, and takes up what waits for the server.
    fn greet(&mut self, ctx: &mut impl Ctx) {
        if matches!(self.phase, Phase::Asleep) {
            return;
        }
        self.report_trust(ctx);
        let hello = Up::Hello(self.hello());
        self.publish(ctx, hello);
        self.report(ctx);
        match (&self.phase, &self.durable.candidate) {
            (Phase::Chunks(fetch), _) if fetch.is_paused() => return,
            (Phase::Chunks(_), Some(candidate)) => ctx.effect(Effect::Subscribe {
                digest: candidate.digest,
            }),
            _ => {}
        }
        if matches!(self.phase, Phase::Manifest { .. } | Phase::Chunks(_)) {
            self.backoff.reset();
            self.request(ctx);
        }
    }

    fn publish(&self, ctx: &mut impl Ctx, message: Up) {
        if self.connected {
            ctx.effect(Effect::Publish(message));
        }
    }

    fn kind(&self) -> Kind {
        match self.phase {
            Phase::Asleep => Kind::Asleep,
            Phase::Idle => Kind::Idle,
            Phase::Manifest { .. } => Kind::Manifest,
            Phase::Chunks(_) => Kind::Chunks,
            Phase::Staging(_) => Kind::Staging,
            Phase::Loading => Kind::Loading,
            Phase::Trial => Kind::Trial,
        }
    }

    fn is_candidate(&self, digest: &Digest) -> bool {
        let candidate = self.durable.candidate.as_ref();
        candidate.is_some_and(|c| c.digest == *digest)
    }

    /// Enters a phase of the candidate; what a restart must know of it becomes durable.
    fn enter(&mut self, phase: Phase, progress: Progress) {
        self.phase = phase;
        self.retry_at = None;
        if let Some(candidate) = &mut self.durable.candidate
            && candidate.progress != progress
        {
            candidate.progress = progress;
            self.dirty = true;
        }
    }

    /// The durable state, for a change.
    fn change(&mut self) -> &mut Durable {
        self.dirty = true;
        &mut self.durable
    }

    fn note_floor(&mut self, now_ms: u64) {
        let now_s = self.time.now_s(now_ms);
        // At the end of time there is nothing further to write down.
        let passed_s = now_s.saturating_sub(self.durable.time_floor_s);
        if passed_s >= PERSIST_FLOOR_EVERY_S {
            self.change().time_floor_s = now_s;
        }
        if now_s < self.durable.time_floor_s && is_disabled(Check::TimeFloor) {
            self.change().time_floor_s = now_s;
        }
    }

    fn ignore(&mut self) {
        self.counters.ignored += 1;
    }
}

/// A candidate as an assignment names it.
fn candidate_of(bundle: &drover_trust::AssignedBundle) -> Candidate {
    Candidate {
        digest: bundle.digest,
        name: bundle.name.clone(),
        counter: bundle.counter,
        total_bytes: bundle.total_bytes,
        version: String::new(),
        progress: Progress::Fetching,
        epoch: bundle.epoch,
    }
}
