//! The only place where the server reads a clock. `DROVER_CLOCK_OFFSET_SECS` moves it, for
//! rehearsals of what a fleet does years from now.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// Moves the wall clock by so many seconds, which may be negative.
const OFFSET_VARIABLE: &str = "DROVER_CLOCK_OFFSET_SECS";

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    static OFFSET_MS: LazyLock<i64> = LazyLock::new(|| {
        let given = std::env::var(OFFSET_VARIABLE).ok();
        let secs = given.and_then(|text| text.trim().parse::<i64>().ok());
        secs.unwrap_or(0).saturating_mul(1000)
    });
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    let read = elapsed.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    read.saturating_add_signed(*OFFSET_MS)
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    unix_ms() / 1000
}

/// The wall clock, as TLS asks for it.
#[derive(Debug)]
pub(crate) struct TlsClock;

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Duration::from_millis(unix_ms());
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// A clock that never steps back, for pacing and ages inside this process.
pub(crate) fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}
