//! `drover audit`: who changed what, when and why; and copies of it that are checked without
//! the server.
//!
//! An export is a line of JSON per entry and, as its last line, the head that the fleet key
//! signed. A copy is written whole or not at all.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use drover_api::audit::{AuditChain, check_continues};
use drover_api::{AuditEntry, AuditHead, Client};
use drover_trust::{Domain, Envelope, Role};
use serde::{Deserialize, Serialize};

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::table::Table;
use crate::{clock, file, keys, link};

const MAX_EXPORT_BYTES: u64 = 1 << 30;
/// Entries asked for at once.
const PAGE: u32 = 10_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Show the newest entries, oldest first
    List {
        /// How many at most
        #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Copy the whole log into a file, with its signed end
    Export {
        /// File to write
        file: PathBuf,
    },
    /// Check a copy, without the server
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Copy that `drover audit export` wrote
    file: PathBuf,
    /// Root metadata of the fleet: check the signature of the end as well
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Earlier copy of the same log, which this one has to go on from
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
}

/// Last line of an export.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    head: AuditHead,
}

/// What a check found right.
#[derive(Serialize)]
struct Verified {
    entries: u64,
    hash: String,
    signed: bool,
}

pub(crate) fn run(command: Audit, global: &Global, out: &Output) -> Result<()> {
    match command {
        Audit::List { limit } => {
            let client = link::client(global)?;
            let newest = client.audit_head()?.number;
            let entries = client.audit(newest.saturating_sub(limit.into()), limit)?;
            out.show(&entries, || table(&entries))
        }
        Audit::Export { file } => export(&link::client(global)?, &file, out),
        Audit::Verify(args) => verify(&args, out),
    }
}

fn export(client: &Client, path: &Path, out: &Output) -> Result<()> {
    // The end is asked for first: entries made meanwhile are not in this copy.
    let head = client.audit_head()?;
    let mut text = Vec::new();
    let mut last = 0;
    while last < head.number {
        let entries = client.audit(last, PAGE)?;
        let before = last;
        for entry in entries.iter().take_while(|e| e.number <= head.number) {
            line(&mut text, entry)?;
            last = entry.number;
        }
        if last == before {
            // The check of the copy will say what is missing.
            break;
        }
    }
    line(&mut text, &End { head: head.clone() })?;
    file::replace(path, &text)?;
    out.show_lines(&head, || {
        format!(
            "wrote {} entries to {}; keep it: `drover audit verify NEWER --after {}` finds out \
             later whether the log was written anew",
            head.number,
            path.display(),
            path.display()
        )
    })
}

fn line(text: &mut Vec<u8>, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *text, value).map_err(|e| CliError::Stdout(e.into()))?;
    text.push(b'\n');
    Ok(())
}

fn verify(args: &Verify, out: &Output) -> Result<()> {
    let path = &args.file;
    let broken = |source| CliError::Audit {
        path: path.clone(),
        source,
    };
    let (entries, head) = read(path)?;
    let mut chain = AuditChain::default();
    for entry in &entries {
        chain.push(entry).map_err(broken)?;
    }
    chain.check_head(&head).map_err(broken)?;
    if let Some(root) = &args.root {
        check_signature(path, root, &head)?;
    }
    if let Some(older) = &args.after {
        let (before, head) = read(older)?;
        let mut chain = AuditChain::default();
        let checked = before.iter().try_for_each(|e| chain.push(e));
        let checked = checked.and_then(|()| chain.check_head(&head));
        checked.map_err(|source| CliError::Audit {
            path: older.clone(),
            source,
        })?;
        if let Some(root) = &args.root {
            check_signature(older, root, &head)?;
        }
        check_continues(&entries, &before).map_err(broken)?;
    }
    let verified = Verified {
        entries: head.number,
        hash: head.hash.clone(),
        signed: args.root.is_some(),
    };
    out.show_lines(&verified, || {
        let signature = match verified.signed {
            true => "its end is signed by the fleet key",
            false => "the signature of its end was not checked; name the fleet's --root for that",
        };
        format!("{} entries fit together; {signature}", verified.entries)
    })
}

fn check_signature(path: &Path, root: &Path, head: &AuditHead) -> Result<()> {
    let root = keys::read_root(root)?;
    let refused = |source| CliError::AuditSignature {
        path: path.to_owned(),
        source,
    };
    let bytes = data_encoding::HEXLOWER.decode(head.envelope.as_bytes());
    let envelope = Envelope::decode(&bytes.unwrap_or_default()).map_err(refused)?;
    let payload = root.verify(Role::Fleet, Domain::AuditHead, &envelope);
    let payload = payload.map_err(refused)?;
    if payload != head.statement().as_bytes() || root.root().fleet != head.fleet {
        return Err(CliError::AuditStatement {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Entries and head of an export.
fn read(path: &Path) -> Result<(Vec<AuditEntry>, AuditHead)> {
    let bytes = file::read(path, MAX_EXPORT_BYTES, "an exported audit log")?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().enumerate().peekable();
    let mut entries = Vec::new();
    let malformed = |number: usize, source| CliError::AuditLine {
        path: path.to_owned(),
        line: number + 1,
        source,
    };
    while let Some((number, line)) = lines.next() {
        if lines.peek().is_some() {
            let entry = serde_json::from_str(line).map_err(|e| malformed(number, e))?;
            entries.push(entry);
            continue;
        }
        return match serde_json::from_str::<End>(line) {
            Ok(end) => Ok((entries, end.head)),
            // Without the last line it is an entry, and the end is gone.
            Err(_) if serde_json::from_str::<AuditEntry>(line).is_ok() => break,
            Err(source) => Err(malformed(number, source)),
        };
    }
    Err(CliError::AuditEnd {
        path: path.to_owned(),
    })
}

fn table(entries: &[AuditEntry]) -> Table {
    let header = [
        "NUMBER", "TIME", "WHO", "ROLE", "HOW", "WHAT", "OBJECT", "REASON",
    ];
    let mut table = Table::new(&header, "nothing was changed");
    for e in entries {
        table.row([
            e.number.to_string(),
            clock::show_s(e.unix_ms / 1000),
            e.who.clone(),
            e.role.clone(),
            e.how.clone(),
            e.what.clone(),
            e.object.clone(),
            e.reason.clone(),
        ]);
    }
    table
}
