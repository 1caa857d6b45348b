//! The only place that asks what time it is.
//!
//! The wall clock dates records and nothing else; it may read 1970. Decisions use the
//! monotonic clock, and signed times where a date matters (`drover-agent-core`).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the device's clock; 0 when it reads an earlier time.
#[must_use]
pub fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that never steps.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that reads 0 now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since [`Self::start`].
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
