//! `drover release`: bundles in the fleet's catalogue.

use std::path::PathBuf;

use clap::Subcommand;

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::table::Table;
use crate::{bundle, clock, link};

#[derive(Debug, Subcommand)]
pub(crate) enum Release {
    /// Publish a signed bundle
    Publish {
        /// Bundle file
        bundle: PathBuf,
        /// Encrypt its content on its way, for the fleet's devices alone
        #[arg(long)]
        confidential: bool,
    },
    /// List releases, newest first
    List,
}

pub(crate) fn run(command: Release, global: &Global, out: &Output) -> Result<()> {
    match command {
        Release::Publish {
            bundle: path,
            confidential,
        } => {
            let (bytes, container) = bundle::read(&path)?;
            // The server checks everything; this one message can say what to do.
            if container.envelope.signatures().is_empty() {
                return Err(CliError::Unsigned { path });
            }
            let client = link::client(global)?;
            let release = match confidential {
                true => client.publish_confidential(&bytes)?,
                false => client.publish_release(&bytes)?,
            };
            out.show_lines(&release, || {
                format!(
                    "published {} {} (counter {}), digest {}",
                    release.name, release.version, release.counter, release.digest
                )
            })
        }
        Release::List => {
            let releases = link::client(global)?.releases()?;
            out.show(&releases, || {
                let header = ["NAME", "VERSION", "COUNTER", "BYTES", "PUBLISHED", "DIGEST"];
                let mut table = Table::new(&header, "no releases; publish one");
                for r in &releases {
                    table.row([
                        r.name.clone(),
                        r.version.clone(),
                        r.counter.to_string(),
                        r.total_bytes.to_string(),
                        clock::show_s(r.published_unix_s),
                        r.digest.clone(),
                    ]);
                }
                table
            })
        }
    }
}
