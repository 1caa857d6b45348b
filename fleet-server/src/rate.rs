//! Limits on how often something may happen to one name: a device, an address, an event.
//!
//! Kept in memory and bounded: a restart forgets, and so does a flood of names, which costs
//! more than it gains.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// Names remembered at most.
const MAX_NAMES: usize = 16 * 1024;

/// At most so many times in a window of time, by name.
pub(crate) struct Rate {
    most: u32,
    window: Duration,
    seen: Mutex<HashMap<String, (Instant, u32)>>,
}

impl Rate {
    pub(crate) fn new(most: u32, window: Duration) -> Self {
        Self {
            most,
            window,
            seen: Mutex::default(),
        }
    }

    /// Counts one more; `false` when that is too many.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allows_at(name, clock::monotonic())
    }

    fn allows_at(&self, name: &str, now: Instant) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_NAMES && !seen.contains_key(name) {
            seen.retain(|_, (start, _)| now.duration_since(*start) < self.window);
            if seen.len() >= MAX_NAMES {
                seen.clear();
            }
        }
        let entry = seen.entry(name.to_owned()).or_insert((now, 0));
        if now.duration_since(entry.0) >= self.window {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1 <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gets_its_share_in_each_window() {
        let rate = Rate::new(2, Duration::from_secs(10));
        let start = clock::monotonic();
        let at = |name: &str, secs| rate.allows_at(name, start + Duration::from_secs(secs));
        assert_eq!([at("a", 0), at("a", 1), at("a", 9)], [true, true, false]);
        assert!(at("b", 9));
        assert!(at("a", 10));
        for n in 0..=MAX_NAMES {
            assert!(at(&n.to_string(), 11));
        }
        assert!(rate.seen.lock().unwrap().len() <= MAX_NAMES);
    }
}
