//! `drover keys inspect`.

use std::path::Path;

use drover_trust::TrustedRoot;
use serde::Serialize;

use super::{read_key, read_root};
use crate::clock;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::table::Table;

#[derive(Serialize)]
struct KeyView {
    role: String,
    id: String,
    public: String,
}

#[derive(Serialize)]
struct RootView {
    fleet: String,
    version: u64,
    created_unix_s: u64,
    pin: String,
    roles: Vec<RoleView>,
}

#[derive(Serialize)]
struct RoleView {
    role: String,
    threshold: u8,
    keys: Vec<String>,
}

pub(super) fn run(path: &Path, out: &Output) -> Result<()> {
    match (read_key(path), read_root(path)) {
        (Ok((role, key)), _) => {
            let view = KeyView {
                role: role.to_string(),
                id: key.public().id().to_string(),
                public: key.public().to_hex(),
            };
            out.show(&view, || {
                let mut table = Table::pairs();
                table.pair("kind", format!("secret {} key", view.role));
                table.pair("id", &view.id);
                table.pair("public", &view.public);
                table
            })
        }
        (_, Ok(root)) => show_root(&root, out),
        (Err(error @ CliError::Read { .. }), _) => Err(error),
        _ => Err(CliError::NeitherKeyNorRoot {
            path: path.to_owned(),
        }),
    }
}

fn show_root(trusted: &TrustedRoot, out: &Output) -> Result<()> {
    let root = trusted.root();
    let roles = root.roles.iter().map(|role| RoleView {
        role: role.role.to_string(),
        threshold: role.threshold,
        keys: role.keys.iter().map(|k| k.id().to_string()).collect(),
    });
    let view = RootView {
        fleet: root.fleet.clone(),
        version: root.version,
        created_unix_s: root.created_unix_s,
        pin: data_encoding::HEXLOWER.encode(&TrustedRoot::pin_of(trusted.envelope())),
        roles: roles.collect(),
    };
    out.show(&view, || {
        let mut table = Table::pairs();
        table.pair("kind", "root metadata, signed by its own keys");
        table.pair("fleet", &view.fleet);
        table.pair("version", view.version);
        table.pair("created", clock::show_s(view.created_unix_s));
        table.pair("pin", &view.pin);
        for role in &view.roles {
            let keys = role.keys.join(", ");
            let value = format!("{} of {}: {keys}", role.threshold, role.keys.len());
            table.pair(&role.role, value);
        }
        table
    })
}
