//! The way to the server: its address, whom to believe, and who asks.

use std::path::{Path, PathBuf};

use drover_api::{Client, TlsFiles};

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::file;
use crate::login::Saved;

const MAX_TOKEN_BYTES: u64 = 4096;
const MAX_PEM_BYTES: u64 = 256 * 1024;
/// Names of the files of an operator's client certificate.
pub(crate) const CERTIFICATE_FILES: [&str; 2] = ["operator.pem", "operator.key"];

/// A client as the global flags say, or the login to the server; nothing is sent yet.
pub(crate) fn client(global: &Global) -> Result<Client> {
    if global.token_file.is_none() && global.certificate.is_none() {
        return saved_client(global);
    }
    let files = TlsFiles {
        ca: authority_pem(global)?,
        identity: match &global.certificate {
            None => None,
            Some(folder) => {
                let [certificate, key] = CERTIFICATE_FILES.map(|name| folder.join(name));
                Some((pem(&certificate)?, pem(&key)?))
            }
        },
    };
    let token = match &global.token_file {
        Some(path) => token(path)?,
        // Whoever shows a certificate needs no token.
        None => String::new(),
    };
    connect(global, &token, &files)
}

/// A client with the token of the login to the server.
pub(crate) fn saved_client(global: &Global) -> Result<Client> {
    let saved = Saved::of(&global.server)?.ok_or(CliError::NoToken)?;
    let ca = match authority_pem(global)? {
        None => saved.authority.map(String::into_bytes),
        named => named,
    };
    let files = TlsFiles { ca, identity: None };
    connect(global, saved.token.reveal(), &files)
}

/// A client that shows nothing yet, to log in with.
pub(crate) fn stranger(global: &Global) -> Result<Client> {
    let files = TlsFiles {
        ca: authority_pem(global)?,
        identity: None,
    };
    connect(global, "", &files)
}

fn connect(global: &Global, token: &str, files: &TlsFiles) -> Result<Client> {
    let client = Client::with_tls(&global.server, token, files)?;
    Ok(match &global.reason {
        Some(reason) => client.with_reason(reason),
        None => client,
    })
}

/// The certificate of the server's authority, where one is known.
pub(crate) fn authority_pem(global: &Global) -> Result<Option<Vec<u8>>> {
    authority(global).map(|path| pem(&path)).transpose()
}

/// The named authority, or the one that a server on this machine left beside its token.
fn authority(global: &Global) -> Option<PathBuf> {
    let beside = || {
        let path = global.token_file.as_ref()?.with_file_name("ca.pem");
        path.exists().then_some(path)
    };
    global.ca.clone().or_else(beside)
}

fn pem(path: &Path) -> Result<Vec<u8>> {
    file::read(path, MAX_PEM_BYTES, "a certificate or key in PEM")
}

fn token(path: &Path) -> Result<String> {
    let bytes = file::read(path, MAX_TOKEN_BYTES, "a token file")?;
    let text = String::from_utf8_lossy(&bytes);
    let token = text.trim();
    // Anything else cannot stand in a header, and would be refused with a worse message.
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(CliError::EmptyToken {
            path: path.to_owned(),
        });
    }
    Ok(token.to_owned())
}
