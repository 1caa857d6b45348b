//! `drover root` and `drover catalog`: what devices are told to trust.

use std::path::PathBuf;

use clap::Subcommand;

use crate::args::Global;
use crate::error::Result;
use crate::output::Output;
use crate::table::Table;
use crate::{clock, file, keys, link};

const MAX_ROOT_BYTES: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Root {
    /// Bring the next root, signed by old and new holders, to the server and all devices
    Publish {
        /// Root metadata
        root: PathBuf,
    },
    /// List the roots of the fleet, and how many devices trust each
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Catalog {
    /// Show what the newest catalog lists
    Show,
}

pub(crate) fn run(command: Root, global: &Global, out: &Output) -> Result<()> {
    match command {
        Root::Publish { root } => {
            // Signatures that are missing are named before anything is sent.
            keys::read_root(&root)?;
            let bytes = file::read(&root, MAX_ROOT_BYTES, "root metadata")?;
            let root = link::client(global)?.publish_root(&bytes)?;
            out.show_lines(&root, || {
                format!(
                    "root {} is published; its pin is {}",
                    root.version, root.pin
                )
            })
        }
        Root::List => {
            let roots = link::client(global)?.roots()?;
            out.show(&roots, || {
                let header = ["VERSION", "MADE", "ENDS", "EPOCH", "DEVICES", "PIN"];
                let mut table = Table::new(&header, "no roots");
                for r in &roots {
                    table.row([
                        r.version.to_string(),
                        clock::show_s(r.created_unix_s),
                        clock::show_s(r.expires_unix_s),
                        r.epoch.to_string(),
                        r.devices.to_string(),
                        r.pin.clone(),
                    ]);
                }
                table
            })
        }
    }
}

pub(crate) fn catalog(command: &Catalog, global: &Global, out: &Output) -> Result<()> {
    let Catalog::Show = command;
    let catalog = link::client(global)?.catalog()?;
    out.show(&catalog, || {
        let header = ["NAME", "VERSION", "COUNTER", "EPOCH", "BYTES", "DIGEST"];
        let mut table = Table::new(&header, "the catalog lists nothing; publish a release");
        for r in &catalog.releases {
            table.row([
                r.name.clone(),
                r.version.clone(),
                r.counter.to_string(),
                r.epoch.to_string(),
                r.total_bytes.to_string(),
                r.digest.clone(),
            ]);
        }
        table
    })
}
