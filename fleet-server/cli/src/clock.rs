//! The one place in this crate that reads a clock, and how points in time are shown.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in whole seconds since 1970; 0 on a machine whose clock lies before that.
pub(crate) fn unix_s() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn show_s(unix_s: u64) -> String {
    let timestamp = i64::try_from(unix_s)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    // A time beyond year 9999 is shown as what it is.
    timestamp.map_or_else(|| format!("@{unix_s}"), |t| t.to_string())
}

/// The same for milliseconds since 1970; `never` when there is no such time.
pub(crate) fn show_ms(unix_ms: Option<u64>) -> String {
    unix_ms.map_or_else(|| "never".to_owned(), |ms| show_s(ms / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_never_fail() {
        assert_eq!(show_s(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(show_s(u64::MAX), "@18446744073709551615");
    }
}
