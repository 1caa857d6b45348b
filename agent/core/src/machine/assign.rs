//! Taking up assignments, and taking up again what a restart interrupted.

use drover_trust::mutation::{Check, is_disabled};
use drover_trust::{AssignedBundle, Assignment};
use drover_wire::message::{self, Digest, FailureCode, Step};

use super::attempt::{self, Outlook};
use super::{Machine, Phase, candidate_of};
use crate::{Ctx, Effect, Failure, Progress, Stored};

impl Machine {
    /// The first thing after a start: run what is committed, tidy up, go on.
    pub(super) fn resume(&mut self, ctx: &mut impl Ctx, stored: Stored) {
        self.phase = Phase::Idle;
        if let Some(active) = &self.durable.active {
            ctx.effect(Effect::LoadCommitted {
                digest: active.running.digest,
            });
        }
        // What a power cut left between a decision and the removal that followed from it.
        for digest in stored.bundles {
            if !self.durable.refers_to(&digest) {
                ctx.effect(Effect::RemoveBundle { digest });
            }
        }
        self.resume_candidate(ctx, stored.manifest, stored.chunks);
        // A newer root may have come with the agent rather than over the network.
        self.drop_revoked(ctx);
        self.greet(ctx);
    }

    fn resume_candidate(
        &mut self,
        ctx: &mut impl Ctx,
        manifest: Option<Vec<u8>>,
        chunks: Vec<u32>,
    ) {
        let Some(candidate) = &self.durable.candidate else {
            return;
        };
        let progress = candidate.progress;
        // One that does not hold any more is asked for anew, and judged then.
        let Some(envelope) = manifest.filter(|m| self.verified(m).is_ok()) else {
            return self.enter(Phase::Manifest { chunks }, Progress::Fetching);
        };
        match progress {
            Progress::Fetching => {
                self.enter(Phase::Manifest { chunks }, Progress::Fetching);
                self.take_manifest(ctx, &envelope);
            }
            Progress::Loading | Progress::Trial => {
                self.manifest = Some(envelope);
                self.phase = Phase::Loading;
                self.begin_attempt(ctx);
            }
        }
    }

    /// An assignment came that holds.
    pub(super) fn accept(
        &mut self,
        ctx: &mut impl Ctx,
        bytes: Vec<u8>,
        assignment: &Assignment,
        now_s: u64,
    ) {
        let durable = self.change();
        durable.sequence = assignment.sequence;
        durable.assignment = Some(bytes);
        durable.failure = None;
        durable.time_floor_s = durable.time_floor_s.max(now_s);
        match assignment.bundles.as_slice() {
            [] => self.retire(ctx),
            [bundle] => self.pursue(ctx, bundle),
            [first, ..] => {
                self.abandon(ctx);
                let detail = "the assignment names several models, this agent runs one".into();
                let (digest, code) = (first.digest, FailureCode::Incompatible);
                self.fail(ctx, digest, Step::Accept, code, detail);
            }
        }
    }

    /// The assignment names no bundle.
    fn retire(&mut self, ctx: &mut impl Ctx) {
        self.abandon(ctx);
        if let Some(active) = self.change().active.take() {
            let older = self.durable.previous.replace(active);
            self.reload_at = None;
            ctx.effect(Effect::Deactivate);
            self.remove_unless_needed(ctx, older.map(|slot| slot.running.digest));
            self.report_trust(ctx);
        }
        self.report(ctx);
    }

    /// The assignment names this bundle.
    fn pursue(&mut self, ctx: &mut impl Ctx, bundle: &AssignedBundle) {
        let digest = bundle.digest;
        if let Some(active) = &self.durable.active
            && active.running.digest == digest
        {
            let running = &active.running;
            let same = running.name == bundle.name && running.counter == bundle.counter;
            self.abandon(ctx);
            if !same {
                let detail = "name or counter differ from the bundle's own".into();
                return self.fail(ctx, digest, Step::Accept, FailureCode::Mismatch, detail);
            }
            return self.report(ctx);
        }
        let wanted = candidate_of(bundle);
        let under_way = self.durable.candidate.as_ref().is_some_and(|c| {
            let same = c.name == wanted.name && c.counter == wanted.counter;
            let alike = c.total_bytes == wanted.total_bytes && c.epoch == wanted.epoch;
            c.digest == digest && same && alike
        });
        if under_way {
            return self.report(ctx);
        }
        self.abandon(ctx);
        if let Some(why) = self.objection(bundle) {
            let (code, detail) = why;
            return self.fail(ctx, digest, Step::Accept, code, detail);
        }
        self.change().candidate = Some(wanted);
        self.backoff.reset();
        self.pauses.reset();
        self.enter(Phase::Manifest { chunks: vec![] }, Progress::Fetching);
        self.report(ctx);
        self.request(ctx);
    }

    /// Why a bundle is not even to be fetched.
    fn objection(&self, bundle: &AssignedBundle) -> Option<(FailureCode, String)> {
        let held = self.durable.quarantine.get(&bundle.digest);
        if let Some(held) = held.filter(|q| q.is_final || q.failures >= attempt::MAX_ATTEMPTS) {
            let detail = format!(
                "it failed on this device before ({} attempts); release it anew under a higher \
                 counter",
                held.failures
            );
            return Some((FailureCode::Quarantined, detail));
        }
        self.below_floor(&bundle.name, bundle.counter, bundle.epoch)
    }

    /// Why a bundle with these numbers may not be taken up.
    pub(super) fn below_floor(
        &self,
        name: &str,
        counter: u64,
        epoch: u64,
    ) -> Option<(FailureCode, String)> {
        let floor = self.durable.floor(name);
        if counter < floor && !is_disabled(Check::BundleRollback) {
            let detail = format!("counter {counter} is below {floor}, which ran here");
            return Some((FailureCode::Rollback, detail));
        }
        let least = self.durable.epoch_floor.max(self.root.root().epoch);
        if epoch < least && !is_disabled(Check::Epoch) {
            let detail = format!("security epoch {epoch} is below {least}, the least allowed");
            return Some((FailureCode::Rollback, detail));
        }
        None
    }

    /// Gives the assignment up; what ran before runs on.
    pub(super) fn fail(
        &mut self,
        ctx: &mut impl Ctx,
        digest: Digest,
        step: Step,
        code: FailureCode,
        detail: String,
    ) {
        self.abandon(ctx);
        self.change().failure = Some(Failure {
            digest,
            step,
            code,
            detail: detail.clone(),
        });
        self.refuse(ctx, Some(digest), code, detail);
        self.report(ctx);
    }

    /// Forgets the candidate.
    pub(super) fn abandon(&mut self, ctx: &mut impl Ctx) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        self.retry_at = None;
        self.manifest = None;
        let Some(candidate) = self.durable.candidate.take() else {
            return;
        };
        self.dirty = true;
        let digest = candidate.digest;
        match phase {
            Phase::Chunks(fetch) if fetch.is_paused() => {}
            Phase::Chunks(_) => ctx.effect(Effect::Unsubscribe { digest }),
            Phase::Loading | Phase::Trial => ctx.effect(Effect::DropCandidate),
            Phase::Asleep | Phase::Idle | Phase::Manifest { .. } | Phase::Staging(_) => {}
        }
        self.remove_unless_needed(ctx, Some(digest));
    }

    pub(super) fn remove_unless_needed(&self, ctx: &mut impl Ctx, digest: Option<Digest>) {
        if let Some(digest) = digest.filter(|d| !self.durable.refers_to(d)) {
            ctx.effect(Effect::RemoveBundle { digest });
        }
    }

    /// What is committed does not run here any more.
    pub(super) fn lose_active(
        &mut self,
        ctx: &mut impl Ctx,
        digest: Digest,
        code: FailureCode,
        detail: String,
    ) {
        if self
            .durable
            .active
            .as_ref()
            .is_none_or(|slot| slot.running.digest != digest)
        {
            return self.ignore();
        }
        if attempt::outlook(code) == Outlook::Open {
            // Nothing is wrong with its files: it stays committed and is loaded again.
            if self.reload_at.is_none() {
                self.refuse(ctx, Some(digest), code, detail);
            }
            let wait = self.config.timing.attempt_ms;
            self.reload_at = Some(ctx.now_ms().saturating_add(wait));
            return;
        }
        self.durable.active = None;
        self.reload_at = None;
        self.dirty = true;
        // What ran before may run again only if no bundle of a higher epoch was committed.
        let floor = self.durable.epoch_floor;
        let may_run = |epoch| epoch >= floor || is_disabled(Check::Epoch);
        let former = self.durable.previous.take();
        let former_digest = former.as_ref().map(|slot| slot.running.digest);
        let fallback = former.filter(|slot| may_run(slot.epoch));
        if let Some(slot) = &fallback {
            ctx.effect(Effect::LoadCommitted {
                digest: slot.running.digest,
            });
        }
        self.durable.active.clone_from(&fallback);
        ctx.effect(Effect::Record(message::Event::RolledBack {
            from: digest,
            to: fallback.map(|slot| slot.running),
            detail: detail.clone(),
        }));
        self.remove_unless_needed(ctx, former_digest);
        if self.durable.candidate.is_none() {
            self.fetch_lost(ctx, digest, code, detail);
        }
        self.report(ctx);
        self.report_trust(ctx);
    }

    /// Fetches the lost bundle anew if it is still assigned and its content is not to blame.
    fn fetch_lost(
        &mut self,
        ctx: &mut impl Ctx,
        digest: Digest,
        code: FailureCode,
        detail: String,
    ) {
        let assigned = self.assigned().and_then(Result::ok);
        let bundles = assigned.map(|a| a.bundles).unwrap_or_default();
        match bundles.as_slice() {
            [bundle] if bundle.digest == digest => {
                // Damaged files are fetched anew; what computes wrongly is not.
                if code != FailureCode::Mismatch {
                    self.fail(ctx, digest, Step::Load, code, detail);
                } else {
                    self.pursue(ctx, &bundle.clone());
                }
            }
            _ => {}
        }
        self.remove_unless_needed(ctx, Some(digest));
    }
}
