//! Waiting times between attempts: doubling, capped, jittered.
//!
//! Jitter keeps a fleet that lost its broker in one moment from coming back in one moment.

/// Doubles from `base_ms` to `cap_ms`; each wait lies between half and all of it.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base_ms: u64,
    cap_ms: u64,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(base_ms: u64, cap_ms: u64) -> Self {
        Self {
            base_ms,
            cap_ms,
            attempt: 0,
        }
    }

    /// Progress was made: the next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The next wait in milliseconds, from a random number of the caller.
    pub(crate) fn next_ms(&mut self, random: u64) -> u64 {
        let factor = 1u64.checked_shl(self.attempt).unwrap_or(u64::MAX);
        let whole = self.base_ms.saturating_mul(factor).min(self.cap_ms).max(2);
        self.attempt = self.attempt.saturating_add(1);
        whole / 2 + random % (whole / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(100, 1000);
        let longest: Vec<u64> = (0..6).map(|_| backoff.next_ms(u64::MAX / 2 * 2)).collect();
        assert!(longest.iter().all(|&ms| ms <= 1000), "{longest:?}");
        assert!(backoff.next_ms(0) == 500, "the shortest wait at the cap");
        for _ in 0..100 {
            assert!((500..=1000).contains(&backoff.next_ms(7919)));
        }
        backoff.reset();
        assert!((50..=100).contains(&backoff.next_ms(12345)));
    }
}
