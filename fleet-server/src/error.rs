//! Why the server does not start or cannot go on.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server does not start or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A value of the configuration cannot work.
    #[error("configuration: {field} is not acceptable: {why}")]
    Config {
        /// Which field.
        field: &'static str,
        /// What to do.
        why: &'static str,
    },
    /// The data folder cannot be used.
    #[error("data folder {}: {hint}", path.display())]
    DataDir {
        /// Folder or file.
        path: PathBuf,
        /// What is wrong and what to do.
        hint: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another server uses the data folder.
    #[error(
        "data folder {} is in use by another server; stop that one or use another data_dir",
        path.display()
    )]
    Locked {
        /// Folder.
        path: PathBuf,
    },
    /// The data folder belongs to another fleet.
    #[error(
        "data folder belongs to fleet {have:?}, but the root metadata is of fleet {got:?}; \
         use that fleet's keys or another data_dir"
    )]
    Fleet {
        /// Fleet of the folder.
        have: String,
        /// Fleet of the root.
        got: String,
    },
    /// The database was written by a newer server.
    #[error("the database has format {got}, this server reads up to {known}; use a newer server")]
    Schema {
        /// Format found.
        got: i64,
        /// Newest format known.
        known: i64,
    },
    /// The database failed.
    #[error("database: {hint}")]
    Database {
        /// What to do.
        hint: &'static str,
        /// What the database says.
        source: sqlx::Error,
    },
    /// Stored content cannot be read.
    #[error("stored {what} cannot be read; restore the data folder from a backup")]
    Stored {
        /// What.
        what: &'static str,
    },
    /// A key or root file cannot be read.
    #[error("{what} file {} cannot be read; make keys with `drover keys init`", path.display())]
    KeyFile {
        /// Which file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A key or root file is not acceptable.
    #[error("{what} file {} is not acceptable", path.display())]
    KeyContent {
        /// Which file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: drover_trust::TrustError,
    },
    /// A file of the OpenID Connect client cannot be read.
    #[error("oidc: file {} cannot be read", path.display())]
    OidcFile {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A key file needs a passphrase.
    #[error(
        "the key file {} has a passphrase; name the file that holds it (--passphrase-file)",
        path.display()
    )]
    Sealed {
        /// Where.
        path: PathBuf,
    },
    /// The root names no key of this server.
    #[error("this server cannot sign for the {role} role with {}: {why}", path.display())]
    RoleKey {
        /// Which role.
        role: drover_trust::Role,
        /// File of the key that was tried.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The configured root contradicts those that the server has.
    #[error(
        "the root in {} is not the one of its version in the data folder; configure the root \
         that this fleet began with",
        path.display()
    )]
    RootChain {
        /// Where.
        path: PathBuf,
    },
    /// A port cannot be listened on.
    #[error("{what} cannot listen on {addr}: {hint}")]
    Listen {
        /// What.
        what: &'static str,
        /// Where.
        addr: SocketAddr,
        /// What to do.
        hint: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The embedded broker failed.
    #[error("the embedded broker does not start: {0}")]
    Broker(String),
    /// What was asked for is of the embedded broker only.
    #[error("the broker is run by somebody else; start and stop it there")]
    ExternalBroker,
    /// A certificate or its key cannot be made or used.
    #[error("TLS: {what}: {why}")]
    Tls {
        /// Which part.
        what: &'static str,
        /// What the library says.
        why: String,
    },
    /// A message cannot be encoded.
    #[error("a message to a device cannot be encoded")]
    Encode,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
    /// Part of the server ended unexpectedly.
    #[error("the server's {0} ended unexpectedly; its log says more")]
    Ended(&'static str),
}

impl From<sqlx::Error> for ServerError {
    fn from(source: sqlx::Error) -> Self {
        let text = source.to_string();
        let hint = if text.contains("full") {
            "the disk is full; free some space, nothing was lost"
        } else if text.contains("readonly") {
            "the data folder is read-only; give the server write permission"
        } else if text.contains("malformed") || text.contains("not a database") {
            "the file is damaged; restore the data folder from a backup"
        } else if text.contains("locked") {
            "it is in use by another process; stop that one"
        } else {
            "it does not do what was asked; the cause says more"
        };
        Self::Database { hint, source }
    }
}

/// What to tell a person about `error` at a file of the data folder.
pub(crate) fn io_hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied => "no permission; give this user write permission",
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only; use another data_dir",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full; free some space and try again"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "it is not a folder; use another data_dir"
        }
        _ => "it cannot be used",
    }
}

/// What to tell a person about `error` at a port.
pub(crate) fn listen_hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::AddrInUse => "the port is in use; stop the other program or use another port",
        ErrorKind::PermissionDenied => "no permission; use a port from 1024 up",
        ErrorKind::AddrNotAvailable => "the address is not one of this machine",
        _ => "the address cannot be used",
    }
}
