//! Trying a candidate: load, golden vectors, trial, and then commit or give up.
//!
//! An attempt is counted before it begins and taken back only when it passed or the agent
//! stopped in good order, so a candidate that takes the device down is given up after
//! [`MAX_ATTEMPTS`] starts. A commit is local and final: after it the floors are raised, and
//! nothing that is heard or lost later changes it. Nor does it matter that the assignment, the
//! catalog or the root ended meanwhile.

use drover_trust::mutation::{Check, is_disabled};
use drover_wire::message::{self, Digest, FailureCode, Running, Step};

use super::{Machine, Phase};
use crate::{Ctx, Effect, Progress, Slot};

/// Attempts at one bundle, crashes included, before it is quarantined.
pub(super) const MAX_ATTEMPTS: u8 = 2;

/// What a failure says about further attempts at the same bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It may pass next time.
    Open,
    /// Not as this device is set up now; a new assignment may try again.
    Closed,
    /// Never on this device: its content is to blame.
    Condemned,
}

pub(super) fn outlook(code: FailureCode) -> Outlook {
    match code {
        FailureCode::LoadFailed | FailureCode::TrialFailed | FailureCode::StorageFull => {
            Outlook::Open
        }
        FailureCode::SignatureInvalid
        | FailureCode::Rollback
        | FailureCode::Incompatible
        | FailureCode::Quarantined
        | FailureCode::Expired
        | FailureCode::Frozen
        | FailureCode::Revoked
        | FailureCode::Slow
        | FailureCode::WrongRecipient
        | FailureCode::Unlisted
        | FailureCode::Incomplete
        | FailureCode::RootInvalid => Outlook::Closed,
        FailureCode::Mismatch | FailureCode::GoldenMismatch => Outlook::Condemned,
    }
}

impl Machine {
    /// The files are here: has the candidate loaded and checked.
    pub(super) fn begin_attempt(&mut self, ctx: &mut impl Ctx) {
        let Some(candidate) = &self.durable.candidate else {
            return self.ignore();
        };
        let (digest, progress) = (candidate.digest, candidate.progress);
        if self.durable.failures(&digest) >= MAX_ATTEMPTS {
            let (step, code) = match progress {
                Progress::Trial => (Step::Trial, FailureCode::TrialFailed),
                Progress::Fetching | Progress::Loading => (Step::Load, FailureCode::LoadFailed),
            };
            let detail = "the agent stopped while it tried this bundle, more than once".into();
            return self.fail(ctx, digest, step, code, detail);
        }
        self.change().quarantine_mut(digest).failures += 1;
        self.enter(Phase::Loading, Progress::Loading);
        ctx.effect(Effect::LoadCandidate { digest });
        self.report(ctx);
    }

    /// The candidate is loaded and computes rightly.
    pub(super) fn start_trial(&mut self, ctx: &mut impl Ctx) {
        let Some(digest) = self.durable.candidate.as_ref().map(|c| c.digest) else {
            return self.ignore();
        };
        self.enter(Phase::Trial, Progress::Trial);
        ctx.effect(Effect::DropChunks { digest });
        ctx.effect(Effect::StartTrial { digest });
        self.report(ctx);
    }

    /// The candidate becomes the active bundle.
    pub(super) fn commit(&mut self, ctx: &mut impl Ctx) {
        if is_disabled(Check::ExpiryStopsAcceptanceOnly)
            && let Some(digest) = self.expired_meanwhile(ctx.now_ms())
        {
            let (code, detail) = (FailureCode::Expired, "its assignment ended".into());
            return self.fail(ctx, digest, Step::Trial, code, detail);
        }
        self.phase = Phase::Idle;
        self.retry_at = None;
        self.reload_at = None;
        self.manifest = None;
        let durable = self.change();
        let Some(candidate) = durable.candidate.take() else {
            return self.ignore();
        };
        let running = Running {
            name: candidate.name,
            version: candidate.version,
            digest: candidate.digest,
            counter: candidate.counter,
        };
        let floor = durable.floors.entry(running.name.clone()).or_default();
        *floor = running.counter.max(*floor);
        durable.epoch_floor = candidate.epoch.max(durable.epoch_floor);
        durable.quarantine.remove(&running.digest);
        let former = durable.active.replace(Slot {
            running: running.clone(),
            epoch: candidate.epoch,
            total_bytes: candidate.total_bytes,
        });
        // With nothing to follow, what ran earlier stays for a fall-back.
        let dropped = match former {
            Some(_) => std::mem::replace(&mut durable.previous, former),
            None => durable
                .previous
                .take_if(|slot| slot.running.digest == running.digest),
        };
        ctx.effect(Effect::Activate {
            digest: running.digest,
        });
        self.remove_unless_needed(ctx, dropped.map(|slot| slot.running.digest));
        ctx.effect(Effect::Record(message::Event::Activated(running)));
        self.report(ctx);
        self.report_trust(ctx);
    }

    /// The candidate, if its assignment could not be accepted any more.
    fn expired_meanwhile(&self, now_ms: u64) -> Option<Digest> {
        let assignment = self.assigned()?.ok()?;
        let expired = assignment.expires_unix_s < self.time.now_s(now_ms);
        let candidate = self.durable.candidate.as_ref();
        candidate.map(|c| c.digest).filter(|_| expired)
    }

    /// The candidate does not load, or computes wrongly.
    pub(super) fn load_failed(&mut self, ctx: &mut impl Ctx, code: FailureCode, detail: String) {
        self.attempt_failed(ctx, Step::Load, code, detail);
    }

    /// The candidate failed on live data.
    pub(super) fn trial_failed(&mut self, ctx: &mut impl Ctx, detail: String) {
        self.attempt_failed(ctx, Step::Trial, FailureCode::TrialFailed, detail);
    }

    fn attempt_failed(
        &mut self,
        ctx: &mut impl Ctx,
        step: Step,
        code: FailureCode,
        detail: String,
    ) {
        let Some(digest) = self.durable.candidate.as_ref().map(|c| c.digest) else {
            return self.ignore();
        };
        self.roll_back(ctx, digest, &detail);
        match outlook(code) {
            Outlook::Open if self.durable.failures(&digest) < MAX_ATTEMPTS => {
                self.enter(Phase::Loading, Progress::Loading);
                self.retry_at = Some(ctx.now_ms().saturating_add(self.config.timing.attempt_ms));
                return self.report(ctx);
            }
            Outlook::Open => {}
            Outlook::Closed => self.retract_attempt(),
            Outlook::Condemned => self.change().quarantine_mut(digest).is_final = true,
        }
        self.fail(ctx, digest, step, code, detail);
    }

    /// What ran before runs on; the record says so.
    fn roll_back(&self, ctx: &mut impl Ctx, from: Digest, detail: &str) {
        ctx.effect(Effect::DropCandidate);
        ctx.effect(Effect::Record(message::Event::RolledBack {
            from,
            to: self.durable.active.as_ref().map(|s| s.running.clone()),
            detail: detail.to_owned(),
        }));
    }

    /// A stop in good order says nothing against the candidate.
    pub(super) fn stop(&mut self) {
        // With a timer running, the attempt has failed already and stays counted.
        let attempt_runs = match self.phase {
            Phase::Loading => self.retry_at.is_none(),
            Phase::Trial => true,
            Phase::Asleep
            | Phase::Idle
            | Phase::Manifest { .. }
            | Phase::Chunks(_)
            | Phase::Staging(_) => false,
        };
        if attempt_runs {
            self.retract_attempt();
        }
    }

    /// The attempt under way does not count.
    pub(super) fn retract_attempt(&mut self) {
        if let Some(digest) = self.durable.candidate.as_ref().map(|c| c.digest) {
            let durable = self.change();
            let entry = durable.quarantine_mut(digest);
            entry.failures = entry.failures.saturating_sub(1);
            if entry.failures == 0 && !entry.is_final {
                durable.quarantine.remove(&digest);
            }
        }
    }
}
