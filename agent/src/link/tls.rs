//! TLS towards the broker: 1.3 only, with certificates on both sides.
//!
//! The device shows the certificate of its own key; the broker's must come from an authority
//! that the fleet named. It is judged at the device's trusted time, which lies at or behind
//! the true one: a certificate that ended before is refused, one that begins later is judged
//! at its beginning. The wall clock is never asked, so a board in 1970 or 2099 connects.

use std::sync::Arc;
use std::time::Duration;

use drover_trust::SecretKey;
use drover_wire::enrol::Access;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::trust::Trust;

/// PKCS #8 (RFC 8410) up to the 32 bytes of an ed25519 seed.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why no connection can be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// The fleet named no authority that can be used.
    #[error("the fleet named no usable authority for its broker; run `drover-agent enroll` again")]
    Authorities,
    /// The library refuses certificate or key.
    #[error("the device's certificate cannot be used")]
    Certificate(#[source] rustls::Error),
}

/// What a connection to the broker is made with.
pub(super) fn client_config(
    key: &SecretKey,
    access: &Access,
    trust: &Trust,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(access.authorities.iter().map(|der| der.as_slice().into()));
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|_| TlsError::Authorities)?;
    let verifier = AtTrustedTime {
        judge,
        trust: trust.clone(),
    };
    let pkcs8 = [PKCS8_HEAD.as_slice(), &key.seed()].concat();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    let chain = vec![CertificateDer::from(access.certificate.clone())];
    let mut config = configure(provider, verifier, chain, key).map_err(TlsError::Certificate)?;
    // A resumed session would skip the judgement, and connections are rare.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn configure(
    provider: Arc<CryptoProvider>,
    verifier: AtTrustedTime,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
}

/// The library's own judgement, at a time of ours.
#[derive(Debug)]
struct AtTrustedTime {
    judge: Arc<WebPkiServerVerifier>,
    trust: Trust,
}

impl ServerCertVerifier for AtTrustedTime {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _wall_clock: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = |unix_s: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
            let judge = &self.judge;
            judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
        };
        let mut at = self.trust.now_s();
        // One step for the certificate and one for each above it, at most.
        for _ in 0..=intermediates.len() + 1 {
            match judge(at) {
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before.as_secs() > at => at = not_before.as_secs(),
                verdict => return verdict,
            }
        }
        judge(at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use drover_trust::fixture::{CREATED, Keys};
    use rcgen::{
        Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519,
    };

    use super::*;

    const DAY: u64 = 86_400;

    /// An authority of a fleet.
    pub(in crate::link) struct Authority(CertifiedIssuer<'static, KeyPair>);

    fn lasts(params: &mut CertificateParams, from: u64, to: u64) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(from);
        params.not_after = epoch + Duration::from_secs(to);
    }

    pub(in crate::link) fn key_pair(key: &SecretKey) -> KeyPair {
        let pkcs8 = [PKCS8_HEAD.as_slice(), &key.seed()].concat();
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8);
        KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519).unwrap()
    }

    /// As OpenSSL reads it.
    pub(in crate::link) fn pem(key: &SecretKey) -> String {
        let pkcs8 = [PKCS8_HEAD.as_slice(), &key.seed()].concat();
        let text = data_encoding::BASE64.encode(&pkcs8);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    impl Authority {
        pub(in crate::link) fn new() -> Self {
            let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            lasts(&mut params, CREATED, CREATED + 9000 * DAY);
            Self(CertifiedIssuer::self_signed(params, key).unwrap())
        }

        pub(in crate::link) fn certificate(&self) -> &Certificate {
            self.0.as_ref()
        }

        /// A certificate that lasts as long as the authority's own.
        pub(in crate::link) fn certify(&self, name: &str, key: &KeyPair) -> Certificate {
            let mut params = CertificateParams::new(vec![name.into()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            lasts(&mut params, CREATED, CREATED + 9000 * DAY);
            params.signed_by(key, &self.0).unwrap()
        }

        /// A verifier that trusts this authority, and nothing that the wall clock says.
        fn verdict(&self, certificate: &Certificate, now_s: u64) -> Result<(), rustls::Error> {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let provider = Arc::new(default_provider());
            let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = AtTrustedTime {
                judge: judge.build().unwrap(),
                trust: Trust::new(Keys::new("f").trusted(), now_s),
            };
            let host = ServerName::try_from("broker.local").unwrap();
            let wall = UnixTime::since_unix_epoch(Duration::ZERO);
            let verdict = verifier.verify_server_cert(certificate.der(), &[], &host, &[], wall);
            verdict.map(|_| ())
        }

        /// A certificate of a key that nobody needs.
        fn issue(&self, name: &str, from: u64, to: u64) -> Certificate {
            let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
            let mut params = CertificateParams::new(vec![name.into()]).unwrap();
            lasts(&mut params, from, to);
            params.signed_by(&key, &self.0).unwrap()
        }
    }

    #[test]
    fn only_an_end_before_the_trusted_time_is_refused() {
        let authority = Authority::new();
        let (from, to) = (CREATED + 400 * DAY, CREATED + 490 * DAY);
        let certificate = authority.issue("broker.local", from, to);
        authority.verdict(&certificate, CREATED).unwrap();
        authority.verdict(&certificate, from + DAY).unwrap();
        let expired = authority.verdict(&certificate, to + DAY).unwrap_err();
        assert!(matches!(
            expired,
            rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            )
        ));
    }

    #[test]
    fn name_and_authority_count_however_early_it_is() {
        let authority = Authority::new();
        let (from, to) = (CREATED + 400 * DAY, CREATED + 490 * DAY);
        let other_name = authority.issue("other.local", from, to);
        assert!(authority.verdict(&other_name, CREATED).is_err());
        let foreign = Authority::new().issue("broker.local", from, to);
        assert!(authority.verdict(&foreign, CREATED).is_err());
    }
}
