//! `drover bundle build`.

use std::path::PathBuf;

use clap::Args;
use drover_bundle::{Container, Spec};
use drover_runtime::build::build;
use drover_trust::Envelope;

use super::inspect::Digest;
use crate::clock;
use crate::error::{CliError, Result};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Spec of the bundle, a TOML file
    spec: PathBuf,
    /// Where to write the bundle
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Time of the build in seconds since 1970, for bundles that come out the same
    #[arg(long, value_name = "UNIX_S", env = "SOURCE_DATE_EPOCH")]
    created: Option<u64>,
}

pub(super) fn run(args: &Build, out: &Output) -> Result<()> {
    let spec = Spec::read(&args.spec)?;
    let created_unix_s = args.created.unwrap_or_else(clock::unix_s);
    let built = build(&spec, created_unix_s).map_err(|source| CliError::Build {
        spec: args.spec.clone(),
        source: Box::new(source),
    })?;
    let manifest = built.manifest;
    let encoded = manifest.encode().map_err(|source| CliError::Manifest {
        spec: args.spec.clone(),
        source,
    })?;
    let container = Container {
        envelope: Envelope::unsigned(encoded),
        payload: built.payload,
    };
    super::write(&args.output, &container)?;
    let digest = Digest::of(&container.envelope);
    let summary = super::inspect::Summary::new(&args.output, &manifest, digest);
    out.show_lines(&summary, || {
        format!(
            "{}: built {} {}, {} bytes in {} chunks, digest {}; sign it before it is published",
            args.output.display(),
            manifest.name,
            manifest.version,
            manifest.total_bytes(),
            manifest.chunking.digests.len(),
            digest,
        )
    })
}
