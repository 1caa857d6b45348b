//! What the device trusts: root, catalog mark, time, and the judgement of instructions.
//!
//! Everything that a message claims is checked before anything of it is remembered, so a
//! refused one leaves no trace but a count. A root chain is followed as far as it is signed.
//! What a newer root revoked dies before its commit; what is committed runs on, bound by its
//! digest in the durable state.
//!
//! A root that takes a fleet or catalog key away also restarts what those keys counted
//! (assignment sequence, catalog mark, time floor): an attacker who held them may have pushed
//! it all the way up, and the honest fleet must be able to go on from 1.

use drover_trust::mutation::{Check, is_disabled};
use drover_trust::root::MAX_WALK;
use drover_trust::{
    Assignment, Catalog, CatalogMark, Envelope, Role, TrustError, TrustedRoot, Voucher,
};
use drover_wire::message::{FailureCode, Installed, RootChain, Step, TrustReport, Up};

use super::{Config, Machine};
use crate::durable::{Durable, Slot};
use crate::time::TrustedTime;
use crate::{Ctx, Effect};

/// A signed time this far ahead of the trusted one is taken, and reported.
const REMARKABLE_JUMP_S: u64 = 10 * 366 * 86_400;

/// The root to start with: the newer of the configured and the stored one. Gives whether the
/// durable state changed.
pub(super) fn start(config: &Config, durable: &mut Durable) -> (TrustedRoot, bool) {
    let configured = &config.root;
    let stored = durable.root.as_deref().and_then(|bytes| {
        let envelope = Envelope::decode(bytes).ok()?;
        TrustedRoot::self_signed(envelope).ok()
    });
    if let Some(stored) = &stored {
        let same_fleet = stored.root().fleet == configured.root().fleet;
        if same_fleet && stored.root().version >= configured.root().version {
            return (stored.clone(), false);
        }
        if !same_fleet {
            // Given to another fleet, whose counters are its own. What runs runs on.
            durable.assignment = None;
            durable.candidate = None;
            durable.failure = None;
            durable.floors.clear();
            durable.quarantine.clear();
            durable.epoch_floor = 0;
        }
        if !same_fleet || revokes_online_keys(stored, configured) {
            durable.restart_trust(earliest(config, configured));
        }
    }
    // It was decoded from an envelope that was within its limits.
    durable.root = configured.envelope().encode().ok();
    (configured.clone(), true)
}

/// A time that has passed for certain: the agent was built, and the root was signed.
pub(super) fn earliest(config: &Config, root: &TrustedRoot) -> u64 {
    config.built_unix_s.max(root.root().created_unix_s)
}

fn revokes_online_keys(old: &TrustedRoot, new: &TrustedRoot) -> bool {
    let revoked = [Role::Fleet, Role::Catalog]
        .iter()
        .any(|role| old.revokes(*role, new));
    revoked && !is_disabled(Check::FastForward)
}

impl Machine {
    /// The root that everything is verified against now.
    #[must_use]
    pub fn root(&self) -> &TrustedRoot {
        &self.root
    }

    /// The trusted time in seconds since 1970; never more than the true time.
    #[must_use]
    pub fn trusted_now_s(&self, now_ms: u64) -> u64 {
        self.time.now_s(now_ms)
    }

    /// What the device trusts and what was tried against it.
    #[must_use]
    pub fn trust(&self, now_ms: u64) -> TrustReport {
        let durable = &self.durable;
        let installed = |slot: &Slot| Installed {
            digest: slot.running.digest,
            counter: slot.running.counter,
            epoch: slot.epoch,
            total_bytes: slot.total_bytes,
        };
        let slots = [&durable.active, &durable.previous];
        TrustReport {
            root_version: self.root.root().version,
            catalog_version: durable.catalog.version,
            catalog_unix_s: durable.catalog.issued_unix_s,
            time_floor_s: self.trusted_now_s(now_ms),
            installed: slots.into_iter().flatten().map(installed).collect(),
            refused: durable.refused.iter().map(|(c, n)| (*c, *n)).collect(),
        }
    }

    /// Sends [`Self::trust`].
    pub(super) fn report_trust(&self, ctx: &mut impl Ctx) {
        let report = self.trust(ctx.now_ms());
        self.publish(ctx, Up::Trust(report));
    }

    /// A time that the fleet signed.
    pub(super) fn hear_time(&mut self, ctx: &mut impl Ctx, signed_s: u64) {
        let now_ms = ctx.now_ms();
        let before_s = self.time.now_s(now_ms);
        self.time.raise(signed_s, now_ms);
        self.note_floor(now_ms);
        if signed_s.saturating_sub(before_s) > REMARKABLE_JUMP_S {
            let detail = format!(
                "signed time went from {before_s} to {signed_s} (seconds since 1970) and was \
                 taken; if it is false, honest instructions are refused as expired until a new \
                 root replaces the fleet's key"
            );
            self.refuse(ctx, None, FailureCode::Frozen, detail);
        }
    }

    /// Successors of the root came.
    pub(super) fn follow_roots(&mut self, ctx: &mut impl Ctx, bytes: &[u8]) {
        let chain = match RootChain::decode(bytes) {
            Ok(chain) => chain,
            Err(error) => {
                let detail = format!("roots: {}", super::report::describe(&error));
                return self.refuse(ctx, None, FailureCode::RootInvalid, detail);
            }
        };
        let mut newest = self.root.clone();
        let mut restarts = false;
        let mut stopped = None;
        for bytes in chain.roots.iter().take(MAX_WALK) {
            // One by one: a key that comes back later was taken away all the same.
            let (next, error) = match Envelope::decode(bytes) {
                Ok(envelope) => newest.walk([envelope]),
                Err(error) => (newest.clone(), Some(error)),
            };
            restarts |= revokes_online_keys(&newest, &next);
            newest = next;
            stopped = error;
            if stopped.is_some() {
                break;
            }
        }
        if let Some(error) = stopped {
            let detail = format!("roots: {error}");
            self.refuse(ctx, None, FailureCode::RootInvalid, detail);
        }
        if newest != self.root {
            self.adopt(ctx, newest, restarts);
        }
    }

    fn adopt(&mut self, ctx: &mut impl Ctx, root: TrustedRoot, restarts: bool) {
        let earliest_s = earliest(&self.config, &root);
        let Ok(encoded) = root.envelope().encode() else {
            // It came as an envelope within the limits.
            return self.ignore();
        };
        let now_ms = ctx.now_ms();
        self.root = root;
        let durable = self.change();
        durable.root = Some(encoded);
        if restarts {
            durable.restart_trust(earliest_s);
            self.time = TrustedTime::new(earliest_s, now_ms);
        } else {
            self.time.raise(earliest_s, now_ms);
        }
        ctx.effect(Effect::RootChanged(self.root.clone()));
        self.drop_revoked(ctx);
        self.greet(ctx);
    }

    /// Gives up what the current root does not bear any more and is not committed yet.
    pub(super) fn drop_revoked(&mut self, ctx: &mut impl Ctx) {
        let instruction = match self.assigned() {
            Some(Err(error)) => {
                self.change().assignment = None;
                Some(format!("its assignment is revoked: {error}"))
            }
            None => Some("its assignment is gone".into()),
            Some(Ok(_)) => None,
        };
        let Some(digest) = self.durable.candidate.as_ref().map(|c| c.digest) else {
            return;
        };
        if let Some(detail) = instruction {
            return self.fail(ctx, digest, Step::Accept, FailureCode::Revoked, detail);
        }
        let judged = self.manifest.as_deref().map(|bytes| self.verified(bytes));
        if let Some(Err((code, detail))) = judged {
            let code = match code {
                FailureCode::SignatureInvalid => FailureCode::Revoked,
                other => other,
            };
            self.fail(ctx, digest, Step::Accept, code, detail);
        }
    }

    /// The accepted assignment, judged by the current root; `None` when there is none.
    pub(super) fn assigned(&self) -> Option<Result<Assignment, TrustError>> {
        let bytes = self.durable.assignment.as_deref()?;
        let opened = Envelope::decode(bytes).and_then(|envelope| {
            Assignment::reopen(&envelope, self.bearing_root(), &self.config.device)
        });
        Some(opened)
    }

    /// The root that manifests and accepted assignments are judged by.
    pub(super) fn bearing_root(&self) -> &TrustedRoot {
        if is_disabled(Check::Revocation) {
            return &self.config.root;
        }
        &self.root
    }

    /// Desired state came, with its catalog.
    pub(super) fn desire(&mut self, ctx: &mut impl Ctx, bytes: Vec<u8>, catalog: &[u8]) {
        let now_s = self.time.now_s(ctx.now_ms());
        if is_disabled(Check::RefusedIsForgotten) {
            self.remember_unjudged(&bytes, catalog);
        }
        let (mark, assignment) = match self.judge(&bytes, catalog, now_s) {
            Ok(judged) => judged,
            Err((what, error)) => {
                let detail = format!("{what}: {error}");
                return self.refuse(ctx, None, code_of(&error), detail);
            }
        };
        let is_newer = mark != self.durable.catalog;
        if is_newer {
            self.change().catalog = mark;
        }
        match assignment {
            Some(assignment) => self.accept(ctx, bytes, &assignment, now_s),
            None => self.report(ctx),
        }
        if is_newer {
            self.report_trust(ctx);
        }
    }

    /// Catalog and assignment, if both hold. The assignment is `None` when it was accepted
    /// before: it is sent again at each connect, so that a lost one is made good.
    fn judge(
        &self,
        bytes: &[u8],
        catalog: &[u8],
        now_s: u64,
    ) -> Result<(CatalogMark, Option<Assignment>), (&'static str, TrustError)> {
        let of_catalog = |error| ("catalog", error);
        let envelope = Envelope::decode(catalog).map_err(of_catalog)?;
        let mark = &self.durable.catalog;
        let catalog = Catalog::open(&envelope, &self.root, mark, now_s).map_err(of_catalog)?;
        let mark = catalog.mark(&envelope);
        let of_assignment = |error| ("assignment", error);
        let is_known = self.durable.assignment.as_deref() == Some(bytes);
        // After a root restarted the sequences, it is accepted anew.
        if is_known && self.durable.sequence != 0 {
            self.root.check_fresh(now_s).map_err(of_assignment)?;
            return Ok((mark, None));
        }
        let (root, device) = (&self.root, &self.config.device);
        let assignment = Envelope::decode(bytes)
            .and_then(|envelope| {
                let last = self.durable.sequence;
                Assignment::open(&envelope, root, &catalog, device, last, now_s)
            })
            .map_err(of_assignment)?;
        Ok((mark, Some(assignment)))
    }

    /// What a device must not do; only a test build that switches the check off gets here.
    fn remember_unjudged(&mut self, bytes: &[u8], catalog: &[u8]) {
        let now_s = 0;
        let envelope = Envelope::decode(catalog).ok();
        if let Some(envelope) = envelope
            && let Ok(catalog) =
                Catalog::open(&envelope, &self.root, &CatalogMark::default(), now_s)
        {
            self.change().catalog = catalog.mark(&envelope);
        }
        let assignment = Envelope::decode(bytes)
            .and_then(|e| Assignment::reopen(&e, &self.root, &self.config.device));
        if let Ok(assignment) = assignment {
            self.change().sequence = assignment.sequence;
        }
    }

    /// The old owner gives the device away.
    pub(super) fn transfer(&mut self, ctx: &mut impl Ctx, bytes: &[u8]) {
        let now_s = self.time.now_s(ctx.now_ms());
        let (root, device) = (&self.root, &self.config.device);
        let opened = Envelope::decode(bytes)
            .and_then(|envelope| Voucher::open(&envelope, root, device, now_s));
        match opened {
            Ok(voucher) => ctx.effect(Effect::Transfer(Box::new(voucher))),
            Err(error) => {
                let detail = format!("voucher: {error}");
                self.refuse(ctx, None, code_of(&error), detail);
            }
        }
    }
}

/// The number under which refused metadata is reported.
pub(super) fn code_of(error: &TrustError) -> FailureCode {
    match error {
        TrustError::Threshold { .. }
        | TrustError::Parse(_)
        | TrustError::TooLarge { .. }
        | TrustError::Key
        | TrustError::Passphrase => FailureCode::SignatureInvalid,
        TrustError::Version { .. } => FailureCode::Incompatible,
        TrustError::Root(_) | TrustError::RootVersion { .. } => FailureCode::RootInvalid,
        TrustError::Fleet | TrustError::Device => FailureCode::WrongRecipient,
        TrustError::Rollback { .. } | TrustError::Epoch { .. } | TrustError::Catalog(_) => {
            FailureCode::Rollback
        }
        TrustError::Stale { .. } => FailureCode::Frozen,
        TrustError::Unlisted => FailureCode::Unlisted,
        TrustError::Expired { .. } => FailureCode::Expired,
    }
}
