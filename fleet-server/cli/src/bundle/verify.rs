//! `drover bundle verify`.

use std::path::PathBuf;

use clap::Args;

use super::inspect::{Digest, Summary};
use crate::error::{CliError, Result};
use crate::keys::read_root;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Bundle file
    bundle: PathBuf,
    /// Root metadata of the fleet
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
}

pub(super) fn run(args: &Verify, out: &Output) -> Result<()> {
    let root = read_root(&args.root)?;
    let (_, container) = super::read(&args.bundle)?;
    let verified = container.verify(&root).map_err(|source| CliError::Bundle {
        path: args.bundle.clone(),
        source,
    })?;
    let manifest = verified.manifest();
    let digest = Digest(*verified.digest());
    let summary = Summary::new(&args.bundle, manifest, digest);
    out.show_lines(&summary, || {
        format!(
            "{}: {} {} (counter {}) is intact and signed by the release keys of fleet {}, \
             digest {digest}",
            args.bundle.display(),
            manifest.name,
            manifest.version,
            manifest.counter,
            root.root().fleet,
        )
    })
}
