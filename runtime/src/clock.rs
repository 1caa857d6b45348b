//! The one place in this crate that reads a clock.
//!
//! Only durations leave it: what an observation's wall-clock time is, the caller knows.

use std::time::Instant;

/// Runs `f` and measures it, in whole microseconds.
pub(crate) fn timed_us<T>(f: impl FnOnce() -> T) -> (T, u32) {
    let started = Instant::now();
    let value = f();
    let us = started.elapsed().as_micros();
    (value, u32::try_from(us).unwrap_or(u32::MAX))
}
