//! The device's idea of the time for judging expiry: signed times plus elapsed time.
//!
//! The board's own clock has no say, since it may read 1970 or 2099. The floor starts at the
//! latest of three times that have passed for certain (the build, the root's creation, what
//! was persisted) and never steps back, but for a root that revokes the keys which signed
//! the times. It survives a restart as [`crate::Durable::time_floor_s`].

use drover_trust::mutation::{Check, is_disabled};

/// The newest signed time, moved on by the monotonic clock of this process.
#[derive(Clone, Debug)]
pub(crate) struct TrustedTime {
    anchor_s: u64,
    anchor_ms: u64,
}

impl TrustedTime {
    pub(crate) fn new(floor_s: u64, now_ms: u64) -> Self {
        Self {
            anchor_s: floor_s,
            anchor_ms: now_ms,
        }
    }

    /// Seconds since 1970, never more than the true time.
    pub(crate) fn now_s(&self, now_ms: u64) -> u64 {
        let elapsed_s = now_ms.saturating_sub(self.anchor_ms) / 1000;
        self.anchor_s.saturating_add(elapsed_s)
    }

    /// Takes a signed time; one that lies behind changes nothing.
    pub(crate) fn raise(&mut self, signed_s: u64, now_ms: u64) {
        if signed_s > self.now_s(now_ms) || is_disabled(Check::TimeFloor) {
            *self = Self::new(signed_s, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_moves_on_and_never_back() {
        let mut time = TrustedTime::new(1000, 50_000);
        assert_eq!(time.now_s(52_999), 1002);
        time.raise(900, 53_000);
        assert_eq!(time.now_s(53_000), 1003);
        time.raise(5000, 53_000);
        assert_eq!(time.now_s(54_000), 5001);
        assert_eq!(time.now_s(0), 5000, "a clock that steps back");
    }
}
