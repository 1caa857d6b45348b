//! The way to the server: its address and the operator's token.

use drover_api::Client;

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::file;

const MAX_TOKEN_BYTES: u64 = 4096;

/// A client as the global flags say; nothing is sent yet.
pub(crate) fn client(global: &Global) -> Result<Client> {
    let path = global.token_file.as_ref().ok_or(CliError::NoToken)?;
    let bytes = file::read(path, MAX_TOKEN_BYTES, "a token file")?;
    let text = String::from_utf8_lossy(&bytes);
    let token = text.trim();
    // Anything else cannot stand in a header, and would be refused with a worse message.
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(CliError::EmptyToken { path: path.clone() });
    }
    Ok(Client::new(&global.server, token))
}
