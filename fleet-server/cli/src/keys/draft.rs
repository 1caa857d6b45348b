//! `drover keys draft`, `rotate` and `revoke`: root metadata that nobody has signed yet.
//!
//! A draft is an ordinary envelope without signatures. It is carried to the holders of root
//! keys, who add theirs with `drover keys sign`; nothing here touches a secret.

use std::path::PathBuf;

use clap::Args;
use drover_trust::{Envelope, Role, RoleKeys, Root};

use super::{inspect, make, read_root};
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::{clock, file};

const DAY_S: u64 = 86_400;

#[derive(Debug, Args)]
pub(crate) struct Draft {
    /// Name of the new fleet
    #[arg(long, value_name = "NAME")]
    fleet: String,
    /// Public key file of a key that the root is to name; repeat it
    #[arg(long = "key", value_name = "PUB", required = true)]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    terms: Terms,
    /// Draft to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The newest root
    #[arg(long, value_name = "ROOT")]
    from: PathBuf,
    /// Public key file of a key to add; repeat it
    #[arg(long = "add", value_name = "PUB")]
    add: Vec<PathBuf>,
    /// Id of a key to remove from every role, or ROLE=ID; repeat it
    #[arg(long = "remove", value_name = "ID")]
    remove: Vec<String>,
    #[command(flatten)]
    terms: Terms,
    /// Draft to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Terms {
    /// Keys of a role that must sign, as in release=2; 1 where nothing is said
    #[arg(long = "threshold", value_name = "ROLE=N", value_parser = threshold)]
    thresholds: Vec<(Role, u8)>,
    /// Days until a newer root must have followed
    #[arg(long, value_name = "DAYS", default_value_t = 730)]
    lifetime_days: u64,
    /// Least security epoch of bundles that devices newly accept
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
}

fn threshold(text: &str) -> std::result::Result<(Role, u8), String> {
    let (role, n) = text.split_once('=').ok_or("write it as release=2")?;
    let n = n
        .parse()
        .map_err(|_| "a threshold is a number from 1 to 16")?;
    Ok((make::role(role)?, n))
}

pub(super) fn draft(args: &Draft, out: &Output) -> Result<()> {
    let now = clock::unix_s();
    let mut root = Root {
        version: 1,
        fleet: args.fleet.clone(),
        created_unix_s: now,
        expires_unix_s: 0,
        epoch: 0,
        roles: vec![],
    };
    add(&mut root, &args.keys)?;
    finish(root, &args.terms, &args.out, out)
}

pub(super) fn rotate(args: &Rotate, out: &Output) -> Result<()> {
    let newest = read_root(&args.from)?;
    let mut root = newest.root().clone();
    root.version = root.version.checked_add(1).ok_or_else(|| {
        CliError::Usage("the root has the highest version there is; start a new fleet".into())
    })?;
    root.created_unix_s = clock::unix_s().max(root.created_unix_s);
    for wanted in &args.remove {
        remove(&mut root, wanted)?;
    }
    add(&mut root, &args.add)?;
    finish(root, &args.terms, &args.out, out)
}

/// [`rotate`] that must take something away.
pub(super) fn revoke(args: &Rotate, out: &Output) -> Result<()> {
    if args.remove.is_empty() {
        return Err(CliError::Usage(
            "name the key that was lost or stolen: --remove ID, as `drover keys inspect` shows \
             it"
            .into(),
        ));
    }
    rotate(args, out)
}

fn add(root: &mut Root, files: &[PathBuf]) -> Result<()> {
    for path in files {
        let (role, key) = make::read_public(path)?;
        match root.roles.iter_mut().find(|r| r.role == role) {
            Some(keys) => keys.keys.push(key),
            None => root.roles.push(RoleKeys {
                role,
                threshold: 1,
                keys: vec![key],
            }),
        }
    }
    Ok(())
}

fn remove(root: &mut Root, wanted: &str) -> Result<()> {
    let (role, id) = match wanted.split_once('=') {
        Some((role, id)) => (Some(make::role(role).map_err(CliError::Usage)?), id),
        None => (None, wanted),
    };
    let mut removed = false;
    for entry in &mut root.roles {
        if role.is_some_and(|r| r != entry.role) || id.len() < 8 {
            continue;
        }
        let before = entry.keys.len();
        entry
            .keys
            .retain(|key| !key.id().to_string().starts_with(id));
        removed |= entry.keys.len() < before;
    }
    if removed {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "the root names no key {wanted:?}: give at least 8 digits of an id that `drover keys \
         inspect` shows"
    )))
}

fn finish(mut root: Root, terms: &Terms, path: &std::path::Path, out: &Output) -> Result<()> {
    for &(role, threshold) in &terms.thresholds {
        let entry = root.roles.iter_mut().find(|r| r.role == role);
        let entry = entry.ok_or_else(|| {
            CliError::Usage(format!(
                "--threshold {role}={threshold}: no {role} key is named"
            ))
        })?;
        entry.threshold = threshold;
    }
    root.roles.retain(|entry| !entry.keys.is_empty());
    for entry in &root.roles {
        if usize::from(entry.threshold) > entry.keys.len() {
            return Err(CliError::Usage(format!(
                "{} of {} {} keys must sign, which can never be met: add a key with --add, or \
                 lower it with --threshold {}=N",
                entry.threshold,
                entry.keys.len(),
                entry.role,
                entry.role
            )));
        }
    }
    if root.role(Role::Catalog).is_none() {
        return Err(CliError::Usage(
            "a fleet needs a catalog key: make one with `drover keys make --role catalog`".into(),
        ));
    }
    root.expires_unix_s = root
        .created_unix_s
        .saturating_add(terms.lifetime_days.saturating_mul(DAY_S));
    if let Some(epoch) = terms.epoch {
        if epoch < root.epoch {
            return Err(CliError::Usage(format!(
                "--epoch {epoch} is below {}, which devices have seen: epochs only grow",
                root.epoch
            )));
        }
        root.epoch = epoch;
    }
    let payload = root.encode().map_err(CliError::MakeRoot)?;
    let envelope = Envelope::unsigned(payload);
    let bytes = envelope.encode().map_err(CliError::MakeRoot)?;
    file::create(path, &bytes, false)?;
    inspect::show_root(&envelope, None, out)
}
