//! Waiting for a condition: never a fixed sleep, always with a deadline, and with the last
//! state seen in the error.

use std::time::{Duration, Instant};

use anyhow::bail;

/// What one look at the condition gave.
#[derive(Debug)]
pub enum Look<T> {
    /// It holds.
    Ready(T),
    /// Not yet; the text says what was seen.
    NotYet(String),
}

/// Looks every 50 ms until the condition holds.
///
/// # Errors
/// When `timeout` has passed, with the last state seen; or at once when `look` fails.
pub fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> anyhow::Result<Look<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        let seen = match look()? {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(seen) => seen,
        };
        if start.elapsed() > timeout {
            bail!("waited {timeout:?} in vain for {what}; last seen: {seen}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
