//! `drover keys`: makes a fleet's keys and its root metadata, and shows what a key file is.
//!
//! Secret halves are written once, to files that only their owner can read, and never shown
//! or overwritten. When any file cannot be written, those written before it are removed.

mod init;
mod inspect;
pub(crate) mod oms;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use drover_trust::{Envelope, Role, SecretKey, TrustedRoot, keyfile, root};

use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;

/// Extension of root metadata.
pub(crate) const ROOT_FILE: &str = "root.drover-root";
const MAX_KEY_FILE_BYTES: u64 = 4096;
/// An envelope adds at most 32 signatures to its payload.
const MAX_ROOT_FILE_BYTES: u64 = root::MAX_BYTES as u64 + 8192;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make the keys of a new fleet and the root metadata that names them
    Init(init::Init),
    /// Show what a key file or root metadata says, without its secrets
    Inspect {
        /// Key file or root metadata
        file: PathBuf,
    },
    /// Make a P-256 key that signs exports for OpenSSF Model Signing
    Oms(oms::Oms),
}

pub(crate) fn run(command: Keys, out: &Output) -> Result<()> {
    match command {
        Keys::Init(args) => init::run(&args, out),
        Keys::Inspect { file } => inspect::run(&file, out),
        Keys::Oms(args) => oms::run(&args, out),
    }
}

/// Reads a key file.
pub(crate) fn read_key(path: &Path) -> Result<(Role, SecretKey)> {
    let bytes = file::read(path, MAX_KEY_FILE_BYTES, "a key file")?;
    keyfile::parse(&String::from_utf8_lossy(&bytes)).map_err(|source| CliError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Reads root metadata and checks it against its own keys.
pub(crate) fn read_root(path: &Path) -> Result<TrustedRoot> {
    let bytes = file::read(path, MAX_ROOT_FILE_BYTES, "root metadata")?;
    Envelope::decode(&bytes)
        .and_then(TrustedRoot::self_signed)
        .map_err(|source| CliError::Root {
            path: path.to_owned(),
            source,
        })
}
