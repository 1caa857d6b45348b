//! How fast a download must be, and what follows when it is not.
//!
//! A source that drips keeps an update from ever ending while everything looks alive. So a
//! download has a least rate per window and an overall deadline. When either is missed, the
//! device takes no more chunks for a while, says why, and then asks again; what is here
//! stays, nothing is given up, and memory stays flat.
//!
//! Wrong chunks are refused one by one and count against a source only while no right one
//! comes, in a row and for a while: on a shared topic whoever has access may interleave
//! rubbish at any rate, and must not be able to keep honest chunks from being taken.

use drover_trust::mutation::{Check, is_disabled};
use drover_wire::message::FailureCode;

use super::Timing;

/// Wrong chunks in a row after which the source is left alone for a while.
const MAX_BAD: u32 = 64;

/// The progress of one attempt at a download.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    began_ms: u64,
    window_ms: u64,
    came: u32,
    bad: u32,
    /// When the last right chunk came, or the attempt began.
    good_ms: u64,
    is_paused: bool,
}

impl Pace {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            began_ms: now_ms,
            window_ms: now_ms,
            came: 0,
            bad: 0,
            good_ms: now_ms,
            is_paused: false,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// When the pace is to be judged next.
    pub(super) fn deadline(&self, timing: &Timing) -> Option<u64> {
        if self.is_paused || is_disabled(Check::SlowSource) {
            return None;
        }
        let window = self.window_ms.saturating_add(timing.rate_window_ms);
        let whole = self.began_ms.saturating_add(timing.download_deadline_ms);
        Some(window.min(whole))
    }

    /// A right chunk came.
    pub(super) fn good(&mut self, now_ms: u64) {
        self.came = self.came.saturating_add(1);
        self.good_ms = now_ms;
        self.bad = 0;
    }

    /// A wrong chunk came; whether that is enough.
    pub(super) fn bad(&mut self, timing: &Timing, now_ms: u64, total: u32) -> bool {
        self.bad = self.bad.saturating_add(1);
        // One round of wrong copies of every chunk may precede the right ones, and however
        // fast they come, an honest source gets the time to answer.
        let is_many = self.bad >= MAX_BAD.max(total.saturating_mul(2));
        let is_long = now_ms.saturating_sub(self.good_ms) >= timing.request_cap_ms;
        is_many && is_long && !self.is_paused
    }

    /// Why the download is to pause, if it is too slow; otherwise a new window may begin.
    pub(super) fn judge(
        &mut self,
        timing: &Timing,
        now_ms: u64,
        have: u32,
        total: u32,
    ) -> Option<(FailureCode, String)> {
        if self.deadline(timing).is_none_or(|at| now_ms < at) {
            return None;
        }
        let whole = self.began_ms.saturating_add(timing.download_deadline_ms);
        let came = std::mem::take(&mut self.came);
        self.window_ms = now_ms;
        let window_s = timing.rate_window_ms / 1000;
        if came == 0 && have > 0 {
            let detail = format!("no chunk came for {window_s} s, {have} came before");
            return Some((FailureCode::Incomplete, detail));
        }
        let left = total.saturating_sub(have).saturating_add(came);
        let least = timing.least_chunks_per_window.min(left);
        if came < least {
            let detail = format!("{came} chunks came in {window_s} s, {least} are the least");
            return Some((FailureCode::Slow, detail));
        }
        if now_ms >= whole {
            let detail = format!(
                "the download took longer than {} s",
                timing.download_deadline_ms / 1000
            );
            return Some((FailureCode::Slow, detail));
        }
        None
    }
}
