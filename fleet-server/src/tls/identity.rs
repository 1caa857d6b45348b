//! What the far end of a TLS connection has proved, and the settings under which it does.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;

use super::{Authority, failed, provider};
use crate::ServerError;
use crate::clock::TlsClock;
use crate::store::{Kind, Store};

/// A certificate of the fleet's authority that the far end holds the key of.
#[derive(Clone, Debug)]
pub(crate) struct TlsIdentity {
    pub(crate) kind: Kind,
    /// Identity of a device, `operator:<name>`, or the server itself.
    pub(crate) subject: String,
    serial: Vec<u8>,
}

impl TlsIdentity {
    /// Who showed `certificate`, whose chain and key the TLS library has checked; `None` when
    /// it was revoked or never recorded. For a device the name in the certificate must be the
    /// recorded one as well.
    pub(crate) async fn of(
        store: &Store,
        certificate: &CertificateDer<'_>,
    ) -> Result<Option<Self>, ServerError> {
        let Ok(parsed) = EndEntityCert::try_from(certificate) else {
            return Ok(None);
        };
        let Some(row) = store.certificate(parsed.serial()).await? else {
            return Ok(None);
        };
        if row.revoked_unix_s.is_some() {
            return Ok(None);
        }
        if row.kind == Kind::Device {
            let named = ServerName::try_from(row.subject.as_str())
                .is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok());
            if !named {
                return Ok(None);
            }
        }
        Ok(Some(Self {
            kind: row.kind,
            subject: row.subject,
            serial: row.serial,
        }))
    }

    /// Whether it is still good, for connections that live longer than a question.
    pub(crate) async fn is_valid(&self, store: &Store) -> Result<bool, ServerError> {
        let row = store.certificate(&self.serial).await?;
        Ok(row.is_some_and(|row| row.revoked_unix_s.is_none()))
    }
}

/// Settings of a listener: TLS 1.3, no resumption, and certificates of the authority asked of
/// clients, which must show one when `required`.
pub(crate) fn server_config(
    authority: &Authority,
    certificate: Arc<dyn ResolvesServerCert>,
    required: bool,
) -> Result<Arc<ServerConfig>, ServerError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate().clone())
        .map_err(failed("certificate of the authority"))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = match required {
        true => verifier,
        false => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(failed("client certificates"))?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(TlsClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("TLS 1.3"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
