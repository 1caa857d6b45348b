//! The one place in this crate that reads a clock.
//!
//! Only durations leave it: what an observation's wall-clock time is, the caller knows.

use std::time::{Duration, Instant};

/// Runs `f` and measures it.
pub(crate) fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let value = f();
    (value, started.elapsed())
}

/// Runs `f` and measures it, in whole microseconds.
pub(crate) fn timed_us<T>(f: impl FnOnce() -> T) -> (T, u32) {
    let (value, time) = timed(f);
    (value, u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
}
