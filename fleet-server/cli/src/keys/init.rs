//! `drover keys init`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use drover_trust::{Domain, Envelope, Role, RoleKeys, Root, SecretKey, TrustedRoot};
use serde::Serialize;

use super::{ROOT_FILE, draw};
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::passphrase::{self, Protection};
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
    /// Days until a newer root must have followed
    #[arg(long, value_name = "DAYS", default_value_t = 730)]
    lifetime_days: u64,
    /// Passphrase of the two keys that the server needs; they are plain otherwise, so that it
    /// starts by itself
    #[arg(long, value_name = "FILE")]
    server_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    protection: Protection,
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
    catalog_key: PathBuf,
}

pub(super) fn run(args: &Init, out: &Output) -> Result<()> {
    check_threshold("root", args.root_threshold, args.root_keys)?;
    check_threshold("release", args.release_threshold, args.release_keys)?;

    let passphrase = args.protection.passphrase()?;
    let server = args.server_passphrase_file.as_deref();
    let server = server.map(passphrase::read).transpose()?;

    let roots = draw_many(args.root_keys)?;
    let releases = draw_many(args.release_keys)?;
    let [catalog, fleet] = draw()?;
    let (catalog, fleet) = ([catalog], [fleet]);
    let envelope = sign_root(args, &roots, &releases, &catalog, &fleet)?;

    let at = |name: String| args.out.join(name);
    let paths = |role: Role, n: usize| (1..=n).map(|i| at(format!("{role}-{i}.key"))).collect();
    let made = Made {
        fleet: args.fleet.clone(),
        pin: data_encoding::HEXLOWER.encode(&TrustedRoot::pin_of(&envelope)),
        root: at(ROOT_FILE.into()),
        root_keys: paths(Role::Root, roots.len()),
        release_keys: paths(Role::Release, releases.len()),
        fleet_key: at("fleet.key".into()),
        catalog_key: at("catalog.key".into()),
    };

    let mut files = Vec::new();
    let mut add = |role, keys: &[SecretKey], paths: &[PathBuf], passphrase: Option<&str>| {
        for (key, path) in keys.iter().zip(paths) {
            let text = passphrase::write_key(role, key, passphrase)?;
            files.push((path.clone(), text.into_bytes(), true));
        }
        Ok::<_, CliError>(())
    };
    let offline = passphrase.as_deref();
    add(Role::Root, &roots, &made.root_keys, offline)?;
    add(Role::Release, &releases, &made.release_keys, offline)?;
    let path = std::slice::from_ref;
    add(
        Role::Fleet,
        &fleet,
        path(&made.fleet_key),
        server.as_deref(),
    )?;
    add(
        Role::Catalog,
        &catalog,
        path(&made.catalog_key),
        server.as_deref(),
    )?;
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
        table.pair("catalog key", made.catalog_key.display());
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

fn draw_many(n: u8) -> Result<Vec<SecretKey>> {
    let one = |_| draw().map(|[key]| key);
    (0..n).map(one).collect()
}

fn sign_root(
    args: &Init,
    roots: &[SecretKey],
    releases: &[SecretKey],
    catalog: &[SecretKey],
    fleet: &[SecretKey],
) -> Result<Envelope> {
    let role = |role, threshold, keys: &[SecretKey]| RoleKeys {
        role,
        threshold,
        keys: keys.iter().map(SecretKey::public).collect(),
    };
    let now = clock::unix_s();
    let root = Root {
        version: 1,
        fleet: args.fleet.clone(),
        created_unix_s: now,
        expires_unix_s: now.saturating_add(args.lifetime_days.saturating_mul(86_400)),
        epoch: 0,
        roles: vec![
            role(Role::Root, args.root_threshold, roots),
            role(Role::Release, args.release_threshold, releases),
            role(Role::Catalog, 1, catalog),
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
