//! Logins of this user, in `drover/logins.json` of the user's configuration folder: readable
//! by the owner alone, written beside its place and renamed, so that a power cut leaves the
//! old logins or the new ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use drover_api::{NewApiToken, Secret};
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};
use crate::{clock, file};

const MAX_BYTES: u64 = 4 << 20;

/// A login to one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    pub(crate) token: Secret,
    pub(crate) account: String,
    pub(crate) expires_unix_s: u64,
    /// Certificate of the server's authority, in PEM, where one was named.
    pub(crate) authority: Option<String>,
}

type Logins = BTreeMap<String, Saved>;

impl Saved {
    /// The login to `server`, if it has not ended.
    pub(crate) fn of(server: &str) -> Result<Option<Self>> {
        let Some(path) = path() else {
            return Ok(None);
        };
        let saved = read(&path)?.remove(&key(server));
        Ok(saved.filter(|s| s.expires_unix_s > clock::unix_s()))
    }

    /// Keeps a login to `server`.
    pub(super) fn add(server: &str, token: &NewApiToken, authority: Option<Vec<u8>>) -> Result<()> {
        let path = path().ok_or_else(|| {
            let why = "no place for the token: set HOME or XDG_CONFIG_HOME";
            CliError::Usage(why.to_owned())
        })?;
        let mut logins = read(&path)?;
        logins.retain(|_, s| s.expires_unix_s > clock::unix_s());
        let saved = Self {
            token: token.token.clone(),
            account: token.about.account.clone(),
            expires_unix_s: token.about.expires_unix_s,
            authority: authority.map(|pem| String::from_utf8_lossy(&pem).into_owned()),
        };
        logins.insert(key(server), saved);
        write(&path, &logins)
    }

    /// Forgets the login to `server`.
    pub(super) fn remove(server: &str) -> Result<()> {
        let Some(path) = path() else {
            return Ok(());
        };
        let mut logins = read(&path)?;
        logins.remove(&key(server));
        write(&path, &logins)
    }
}

fn key(server: &str) -> String {
    server.trim_end_matches('/').to_owned()
}

fn path() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    let folder = match named("XDG_CONFIG_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(named("HOME")?).join(".config"),
    };
    Some(folder.join("drover/logins.json"))
}

fn read(path: &Path) -> Result<Logins> {
    if !path.exists() {
        return Ok(Logins::new());
    }
    let bytes = file::read(path, MAX_BYTES, "a list of logins")?;
    serde_json::from_slice(&bytes).map_err(|source| CliError::Logins {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, logins: &Logins) -> Result<()> {
    let failed = |source| CliError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let bytes = serde_json::to_vec(logins).map_err(|e| failed(e.into()))?;
    file::replace_secret(path, &bytes)
}
