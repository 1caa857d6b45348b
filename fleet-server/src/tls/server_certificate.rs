//! The server's own certificate: issued at each start, replaced while it runs.
//!
//! Its key lives in memory only, so there is nothing to lose and nothing to rotate by hand.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use drover_trust::SecretKey;
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SignatureScheme};

use super::{Authority, Issue, LIFE_SECS, SERVER_SUBJECT, ed25519_pkcs8, failed, provider};
use crate::clock::TlsClock;
use crate::config::ClientFiles;
use crate::store::{Kind, Store};
use crate::{ServerError, clock, random};

/// How often it is looked at whether the certificate has to be replaced: soon after a clock
/// that began at 1970 has been set.
const LOOK: Duration = Duration::from_secs(60);

/// The server's own certificate and key.
pub(crate) struct ServerCertificate {
    names: Vec<String>,
    now: RwLock<Arc<Own>>,
}

struct Own {
    key: Arc<CertifiedKey>,
    renew_unix_s: u64,
}

impl ServerCertificate {
    /// Issues the first one for `names`.
    pub(crate) async fn issue(
        authority: &Authority,
        store: &Store,
        names: Vec<String>,
    ) -> Result<Arc<Self>, ServerError> {
        let own = Own::issue(authority, store, &names).await?;
        Ok(Arc::new(Self {
            names,
            now: RwLock::new(Arc::new(own)),
        }))
    }

    /// Replaces the certificate at two thirds of its life, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>, authority: Arc<Authority>, store: Store) {
        loop {
            tokio::time::sleep(LOOK).await;
            if clock::unix_s() < self.now().renew_unix_s {
                continue;
            }
            match Own::issue(&authority, &store, &self.names).await {
                Ok(own) => {
                    *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(own);
                    tracing::info!("the server's certificate was renewed");
                }
                Err(error) => tracing::error!(%error, "the server's certificate is not renewed"),
            }
        }
    }

    /// How the server presents itself to a broker that its own authority vouches for.
    pub(crate) fn client_config(
        self: &Arc<Self>,
        authority: &Authority,
    ) -> Result<Arc<ClientConfig>, ServerError> {
        let config = trusting(vec![authority.certificate().clone()])?;
        Ok(Arc::new(config.with_client_cert_resolver(self.clone())))
    }

    fn now(&self) -> Arc<Own> {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Settings of a client that shows `chain` and believes `authorities`.
pub(crate) fn client_config(
    authorities: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, ServerError> {
    let config = trusting(authorities)?
        .with_client_auth_cert(chain, key)
        .map_err(failed("the server's client certificate"))?;
    Ok(Arc::new(config))
}

/// Settings out of files, and the authorities in them, DER.
pub(crate) fn client_config_of(
    files: &ClientFiles,
) -> Result<(Arc<ClientConfig>, Vec<Vec<u8>>), ServerError> {
    let read = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| unreadable(path, e))
    };
    let authorities = read(&files.ca)?;
    let chain = read(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unreadable(&files.key, e))?;
    let ders = authorities.iter().map(|c| c.to_vec()).collect();
    Ok((client_config(authorities, chain, key)?, ders))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> ServerError {
    ServerError::Tls {
        what: "files of the broker's configuration",
        why: format!("{} is not usable PEM: {error}", path.display()),
    }
}

fn trusting(
    authorities: Vec<CertificateDer<'static>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ServerError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority)
            .map_err(failed("certificate of the broker's authority"))?;
    }
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(TlsClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("TLS 1.3"))?;
    Ok(builder.with_root_certificates(roots))
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerCertificate({:?})", self.names)
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key.clone())
    }
}

impl ResolvesClientCert for ServerCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Own {
    async fn issue(
        authority: &Authority,
        store: &Store,
        names: &[String],
    ) -> Result<Self, ServerError> {
        let secret = SecretKey::from_seed(&random::bytes()?);
        let now_unix_s = clock::unix_s();
        let issued = authority.issue(&Issue {
            kind: Kind::Server,
            subject: SERVER_SUBJECT,
            key: secret.public(),
            names: names.to_vec(),
            now_unix_s,
            life_secs: LIFE_SECS,
        })?;
        store.add_certificate(&issued.row).await?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(ed25519_pkcs8(&secret)));
        let key = CertifiedKey::from_der(vec![issued.der], der, &provider())
            .map_err(failed("the server's certificate"))?;
        Ok(Self {
            key: Arc::new(key),
            renew_unix_s: now_unix_s.saturating_add(LIFE_SECS / 3 * 2),
        })
    }
}
