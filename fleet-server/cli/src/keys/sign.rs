//! `drover keys sign`: adds one holder's signature to root metadata, offline.

use std::path::PathBuf;

use clap::Args;
use drover_trust::{Domain, Envelope, Role};

use super::{inspect, read_envelope, read_key, read_root};
use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// Root metadata, as drafted or with others' signatures
    file: PathBuf,
    /// A root key of the new root, or of the one before it; repeat it
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<PathBuf>,
    /// The root before it, to see who must still sign
    #[arg(long, value_name = "ROOT")]
    after: Option<PathBuf>,
    /// Write here instead of over FILE
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Sign, out: &Output) -> Result<()> {
    let mut envelope: Envelope = read_envelope(&args.file)?;
    let after = args.after.as_deref().map(read_root).transpose()?;
    for path in &args.keys {
        let (role, key) = read_key(path)?;
        if role != Role::Root {
            return Err(CliError::KeyRole {
                path: path.clone(),
                got: role,
                wanted: Role::Root,
            });
        }
        envelope.sign(Domain::Root, &key);
    }
    let bytes = envelope.encode().map_err(CliError::MakeRoot)?;
    file::replace(args.out.as_ref().unwrap_or(&args.file), &bytes)?;
    inspect::show_root(&envelope, after.as_ref(), out)
}
