//! The fleet's certificate authority: one Ed25519 key in the data folder.
//!
//! It signs certificates of keys that others made; a device's certificate is of the device's
//! own key, so losing the authority tells nobody a device's secret. Whoever steals it can
//! connect as any device, but cannot make one run anything: that takes release keys. A serial
//! number is recorded by the caller before the certificate leaves the server.

use std::time::Duration;

use drover_trust::{PublicKey, SecretKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, PublicKeyData, RevocationReason, RevokedCertParams, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::failed;
use crate::data_dir::DataDir;
use crate::store::{CertificateRow, Kind};
use crate::{ServerError, random};

/// Life of certificates that are renewed without a person, in seconds.
pub(crate) const LIFE_SECS: u64 = 90 * 24 * 3600;
/// How far before its issue a certificate is valid, for clocks that lag, in seconds.
const BACKDATED_SECS: u64 = 3600;
/// How long a revocation list is current, in seconds; brokers refuse everybody after that.
const CRL_LIFE_SECS: u64 = 10 * 365 * 24 * 3600;
/// What precedes the seed in an Ed25519 key's PKCS #8 form, version 1 (RFC 8410). The later
/// version is not read by OpenSSL.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A time in the type that rcgen takes, whose crate it does not show; capped at the year 9999.
macro_rules! time {
    ($unix_s:expr) => {
        date_time_ymd(1970, 1, 1) + Duration::from_secs($unix_s.min(253_402_214_400))
    };
}

/// The fleet's certificate authority.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    params: CertificateParams,
    key: KeyPair,
}

/// What to certify.
pub(crate) struct Issue<'a> {
    pub(crate) kind: Kind,
    /// Common name; for a device its identity, which is its DNS name as well.
    pub(crate) subject: &'a str,
    pub(crate) key: PublicKey,
    /// DNS names and addresses.
    pub(crate) names: Vec<String>,
    pub(crate) now_unix_s: u64,
    pub(crate) life_secs: u64,
}

/// A certificate, and what the database keeps of it.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) row: CertificateRow,
}

impl Authority {
    /// Reads the authority from the data folder, or makes it on the first start; leaves its
    /// certificate as `ca.pem` for others.
    pub(crate) fn open(data: &DataDir, fleet: &str) -> Result<Self, ServerError> {
        let params = own_params(fleet);
        let stored = data.authority(|| {
            let secret = SecretKey::from_seed(&random::bytes()?);
            let key = key_pair(&secret)?;
            let certificate = params
                .self_signed(&key)
                .map_err(failed("certificate of the authority"))?;
            Ok(format!("{}{}", ed25519_pem(&secret), certificate.pem()))
        })?;
        let unreadable = ServerError::Stored {
            what: "authority.pem",
        };
        let Ok(key) = PrivatePkcs8KeyDer::from_pem_slice(stored.as_bytes()) else {
            return Err(unreadable);
        };
        let Ok(certificate) = CertificateDer::from_pem_slice(stored.as_bytes()) else {
            return Err(unreadable);
        };
        let Ok(key) = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519) else {
            return Err(unreadable);
        };
        let pem = pem("CERTIFICATE", &certificate);
        data.publish("ca.pem", &pem)?;
        Ok(Self {
            certificate: certificate.into_owned(),
            pem,
            params,
            key,
        })
    }

    /// The authority's own certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's own certificate, for files.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate. The caller records its row before it hands it out.
    pub(crate) fn issue(&self, issue: &Issue<'_>) -> Result<Issued, ServerError> {
        let serial = serial()?;
        let not_before = issue.now_unix_s.saturating_sub(BACKDATED_SECS);
        let not_after = issue.now_unix_s.saturating_add(issue.life_secs);
        let mut params = CertificateParams::new(issue.names.clone())
            .map_err(failed("names of a certificate"))?;
        params.distinguished_name = common_name(issue.subject);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = time!(not_before);
        params.not_after = time!(not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if issue.kind == Kind::Server {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let certificate = params
            .signed_by(&Raw(issue.key.0), &self.issuer())
            .map_err(failed("a certificate"))?;
        Ok(Issued {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            row: CertificateRow {
                serial: serial.to_vec(),
                subject: issue.subject.to_owned(),
                kind: issue.kind,
                not_before_unix_s: not_before,
                not_after_unix_s: not_after,
                revoked_unix_s: None,
            },
        })
    }

    /// A list of revoked serial numbers with their times, as PEM.
    pub(crate) fn revocation_list(
        &self,
        revoked: &[(Vec<u8>, u64)],
        now_unix_s: u64,
    ) -> Result<String, ServerError> {
        let entry = |(serial, at): &(Vec<u8>, u64)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: time!(*at),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: time!(now_unix_s.saturating_sub(BACKDATED_SECS)),
            next_update: time!(now_unix_s.saturating_add(CRL_LIFE_SECS)),
            crl_number: SerialNumber::from(now_unix_s),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params
            .signed_by(&self.issuer())
            .and_then(|list| list.pem())
            .map_err(failed("the revocation list"))
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// A public key that somebody else holds the secret of.
struct Raw([u8; 32]);

impl PublicKeyData for Raw {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

fn own_params(fleet: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("drover {fleet} devices"));
    // Without an end: devices that slept for years must still find their broker. It is
    // replaced by making a new one, never by waiting.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// 127 random bits, in the one form that DER has for them: positive and without zeros ahead.
fn serial() -> Result<[u8; 16], ServerError> {
    let mut serial = random::bytes::<16>()?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

fn key_pair(secret: &SecretKey) -> Result<KeyPair, ServerError> {
    let der = PrivatePkcs8KeyDer::from(ed25519_pkcs8(secret));
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
        .map_err(failed("key of the authority"))
}

/// PKCS #8 form of a key.
pub(crate) fn ed25519_pkcs8(secret: &SecretKey) -> Vec<u8> {
    [&PKCS8_PREFIX[..], &secret.seed()].concat()
}

/// PEM form of a secret key, which OpenSSL reads as well.
pub fn ed25519_pem(secret: &SecretKey) -> String {
    pem("PRIVATE KEY", &ed25519_pkcs8(secret))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustls::pki_types::{ServerName, UnixTime};
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    use super::*;

    const DEVICE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    const NOW: u64 = 1_800_000_000;

    fn issue(authority: &Authority, now_unix_s: u64) -> Issued {
        let issue = Issue {
            kind: Kind::Device,
            subject: DEVICE,
            key: SecretKey::from_seed(&[3; 32]).public(),
            names: vec![DEVICE.to_owned()],
            now_unix_s,
            life_secs: LIFE_SECS,
        };
        authority.issue(&issue).unwrap()
    }

    #[test]
    fn it_is_made_once_and_its_key_is_the_owners() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let first = Authority::open(&data, "f").unwrap();
        let again = Authority::open(&data, "f").unwrap();
        assert_eq!(first.certificate(), again.certificate());
        let mode = |name: &str| {
            let file = std::fs::metadata(dir.path().join(name)).unwrap();
            file.permissions().mode() & 0o777
        };
        assert_eq!(mode("authority.pem"), 0o600);
        let public = std::fs::read_to_string(dir.path().join("ca.pem")).unwrap();
        assert_eq!(public, first.pem());
        assert!(!public.contains("PRIVATE"));
        // Cut short, it is damage that is named, and nothing is made in its place.
        let path = dir.path().join("authority.pem");
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = Authority::open(&data, "f").err().unwrap().to_string();
        assert!(error.contains("authority.pem"), "{error}");
    }

    #[test]
    fn a_certificate_is_of_one_device_for_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let authority = Authority::open(&data, "f").unwrap();
        let issued = issue(&authority, NOW);
        let parsed = EndEntityCert::try_from(&issued.der).unwrap();
        assert_eq!(parsed.serial(), issued.row.serial);
        let named = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            parsed.verify_is_valid_for_subject_name(&name).is_ok()
        };
        assert!(named(DEVICE) && !named("bbbbbbbbbbbbbbbbbbbbbbbbbb"));
        let anchors = [anchor_from_trusted_cert(authority.certificate()).unwrap()];
        let valid = |at: u64, usage: KeyUsage| {
            let algorithms = rustls::crypto::ring::default_provider();
            let algorithms = algorithms.signature_verification_algorithms.all;
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
            parsed
                .verify_for_usage(algorithms, &anchors, &[], at, usage, None, None)
                .is_ok()
        };
        assert!(valid(NOW, KeyUsage::client_auth()));
        assert!(valid(NOW + LIFE_SECS, KeyUsage::client_auth()));
        assert!(!valid(NOW + LIFE_SECS + 1, KeyUsage::client_auth()));
        assert!(!valid(NOW - BACKDATED_SECS - 1, KeyUsage::client_auth()));
        // A device cannot pose as the broker.
        assert!(!valid(NOW, KeyUsage::server_auth()));
        // A server whose clock is at 1970 or 2099 still issues what is valid then.
        for now in [0, 4_070_908_800] {
            let issued = issue(&authority, now);
            assert_eq!(issued.row.not_after_unix_s, now + LIFE_SECS);
        }
    }

    #[test]
    fn what_was_revoked_is_in_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let authority = Authority::open(&data, "f").unwrap();
        let (good, bad) = (issue(&authority, NOW), issue(&authority, NOW));
        let revoked = [(bad.row.serial.clone(), NOW)];
        let list = authority.revocation_list(&revoked, NOW).unwrap();
        let list = rustls::pki_types::CertificateRevocationListDer::from_pem_slice(list.as_bytes());
        let list = webpki::OwnedCertRevocationList::from_der(list.unwrap().as_ref()).unwrap();
        let list = webpki::CertRevocationList::from(list);
        assert!(list.find_serial(&bad.row.serial).unwrap().is_some());
        assert!(list.find_serial(&good.row.serial).unwrap().is_none());
    }
}
