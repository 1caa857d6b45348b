//! `drover bundle`: makes, signs, checks and shows bundle files, all without a server.
//!
//! A bundle file is replaced as a whole or not at all. What is signed is intact: a damaged
//! bundle is refused before a key touches it.

mod build;
mod inspect;
mod oms;
mod sbom;
mod sign;
mod verify;

pub(crate) use inspect::{component, lineage};

use std::path::{Path, PathBuf};

use clap::Subcommand;
use drover_bundle::Container;
use drover_bundle::manifest::MAX_TOTAL_BYTES;
use drover_trust::envelope;

use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;

const MAX_BUNDLE_BYTES: u64 = MAX_TOTAL_BYTES + envelope::MAX_BYTES as u64 + 12;

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Build an unsigned bundle from a spec, and prove its model on this machine
    Build(build::Build),
    /// Add signatures to a bundle
    Sign(sign::Sign),
    /// Check signatures and files of a bundle against a fleet's root
    Verify(verify::Verify),
    /// Show everything that a bundle says, without checking who signed it
    Inspect {
        /// Bundle file
        bundle: PathBuf,
    },
    /// Write what a bundle is made of as a CycloneDX ML-BOM
    Sbom(sbom::Sbom),
    /// Write a bundle's files with an OpenSSF Model Signing signature
    ExportOms(oms::ExportOms),
}

pub(crate) fn run(command: Bundle, out: &Output) -> Result<()> {
    match command {
        Bundle::Build(args) => build::run(&args, out),
        Bundle::Sign(args) => sign::run(&args, out),
        Bundle::Verify(args) => verify::run(&args, out),
        Bundle::Inspect { bundle } => inspect::run(&bundle, out),
        Bundle::Sbom(args) => sbom::run(&args, out),
        Bundle::ExportOms(args) => oms::run(&args, out),
    }
}

/// Reads a bundle file; nothing in it is verified yet.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Container)> {
    let bytes = file::read(path, MAX_BUNDLE_BYTES, "a bundle")?;
    let container = Container::decode(&bytes).map_err(|source| CliError::Bundle {
        path: path.to_owned(),
        source,
    })?;
    Ok((bytes, container))
}

fn write(path: &Path, container: &Container) -> Result<()> {
    let bytes = container.encode().map_err(|source| CliError::Bundle {
        path: path.to_owned(),
        source,
    })?;
    file::replace(path, &bytes)
}
