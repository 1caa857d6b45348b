//! The two requests that a device makes over HTTP: to enrol, and for a new certificate.
//!
//! `https://` is taken without judging the server's certificate, and `http://` just as well:
//! what is asked and answered is proven or signed end to end, and a board whose authorities
//! or clock are years old must get through. TLS keeps names and labels from onlookers here,
//! it vouches for nobody. Nothing is kept; a request that fails is made again by its caller.

use std::sync::Arc;
use std::time::Duration;

use ureq::tls::TlsConfig;

/// Longest wait for the server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not an address of a server.
    #[error("server address {0:?} does not start with https:// or http://")]
    Address(String),
    /// Nobody answered.
    #[error("no answer from {server}; is the server running there, and the network up?")]
    Unreachable {
        /// Address.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The server said no.
    #[error("the server refused (HTTP {status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In the server's words.
        message: String,
    },
}

/// Takes the address of a server, without what may follow its host and port.
///
/// # Errors
/// [`HttpError::Address`].
pub(crate) fn server(address: &str) -> Result<&str, HttpError> {
    let address = address.trim().trim_end_matches('/');
    let known = ["https://", "http://"];
    if known.iter().any(|scheme| address.starts_with(scheme)) {
        Ok(address)
    } else {
        Err(HttpError::Address(address.to_owned()))
    }
}

/// Sends bytes and gives the answer's, of at most `limit`.
///
/// # Errors
/// [`HttpError`].
pub(crate) fn post(
    server: &str,
    path: &str,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<u8>, HttpError> {
    let unreachable = |error| HttpError::Unreachable {
        server: server.to_owned(),
        source: Box::new(error),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .disable_verification(true)
        .build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        // An answer that leads elsewhere is no answer of this server.
        .max_redirects(0)
        .tls_config(tls)
        .build();
    let mut response = ureq::Agent::new_with_config(config)
        .post(format!("{server}{path}"))
        .content_type("application/octet-stream")
        .send(bytes)
        .map_err(unreachable)?;
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(limit as u64)
        .read_to_vec()
        .map_err(unreachable)?;
    if !(200..300).contains(&status) {
        let message = refusal(&body);
        return Err(HttpError::Refused { status, message });
    }
    Ok(body)
}

/// The server's own words, out of its JSON if that is what it sent.
fn refusal(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|v| v.get("message")?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    // It goes to a terminal.
    let plain = text.chars().filter(|c| !c.is_control()).take(500);
    match plain.collect::<String>() {
        empty if empty.is_empty() => "no reason was given".into(),
        plain => plain,
    }
}
