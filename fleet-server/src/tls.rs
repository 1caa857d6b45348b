//! TLS 1.3 towards devices and operators: the authority that issues certificates, and the
//! listeners that ask for them.
//!
//! Everything here is rustls with ring. No other version of TLS is spoken, and no session is
//! resumed: whether a certificate is still good is asked at each connect.

mod authority;
mod connect;
mod front;
mod http;
mod identity;
mod server_certificate;

pub use authority::ed25519_pem;
pub(crate) use authority::{Authority, Issue, LIFE_SECS, ed25519_pkcs8};
pub(crate) use front::{Front, FrontLimits, Listening};
pub(crate) use http::{HttpListener, Peer, PeerCertificate, peer_certificate};
pub(crate) use identity::{TlsIdentity, server_config};
pub(crate) use server_certificate::{ServerCertificate, client_config, client_config_of};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::ServerError;

/// Subject of the certificates of this server, and its user name at a broker.
pub(crate) const SERVER_SUBJECT: &str = "drover-server";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> ServerError {
    move |error| ServerError::Tls {
        what,
        why: error.to_string(),
    }
}
