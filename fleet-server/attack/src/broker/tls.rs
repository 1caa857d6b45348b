//! TLS of the attacker: whoever has the server's data folder can make certificates of its
//! authority, for a broker or for any device.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::error::{Result, fail, io};

/// The authority's file in the server's data folder: its key and its certificate.
const AUTHORITY: &str = "authority.pem";

fn because<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<T> {
    result.or_else(|error| fail(format!("certificate of the attacker: {error}")))
}

/// The stolen key of the authority, ready to sign.
fn authority_key(server_data: &Path, fleet: &str) -> Result<Issuer<'static, KeyPair>> {
    let path = server_data.join(AUTHORITY);
    let pem = io(|| format!("read {}", path.display()), std::fs::read(&path))?;
    let key = because(PrivatePkcs8KeyDer::from_pem_slice(&pem))?;
    let key = because(KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let subject = format!("drover {fleet} devices");
    params.distinguished_name.push(DnType::CommonName, subject);
    Ok(Issuer::new(params, key))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// How the attacker's broker presents itself.
pub(super) fn server_config(server_data: &Path, fleet: &str) -> Result<Arc<ServerConfig>> {
    let issuer = authority_key(server_data, fleet)?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let (chain, key) = certificate(&issuer, names, "broker")?;
    let config = ServerConfig::builder_with_provider(provider());
    let config = because(config.with_protocol_versions(&[&rustls::version::TLS13]))?;
    let config = config.with_no_client_auth().with_single_cert(chain, key);
    because(config).map(Arc::new)
}

/// How a client of the attacker presents itself, with a certificate that it was given.
pub(crate) fn client_config(
    authorities: &[Vec<u8>],
    certificate: &[u8],
    pkcs8: Vec<u8>,
) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        because(roots.add(CertificateDer::from(authority.clone())))?;
    }
    let config = ClientConfig::builder_with_provider(provider());
    let config = because(config.with_protocol_versions(&[&rustls::version::TLS13]))?;
    let chain = vec![CertificateDer::from(certificate.to_vec())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8));
    let config = config.with_root_certificates(roots);
    because(config.with_client_auth_cert(chain, key)).map(Arc::new)
}

fn certificate(
    issuer: &Issuer<'_, KeyPair>,
    names: Vec<String>,
    subject: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = because(KeyPair::generate_for(&PKCS_ED25519))?;
    let mut params = because(CertificateParams::new(names))?;
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    let certificate = because(params.signed_by(&key, issuer))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((vec![certificate.der().clone()], key))
}
