//! The only place that asks what time it is.
//!
//! The wall clock dates records and nothing else; it may read 1970 or 2099, and
//! `DROVER_CLOCK_OFFSET_SECS` moves it for rehearsals of that. Decisions use the monotonic
//! clock, and signed times where a date matters (`drover-agent-core`).

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Moves the wall clock by so many seconds, which may be negative.
const OFFSET_VARIABLE: &str = "DROVER_CLOCK_OFFSET_SECS";

/// Milliseconds since 1970 by the device's clock; 0 when it reads an earlier time.
#[must_use]
pub fn unix_ms() -> u64 {
    static OFFSET_MS: LazyLock<i64> = LazyLock::new(|| {
        let given = std::env::var(OFFSET_VARIABLE).ok();
        let secs = given.and_then(|text| text.trim().parse::<i64>().ok());
        secs.unwrap_or(0).saturating_mul(1000)
    });
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let read = since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    read.saturating_add_signed(*OFFSET_MS)
}

/// When this agent was built, in seconds since 1970; it is later than that.
#[must_use]
pub fn built_unix_s() -> u64 {
    env!("DROVER_BUILT_UNIX_S").parse().unwrap_or(0)
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
