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
    /// Show one release: its files, where it comes from and what it was made of
    Show {
        /// Model name, name@version, or digits of a digest
        release: String,
    },
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
                let header = [
                    "NAME",
                    "VERSION",
                    "COUNTER",
                    "EPOCH",
                    "BYTES",
                    "PUBLISHED",
                    "DIGEST",
                ];
                let mut table = Table::new(&header, "no releases; publish one");
                for r in &releases {
                    table.row([
                        r.name.clone(),
                        r.version.clone(),
                        r.counter.to_string(),
                        r.epoch.to_string(),
                        r.total_bytes.to_string(),
                        clock::show_s(r.published_unix_s),
                        r.digest.clone(),
                    ]);
                }
                table
            })
        }
        Release::Show { release } => {
            let release = link::client(global)?.release(&release)?;
            out.show(&release, || show(&release))
        }
    }
}

fn show(release: &drover_api::Release) -> Table {
    let mut table = Table::pairs();
    table.pair("name", &release.name);
    table.pair("version", &release.version);
    table.pair("counter", release.counter);
    table.pair("security epoch", release.epoch);
    if !release.description.is_empty() {
        table.pair("description", &release.description);
    }
    table.pair("digest", &release.digest);
    table.pair("created", clock::show_s(release.created_unix_s));
    table.pair("published", clock::show_s(release.published_unix_s));
    table.pair("bytes", release.total_bytes);
    for file in &release.files {
        let value = format!(
            "{}, {} bytes, SHA-256 {}",
            file.role, file.size, file.sha256
        );
        table.pair(&format!("file {}", file.name), value);
    }
    let lineage = &release.lineage;
    let texts = [
        &lineage.training_run,
        &lineage.data_version,
        &lineage.commit,
        &lineage.approved_by,
    ];
    bundle::lineage(&mut table, texts, lineage.end_of_support_unix_s);
    for component in &release.components {
        bundle::component(
            &mut table,
            &component.name,
            &component.version,
            &component.purl,
        );
    }
    table
}
