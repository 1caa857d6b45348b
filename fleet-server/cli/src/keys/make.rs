//! `drover keys make` and `drover keys public`: one key on the machine of its holder, and its
//! public half to carry to whoever drafts the root.

use std::path::{Path, PathBuf};

use clap::Args;
use drover_trust::{PublicKey, Role};
use serde::Serialize;

use super::{draw, read_key};
use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;
use crate::passphrase::{self, Protection};
use crate::table::Table;

const HEADER: &str = "drover public key v1";
const MAX_PUBLIC_BYTES: u64 = 1024;

#[derive(Debug, Args)]
pub(crate) struct Make {
    /// What the key is for: root, release, catalog or fleet
    #[arg(long, value_parser = role)]
    role: Role,
    /// Key file to write; its public half goes beside it, as FILE.pub
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    protection: Protection,
}

#[derive(Serialize)]
struct PublicView {
    role: String,
    id: String,
    public: String,
    file: PathBuf,
}

/// A role that root metadata names.
pub(super) fn role(text: &str) -> std::result::Result<Role, String> {
    Role::named(text)
        .filter(|role| *role != Role::Device)
        .ok_or_else(|| "roles are root, release, catalog and fleet".into())
}

pub(super) fn run(args: &Make, out: &Output) -> Result<()> {
    let passphrase = args.protection.passphrase()?;
    let [key] = draw::<1>()?;
    let text = passphrase::write_key(args.role, &key, passphrase.as_deref())?;
    let public = public_file(&args.out);
    if public.symlink_metadata().is_ok() {
        return Err(CliError::Exists { path: public });
    }
    file::create(&args.out, text.as_bytes(), true)?;
    show(args.role, &key.public(), &public, out)
}

pub(super) fn public(path: &Path, to: Option<&Path>, out: &Output) -> Result<()> {
    let (role, key) = read_key(path)?;
    let to = to.map_or_else(|| public_file(path), Path::to_owned);
    show(role, &key.public(), &to, out)
}

fn show(role: Role, key: &PublicKey, path: &Path, out: &Output) -> Result<()> {
    let text = format!("{HEADER}\nrole: {role}\npublic: {}\n", key.to_hex());
    file::create(path, text.as_bytes(), false)?;
    let view = PublicView {
        role: role.to_string(),
        id: key.id().to_string(),
        public: key.to_hex(),
        file: path.to_owned(),
    };
    out.show(&view, || {
        let mut table = Table::pairs();
        table.pair("role", &view.role);
        table.pair("id", &view.id);
        table.pair("public key", view.file.display());
        table
    })
}

fn public_file(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Reads the public half of a key.
pub(super) fn read_public(path: &Path) -> Result<(Role, PublicKey)> {
    let bytes = file::read(path, MAX_PUBLIC_BYTES, "a public key file")?;
    let text = String::from_utf8_lossy(&bytes);
    let parsed = || {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return None;
        }
        let role = Role::named(lines.next()?.strip_prefix("role: ")?)?;
        let hex = lines.next()?.strip_prefix("public: ")?;
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
        let key = PublicKey(bytes.try_into().ok()?);
        key.check().ok()?;
        Some((role, key))
    };
    parsed().ok_or_else(|| CliError::NotPublicKey {
        path: path.to_owned(),
    })
}
