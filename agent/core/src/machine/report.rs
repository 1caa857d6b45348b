//! What the server hears: who the device is, where it stands, and what was refused.

use drover_wire::message::{self, Digest, FailureCode, Hello, State, Up};

use super::{Machine, Phase};
use crate::{Candidate, Ctx, Effect};

/// Refusals that may be recorded at once before [`REFILL_MS`] limits them.
const BURST: u64 = 16;
/// Time after which one more refusal may be recorded.
const REFILL_MS: u64 = 10_000;

/// Keeps a flood of hostile messages from pushing observations out of the outbox.
#[derive(Debug)]
pub(super) struct Limiter {
    tokens: u64,
    filled_ms: u64,
    suppressed: u64,
}

impl Limiter {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            tokens: BURST,
            filled_ms: now_ms,
            suppressed: 0,
        }
    }

    /// How many were left out since the last one that was let through; none if this one is
    /// left out too.
    fn admit(&mut self, now_ms: u64) -> Option<u64> {
        let refill = now_ms.saturating_sub(self.filled_ms) / REFILL_MS;
        self.filled_ms += refill * REFILL_MS;
        self.tokens = self.tokens.saturating_add(refill).min(BURST);
        if self.tokens == 0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl Machine {
    /// Who the device is, for the first message after a connect.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            boot: self.config.boot,
            agent_version: self.config.platform.agent_version.clone(),
            arch: self.config.platform.arch.clone(),
            memory_bytes: self.config.platform.memory_bytes,
            assignment: self.durable.sequence,
        }
    }

    /// Where the device stands.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            assignment: self.durable.sequence,
            active: self.durable.active.as_ref().map(|s| s.running.clone()),
            phase: self.wire_phase(),
        }
    }

    /// Sends [`Self::state`].
    pub(super) fn report(&self, ctx: &mut impl Ctx) {
        self.publish(ctx, Up::State(self.state()));
    }

    fn wire_phase(&self) -> message::Phase {
        match (&self.durable.candidate, &self.phase) {
            (Some(candidate), phase) => candidate_phase(candidate, phase),
            (None, _) => match (&self.durable.failure, &self.durable.active) {
                (Some(failure), _) => message::Phase::Failed {
                    digest: failure.digest,
                    step: failure.step,
                    code: failure.code,
                    detail: failure.detail.clone(),
                },
                (None, Some(active)) => message::Phase::Committed {
                    digest: active.running.digest,
                },
                (None, None) => message::Phase::Idle,
            },
        }
    }

    /// Records that something was refused.
    pub(super) fn refuse(
        &mut self,
        ctx: &mut impl Ctx,
        digest: Option<Digest>,
        code: FailureCode,
        detail: String,
    ) {
        self.counters.refused += 1;
        // Not a change worth writing by itself, see `durable.rs`.
        let count = self.durable.refused.entry(code).or_default();
        *count = count.saturating_add(1);
        if let Some(suppressed) = self.limiter.admit(ctx.now_ms()) {
            let detail = match suppressed {
                0 => detail,
                n => format!("{detail} ({n} refusals before it were not recorded)"),
            };
            ctx.effect(Effect::Record(message::Event::Refused {
                digest,
                code,
                detail,
            }));
            self.report_trust(ctx);
        }
    }
}

fn candidate_phase(candidate: &Candidate, phase: &Phase) -> message::Phase {
    let digest = candidate.digest;
    match phase {
        Phase::Asleep | Phase::Idle | Phase::Manifest { .. } => message::Phase::Fetching {
            digest,
            have: 0,
            total: 0,
        },
        Phase::Chunks(fetch) => message::Phase::Fetching {
            digest,
            have: fetch.have(),
            total: fetch.total(),
        },
        Phase::Staging(_) | Phase::Loading => message::Phase::Staged { digest },
        Phase::Trial => message::Phase::Trial { digest },
    }
}

/// An error with its causes, for people.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_thinned_and_counted() {
        let mut limiter = Limiter::new(0);
        let admitted = (0..1000).filter(|_| limiter.admit(5).is_some()).count();
        assert_eq!(admitted as u64, BURST);
        assert_eq!(limiter.admit(REFILL_MS), Some(1000 - BURST));
        assert_eq!(limiter.admit(REFILL_MS + 1), None);
    }
}
