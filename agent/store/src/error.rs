//! The one error type of the store and the decision each error asks for.
//!
//! Callers never match on causes to decide whether to try again: they read [`StoreError::class`].
//! A message names what failed, where, and what a person can do; the cause stays in `source()`.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the data folder. Nothing was touched.
    #[error(
        "another drover-agent uses this data folder: {}; stop it, or give this one another folder",
        path.display()
    )]
    Locked {
        /// The data folder.
        path: PathBuf,
    },
    /// The data folder cannot be written by this process.
    #[error(
        "data folder is read-only: {}; mount it writable and give the agent's user write access",
        path.display()
    )]
    ReadOnly {
        /// The file or folder that refused the write.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room, or less than the reserve that keeps state cells writable.
    #[error("no space left for {what}; free some space on the disk of the data folder")]
    Full {
        /// What was to be written.
        what: String,
    },
    /// The system failed a read or a write.
    #[error("input or output failed: {what}; check the disk and its mount")]
    Io {
        /// What was being done, with the path where there is one.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The storage engine failed or panicked. It is reopened on the next call.
    #[error("storage engine failed: {what} ({detail}); it is reopened on the next call")]
    Engine {
        /// What was being done.
        what: &'static str,
        /// The engine's own words.
        detail: String,
    },
    /// The engine is closed after a failure and could not be reopened yet.
    #[error("outbox is closed: {reason}; it opens by itself once that is mended")]
    Closed {
        /// What keeps the engine from opening.
        reason: String,
    },
    /// The failed engine does not let go of its files, so only a new process can reopen them.
    #[error("storage engine did not shut down after a failure; restart the agent")]
    Stuck,
    /// A value over the limit of its place.
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// What was to be stored.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A name outside `[a-z0-9._-]{1,64}`, or one with a leading dot.
    #[error("name {name:?} is refused: 1 to 64 of a-z 0-9 . _ -, and no dot in front")]
    Name {
        /// The refused name.
        name: String,
    },
    /// The simulated power is off ([`crate::FaultJournal`] only).
    #[error("the power is cut; restart the journal")]
    Cut,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same call may succeed later, unchanged.
    Retry,
    /// The same call will never succeed; drop or change the request.
    Refuse,
    /// The journal is of no use to this process; report and stop, or go on without it.
    Fatal,
}

impl StoreError {
    /// What to do about this error.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::Engine { .. } | Self::Closed { .. } => {
                Class::Retry
            }
            Self::TooLarge { .. } | Self::Name { .. } => Class::Refuse,
            Self::Locked { .. } | Self::ReadOnly { .. } | Self::Stuck | Self::Cut => Class::Fatal,
        }
    }

    /// Sorts an error of the system into the kinds above.
    pub(crate) fn from_io(doing: &str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly {
                path: path.to_owned(),
                source,
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                what: format!("{doing} {}", path.display()),
            },
            _ => Self::Io {
                what: format!("{doing} {}", path.display()),
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(kind: io::ErrorKind) -> StoreError {
        StoreError::from_io("write", Path::new("data/state"), kind.into())
    }

    #[test]
    fn system_errors_sort_by_what_to_do() {
        assert!(matches!(
            kind(io::ErrorKind::ReadOnlyFilesystem),
            StoreError::ReadOnly { .. }
        ));
        assert!(matches!(
            kind(io::ErrorKind::StorageFull),
            StoreError::Full { .. }
        ));
        assert_eq!(kind(io::ErrorKind::StorageFull).class(), Class::Retry);
        assert_eq!(
            kind(io::ErrorKind::ReadOnlyFilesystem).class(),
            Class::Fatal
        );
        assert_eq!(kind(io::ErrorKind::TimedOut).class(), Class::Retry);
    }

    #[test]
    fn message_names_place_and_remedy_and_leaves_the_cause_to_source() {
        let error = kind(io::ErrorKind::PermissionDenied);
        let text = error.to_string();
        assert!(text.contains("data/state") && text.contains("writable"));
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(!text.contains(&cause), "{text} repeats {cause}");
    }
}
