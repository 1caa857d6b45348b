//! Why a row did not pass, or could not be played.

use drover_trust::TrustError;
use drover_wire::message::WireError;

/// Why a row did not pass, or could not be played.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// Something that a row demands does not hold.
    #[error("{0}")]
    Failed(String),
    /// A file or process is of no use.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Metadata of the suite's own is not acceptable.
    #[error("the suite's own metadata is not acceptable")]
    Trust(#[from] TrustError),
    /// A message of the suite's own cannot be encoded.
    #[error("the suite's own message is not acceptable")]
    Wire(#[from] WireError),
    /// A sandbox below which no Unix socket fits.
    #[error("the path {} is too long for Unix sockets below it; use a shorter one", folder.display())]
    LongPath {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// A row that does not exist.
    #[error("there is no row {0}; rows are A1-A5, B1-B3, C1-C8, D1-D6, E1-E4 and F1-F5")]
    UnknownRow(String),
}

pub(crate) type Result<T> = std::result::Result<T, AttackError>;

/// A condition that a row demands.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { fail(otherwise()) }
}

/// What was found instead.
pub(crate) fn fail<T>(what: impl Into<String>) -> Result<T> {
    Err(AttackError::Failed(what.into()))
}

/// Names what was tried on the file system.
pub(crate) fn io<T>(what: impl FnOnce() -> String, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| AttackError::Io {
        what: what(),
        source,
    })
}

/// The error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
