//! `drover keys`: the ceremony of a fleet's keys and root metadata.
//!
//! One person may do it all at once (`init`), or each holder makes a key alone (`make`), one
//! of them drafts (`draft`, `rotate`, `revoke`), and the draft is carried from holder to
//! holder (`sign`). `inspect` says what is still missing.
//!
//! Secret halves are written once, to files that only their owner can read, and never shown
//! or overwritten. When any file cannot be written, those written before it are removed.

mod draft;
mod init;
mod inspect;
mod make;
pub(crate) mod oms;
mod sign;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use drover_trust::{Envelope, Role, Root, SecretKey, TrustedRoot, root};

use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;
use crate::passphrase;

/// Extension of root metadata.
pub(crate) const ROOT_FILE: &str = "root.drover-root";
const MAX_KEY_FILE_BYTES: u64 = 4096;
/// An envelope adds at most 32 signatures to its payload.
const MAX_ROOT_FILE_BYTES: u64 = root::MAX_BYTES as u64 + 8192;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make the keys of a new fleet and the root metadata that names them, on one machine
    Init(init::Init),
    /// Make one key, on the machine of its holder
    Make(make::Make),
    /// Write the public half of a key
    Public {
        /// Key file
        file: PathBuf,
        /// Where to write it; FILE.pub otherwise
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Draft the root of a new fleet from public keys, for its holders to sign
    Draft(draft::Draft),
    /// Draft the next root: add keys, remove keys, change thresholds or the security epoch
    Rotate(draft::Rotate),
    /// Draft the next root without a key that was lost or stolen
    Revoke(draft::Rotate),
    /// Add a holder's signature to a drafted root, offline
    Sign(sign::Sign),
    /// Make a P-256 key that signs exports for OpenSSF Model Signing
    Oms(oms::Oms),
    /// Show what a key file or root metadata says, without its secrets
    Inspect {
        /// Key file or root metadata
        file: PathBuf,
        /// The root before it, to see who must still sign
        #[arg(long, value_name = "ROOT")]
        after: Option<PathBuf>,
    },
}

pub(crate) fn run(command: Keys, out: &Output) -> Result<()> {
    match command {
        Keys::Init(args) => init::run(&args, out),
        Keys::Make(args) => make::run(&args, out),
        Keys::Public { file, out: to } => make::public(&file, to.as_deref(), out),
        Keys::Draft(args) => draft::draft(&args, out),
        Keys::Rotate(args) => draft::rotate(&args, out),
        Keys::Revoke(args) => draft::revoke(&args, out),
        Keys::Sign(args) => sign::run(&args, out),
        Keys::Oms(args) => oms::run(&args, out),
        Keys::Inspect { file, after } => inspect::run(&file, after.as_deref(), out),
    }
}

/// Reads a key file.
pub(crate) fn read_key(path: &Path) -> Result<(Role, SecretKey)> {
    let bytes = file::read(path, MAX_KEY_FILE_BYTES, "a key file")?;
    passphrase::read_key(path, &String::from_utf8_lossy(&bytes))
}

/// Reads root metadata and checks it against its own keys.
pub(crate) fn read_root(path: &Path) -> Result<TrustedRoot> {
    let envelope = read_envelope(path)?;
    TrustedRoot::self_signed(envelope).map_err(|source| CliError::Root {
        path: path.to_owned(),
        source,
    })
}

/// Reads root metadata whose signatures may still be missing.
fn read_envelope(path: &Path) -> Result<Envelope> {
    let bytes = file::read(path, MAX_ROOT_FILE_BYTES, "root metadata")?;
    let envelope = Envelope::decode(&bytes);
    let readable = |e: Envelope| Root::unverified(&e).map(|_| e);
    envelope
        .and_then(readable)
        .map_err(|source| CliError::Root {
            path: path.to_owned(),
            source,
        })
}

/// Draws keys.
fn draw<const N: usize>() -> Result<[SecretKey; N]> {
    let mut seeds = [[0; 32]; N];
    for seed in &mut seeds {
        getrandom::fill(seed).map_err(|e| CliError::Random(e.into()))?;
    }
    Ok(seeds.map(|seed| SecretKey::from_seed(&seed)))
}
