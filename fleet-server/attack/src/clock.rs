//! The only place that asks for the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Result, fail};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the suite's clock"
)]
pub(crate) fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

/// A moment, for measuring.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// What a look at a condition has found.
pub(crate) enum Look<T> {
    /// It holds.
    Ready(T),
    /// Not yet; the text says what was seen.
    NotYet(String),
}

/// Looks again and again until the condition holds; fails with the last state seen.
pub(crate) fn wait<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Look<T>>,
) -> Result<T> {
    let start = monotonic();
    loop {
        let seen = match look()? {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(seen) => seen,
        };
        if start.elapsed() > patience {
            return fail(format!("waited in vain for {what}; last seen: {seen}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Watches that a condition goes on holding for a while.
pub(crate) fn hold(span: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let start = monotonic();
    while start.elapsed() < span {
        look()?;
        std::thread::sleep(LOOK_EVERY);
    }
    look()
}
