//! `drover keys inspect`: what a key file or root metadata says, and who still has to sign.

use std::path::Path;

use drover_trust::{Domain, Envelope, KeyId, PublicKey, Role, Root, TrustedRoot, keyfile};
use serde::Serialize;

use super::{MAX_KEY_FILE_BYTES, read_envelope, read_root};
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::table::Table;
use crate::{clock, file};

#[derive(Serialize)]
struct KeyView {
    role: String,
    id: String,
    public: String,
    protected: bool,
}

#[derive(Serialize)]
struct RootView {
    fleet: String,
    version: u64,
    created_unix_s: u64,
    expires_unix_s: u64,
    epoch: u64,
    pin: String,
    /// Whether devices accept it.
    complete: bool,
    /// What is missing, for people; empty when nothing is.
    missing: Vec<String>,
    roles: Vec<RoleView>,
}

#[derive(Serialize)]
struct RoleView {
    role: String,
    threshold: u8,
    keys: Vec<String>,
    /// Those of the keys that signed this root.
    signed: Vec<String>,
}

pub(super) fn run(path: &Path, after: Option<&Path>, out: &Output) -> Result<()> {
    let bytes = file::read(
        path,
        super::MAX_ROOT_FILE_BYTES,
        "a key file or root metadata",
    )?;
    if bytes.len() as u64 <= MAX_KEY_FILE_BYTES
        && let Ok(text) = std::str::from_utf8(&bytes)
        && let Ok((role, public, protected)) = keyfile::outside(text)
    {
        return show_key(role, &public, protected, out);
    }
    let after = after.map(read_root).transpose()?;
    match read_envelope(path) {
        Ok(envelope) => show_root(&envelope, after.as_ref(), out),
        Err(_) => Err(CliError::NeitherKeyNorRoot {
            path: path.to_owned(),
        }),
    }
}

fn show_key(role: Role, public: &PublicKey, protected: bool, out: &Output) -> Result<()> {
    let view = KeyView {
        role: role.to_string(),
        id: public.id().to_string(),
        public: public.to_hex(),
        protected,
    };
    out.show(&view, || {
        let mut table = Table::pairs();
        table.pair("kind", format!("secret {} key", view.role));
        table.pair("id", &view.id);
        table.pair("public", &view.public);
        let protection = if protected { "passphrase" } else { "none" };
        table.pair("protection", protection);
        table
    })
}

/// Shows a root, signed or not; `after` is the one that it is to follow.
pub(super) fn show_root(
    envelope: &Envelope,
    after: Option<&TrustedRoot>,
    out: &Output,
) -> Result<()> {
    let root = Root::unverified(envelope).map_err(CliError::MakeRoot)?;
    let signed = |key: &PublicKey| {
        let message = Domain::Root.pre_authenticate(envelope.unverified_payload());
        let mut signatures = envelope.signatures().iter();
        signatures.any(|s| s.key == key.id() && key.verifies(&message, &s.to_bytes()))
    };
    let names = |keys: Vec<KeyId>| keys.iter().map(KeyId::to_string).collect();
    let roles = root.roles.iter().map(|role| RoleView {
        role: role.role.to_string(),
        threshold: role.threshold,
        keys: names(role.keys.iter().map(PublicKey::id).collect()),
        signed: names(
            role.keys
                .iter()
                .filter(|k| signed(k))
                .map(PublicKey::id)
                .collect(),
        ),
    });
    let mut missing = lacking("its own", &root, &signed);
    if let Some(after) = after {
        missing = missing.or_else(|| lacking("the former", after.root(), &signed));
        if let Err(error) = after.advance(envelope.clone())
            && missing.is_none()
        {
            missing = Some(error.to_string());
        }
    } else if root.version > 1 && missing.is_none() {
        missing = Some("not compared with the former root: name it with --after".into());
    }
    let view = RootView {
        fleet: root.fleet.clone(),
        version: root.version,
        created_unix_s: root.created_unix_s,
        expires_unix_s: root.expires_unix_s,
        epoch: root.epoch,
        pin: data_encoding::HEXLOWER.encode(&TrustedRoot::pin_of(envelope)),
        complete: missing.is_none(),
        missing: missing.into_iter().collect(),
        roles: roles.collect(),
    };
    out.show(&view, || table(&view))
}

fn lacking(whose: &str, root: &Root, signed: &dyn Fn(&PublicKey) -> bool) -> Option<String> {
    let role = root.role(Role::Root)?;
    let have = role.keys.iter().filter(|k| signed(k)).count();
    let needed = usize::from(role.threshold);
    (have < needed).then(|| {
        let ids = role.keys.iter().filter(|k| !signed(k));
        let ids: Vec<String> = ids.map(|k| k.id().to_string()).collect();
        format!(
            "{} more of {whose} root keys must sign: {}",
            needed - have,
            ids.join(", ")
        )
    })
}

fn table(view: &RootView) -> Table {
    let mut table = Table::pairs();
    table.pair("kind", "root metadata");
    table.pair("fleet", &view.fleet);
    table.pair("version", view.version);
    table.pair("created", clock::show_s(view.created_unix_s));
    let end = match view.expires_unix_s {
        u64::MAX => "never".to_owned(),
        end => clock::show_s(end),
    };
    table.pair("expires", end);
    table.pair("security epoch", view.epoch);
    table.pair("pin", &view.pin);
    for role in &view.roles {
        let keys = role.keys.join(", ");
        let value = format!("{} of {}: {keys}", role.threshold, role.keys.len());
        table.pair(&role.role, value);
    }
    match view.missing.first() {
        None => table.pair("signatures", "complete"),
        Some(missing) => table.pair("signatures", missing),
    }
    table
}
