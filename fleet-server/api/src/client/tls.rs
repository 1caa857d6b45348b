//! Whom the client believes, and what it shows of itself.

use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use super::ApiError;

/// Certificates and a key, as the contents of PEM files.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// Authorities to believe instead of the system's; the server leaves its own as `ca.pem`.
    pub ca: Option<Vec<u8>>,
    /// The operator's certificate and secret key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ca, identity) = (self.ca.is_some(), self.identity.is_some());
        write!(f, "TlsFiles(ca: {ca}, identity: {identity})")
    }
}

pub(super) fn by_system() -> TlsConfig {
    config(&of_system(), None)
}

pub(super) fn by_files(files: &TlsFiles) -> Result<TlsConfig, ApiError> {
    let identity = match &files.identity {
        None => None,
        Some((chain, key)) => {
            let chain = certificates(chain, "the client certificate")?;
            let key = PrivateKey::from_pem(key).map_err(|_| ApiError::Tls {
                what: "the client certificate's key",
            })?;
            Some(ClientCert::new_with_certs(&chain, key))
        }
    };
    let Some(ca) = &files.ca else {
        return Ok(config(&of_system(), identity));
    };
    let roots = certificates(ca, "the authority's certificate")?;
    Ok(config(&roots, identity))
}

/// Whether the server's certificate is what kept us from talking.
pub(super) fn is_untrusted(error: &ureq::Error) -> bool {
    let found = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|e| e.downcast_ref()),
        _ => None,
    };
    matches!(found, Some(rustls::Error::InvalidCertificate(_)))
}

fn of_system() -> Vec<Certificate<'static>> {
    // Without any, servers with HTTPS are refused, and those without still work.
    let found = rustls_native_certs::load_native_certs().certs;
    let owned = found
        .iter()
        .map(|der| Certificate::from_der(der).to_owned());
    owned.collect()
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<Certificate<'static>>, ApiError> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(ApiError::Tls { what }),
        }
    }
    match found.is_empty() {
        true => Err(ApiError::Tls { what }),
        false => Ok(found),
    }
}

fn config(roots: &[Certificate<'static>], identity: Option<ClientCert>) -> TlsConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(roots))
        .client_cert(identity)
        .unversioned_rustls_crypto_provider(provider)
        .build()
}
