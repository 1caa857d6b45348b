//! Keeps panics of libraries that read foreign bytes away from the process.
//!
//! It guards parsing and running only. Stack overflow and failed allocation end the process
//! all the same; the callers bound sizes before they get here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `f` and returns what it panicked with, if it did.
///
/// The caller drops, or never reads again, whatever `f` had hold of when it panicked.
pub(crate) fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "no message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(guarded(|| 1), Ok(1));
        let empty: Vec<u8> = Vec::new();
        let message = guarded(|| empty[empty.len()]).unwrap_err();
        assert!(message.contains("index out of bounds"), "{message}");
        assert_eq!(
            guarded(|| panic!("literal")),
            Err::<(), _>("literal".into())
        );
    }
}
