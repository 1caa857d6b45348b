//! The way to the server: its address, whom to believe, and who asks.

use std::path::{Path, PathBuf};

use drover_api::{Client, TlsFiles};

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::file;

const MAX_TOKEN_BYTES: u64 = 4096;
const MAX_PEM_BYTES: u64 = 256 * 1024;
/// Names of the files of an operator's client certificate.
pub(crate) const CERTIFICATE_FILES: [&str; 2] = ["operator.pem", "operator.key"];

/// A client as the global flags say; nothing is sent yet.
pub(crate) fn client(global: &Global) -> Result<Client> {
    let files = TlsFiles {
        ca: authority(global).map(|p| pem(&p)).transpose()?,
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
        None if files.identity.is_some() => String::new(),
        None => return Err(CliError::NoToken),
    };
    Ok(Client::with_tls(&global.server, &token, &files)?)
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
