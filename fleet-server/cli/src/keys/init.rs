//! `drover keys init`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use drover_trust::{Domain, Envelope, Role, RoleKeys, Root, SecretKey, TrustedRoot, keyfile};
use serde::Serialize;

use super::ROOT_FILE;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::table::Table;
use crate::{clock, file};

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Folder for the files; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the fleet
    #[arg(long, value_name = "NAME")]
    fleet: String,
    /// Root keys to make
    #[arg(long, value_name = "N", default_value = "1", value_parser = count())]
    root_keys: u8,
    /// Root keys that must sign
    #[arg(long, value_name = "N", default_value = "1", value_parser = count())]
    root_threshold: u8,
    /// Release keys to make
    #[arg(long, value_name = "N", default_value = "1", value_parser = count())]
    release_keys: u8,
    /// Release keys that must sign a bundle
    #[arg(long, value_name = "N", default_value = "1", value_parser = count())]
    release_threshold: u8,
}

/// Root metadata names at most 16 keys per role.
fn count() -> RangedU64ValueParser<u8> {
    RangedU64ValueParser::new().range(1..=16)
}

#[derive(Serialize)]
struct Made {
    fleet: String,
    pin: String,
    root: PathBuf,
    root_keys: Vec<PathBuf>,
    release_keys: Vec<PathBuf>,
    fleet_key: PathBuf,
}

pub(super) fn run(args: &Init, out: &Output) -> Result<()> {
    check_threshold("root", args.root_threshold, args.root_keys)?;
    check_threshold("release", args.release_threshold, args.release_keys)?;

    let roots = draw(args.root_keys)?;
    let releases = draw(args.release_keys)?;
    let fleet = draw(1)?;
    let envelope = sign_root(args, &roots, &releases, &fleet)?;

    let at = |name: String| args.out.join(name);
    let paths = |role: Role, n: usize| (1..=n).map(|i| at(format!("{role}-{i}.key"))).collect();
    let made = Made {
        fleet: args.fleet.clone(),
        pin: data_encoding::HEXLOWER.encode(&TrustedRoot::pin_of(&envelope)),
        root: at(ROOT_FILE.into()),
        root_keys: paths(Role::Root, roots.len()),
        release_keys: paths(Role::Release, releases.len()),
        fleet_key: at("fleet.key".into()),
    };

    let mut files = Vec::new();
    let mut add = |role, keys: &[SecretKey], paths: &[PathBuf]| {
        for (key, path) in keys.iter().zip(paths) {
            files.push((path.clone(), keyfile::format(role, key).into_bytes(), true));
        }
    };
    add(Role::Root, &roots, &made.root_keys);
    add(Role::Release, &releases, &made.release_keys);
    add(Role::Fleet, &fleet, std::slice::from_ref(&made.fleet_key));
    let encoded = envelope.encode().map_err(CliError::MakeRoot)?;
    files.push((made.root.clone(), encoded, false));
    write_all(&args.out, &files)?;

    out.show(&made, || {
        let mut table = Table::pairs();
        table.pair("fleet", &made.fleet);
        table.pair("pin", &made.pin);
        table.pair("root", made.root.display());
        for path in &made.root_keys {
            table.pair("root key", path.display());
        }
        for path in &made.release_keys {
            table.pair("release key", path.display());
        }
        table.pair("fleet key", made.fleet_key.display());
        table
    })
}

fn check_threshold(role: &str, threshold: u8, keys: u8) -> Result<()> {
    if threshold <= keys {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "--{role}-threshold {threshold} can never be met by {keys} {role} keys: raise \
         --{role}-keys or lower the threshold"
    )))
}

fn draw(n: u8) -> Result<Vec<SecretKey>> {
    let key = |_| {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| CliError::Random(e.into()))?;
        Ok(SecretKey::from_seed(&seed))
    };
    (0..n).map(key).collect()
}

fn sign_root(
    args: &Init,
    roots: &[SecretKey],
    releases: &[SecretKey],
    fleet: &[SecretKey],
) -> Result<Envelope> {
    let role = |role, threshold, keys: &[SecretKey]| RoleKeys {
        role,
        threshold,
        keys: keys.iter().map(SecretKey::public).collect(),
    };
    let root = Root {
        version: 1,
        fleet: args.fleet.clone(),
        created_unix_s: clock::unix_s(),
        roles: vec![
            role(Role::Root, args.root_threshold, roots),
            role(Role::Release, args.release_threshold, releases),
            role(Role::Fleet, 1, fleet),
        ],
    };
    let mut envelope = Envelope::unsigned(root.encode().map_err(CliError::MakeRoot)?);
    for key in roots {
        envelope.sign(Domain::Root, key);
    }
    Ok(envelope)
}

/// Writes all files or none: a fleet with half of its keys is of no use, and would keep the
/// next try from succeeding.
pub(super) fn write_all(folder: &Path, files: &[(PathBuf, Vec<u8>, bool)]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| CliError::Write {
        path: folder.to_owned(),
        source,
    })?;
    for (path, ..) in files {
        // `create` refuses too; asking first leaves nothing to clean up in the usual case.
        if path.symlink_metadata().is_ok() {
            return Err(CliError::Exists { path: path.clone() });
        }
    }
    for (i, (path, bytes, secret)) in files.iter().enumerate() {
        if let Err(error) = file::create(path, bytes, *secret) {
            for (written, ..) in files.iter().take(i) {
                // The first error is the one to report; what cannot be removed is seen by
                // the next try.
                let _ = std::fs::remove_file(written);
            }
            return Err(error);
        }
    }
    Ok(())
}
