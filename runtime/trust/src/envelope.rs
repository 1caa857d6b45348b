//! Signed payloads: the bytes, and who signed them.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::mutation::{Check, is_disabled};
use crate::{KeyId, PublicKey, SecretKey, TrustError};

/// An encoded envelope larger than this is refused before it is parsed, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Envelopes with more signatures than this are refused.
pub const MAX_SIGNATURES: usize = 32;

/// What a signature is for. A signature of one domain never verifies in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Root metadata.
    Root,
    /// A bundle's manifest.
    Manifest,
    /// The desired state of a device.
    Assignment,
    /// A message from the server to one device.
    Down,
    /// A numbered message from a device to the server.
    Up,
    /// A device's request to join a fleet.
    Enrolment,
    /// The list of all releases.
    Catalog,
    /// A device's request for a new certificate.
    CertificateRequest,
    /// The fleet's answer to it.
    CertificateGrant,
    /// The move of a device to another fleet.
    Voucher,
    /// The newest entry of the server's audit log.
    AuditHead,
}

impl Domain {
    /// The domain string inside the signed bytes; fixed for ever.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "drover/root/v1",
            Self::Manifest => "drover/manifest/v1",
            Self::Assignment => "drover/assignment/v1",
            Self::Down => "drover/down/v1",
            Self::Up => "drover/up/v2",
            Self::Enrolment => "drover/enrolment/v2",
            Self::Catalog => "drover/catalog/v1",
            Self::CertificateRequest => "drover/certificate-request/v1",
            Self::CertificateGrant => "drover/certificate-grant/v1",
            Self::Voucher => "drover/voucher/v1",
            Self::AuditHead => "drover/audit-head/v1",
        }
    }

    /// Pre-authenticated encoding as in DSSE v1: lengths and parts, unambiguous for any
    /// payload.
    pub fn pre_authenticate(self, payload: &[u8]) -> Vec<u8> {
        let domain = self.as_str();
        let mut bytes = Vec::with_capacity(payload.len() + 64);
        bytes.extend_from_slice(b"DSSEv1 ");
        push_decimal(&mut bytes, domain.len());
        bytes.push(b' ');
        bytes.extend_from_slice(domain.as_bytes());
        bytes.push(b' ');
        push_decimal(&mut bytes, payload.len());
        bytes.push(b' ');
        bytes.extend_from_slice(payload);
        bytes
    }
}

fn push_decimal(bytes: &mut Vec<u8>, n: usize) {
    bytes.extend_from_slice(alloc::format!("{n}").as_bytes());
}

/// One signature, with the identity of the key that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key.
    pub key: KeyId,
    /// R and S, 64 bytes.
    bytes: ([u8; 32], [u8; 32]),
}

impl Signature {
    fn new(key: KeyId, bytes: [u8; 64]) -> Self {
        let mut halves = ([0; 32], [0; 32]);
        halves.0.copy_from_slice(&bytes[..32]);
        halves.1.copy_from_slice(&bytes[32..]);
        Self { key, bytes: halves }
    }

    /// The 64 bytes.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.bytes.0);
        bytes[32..].copy_from_slice(&self.bytes.1);
        bytes
    }
}

/// A payload with signatures. Its content is not to be used before it is verified: by
/// [`crate::TrustedRoot::verify`] for roles, by [`Envelope::verify_by`] for devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

impl Envelope {
    /// Wraps a payload that nobody has signed yet.
    pub fn unsigned(payload: Vec<u8>) -> Self {
        Self {
            payload,
            signatures: Vec::new(),
        }
    }

    /// Adds the signature of `key`; signing twice with one key changes nothing.
    pub fn sign(&mut self, domain: Domain, key: &SecretKey) {
        let id = key.public().id();
        if self.signatures.iter().any(|s| s.key == id) {
            return;
        }
        let bytes = key.sign_bytes(&domain.pre_authenticate(&self.payload));
        self.signatures.push(Signature::new(id, bytes));
    }

    /// [`Self::unsigned`] and [`Self::sign`] with one key.
    pub fn signed(payload: Vec<u8>, domain: Domain, key: &SecretKey) -> Self {
        let mut envelope = Self::unsigned(payload);
        envelope.sign(domain, key);
        envelope
    }

    /// The signatures, valid or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The payload without any verification: only to show it, or to hash it.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, if `key` signed it for `domain`.
    ///
    /// # Errors
    /// [`TrustError::Threshold`] when it did not.
    pub fn verify_by(&self, domain: Domain, key: &PublicKey) -> Result<&[u8], TrustError> {
        match self.count(domain, core::slice::from_ref(key)) {
            0 => Err(TrustError::Threshold {
                role: crate::Role::Device,
                got: 0,
                needed: 1,
            }),
            _ => Ok(&self.payload),
        }
    }

    /// How many of `keys` made a valid signature. Keys are counted by their material, once
    /// each, however many entries carry their signature.
    pub(crate) fn count(&self, domain: Domain, keys: &[PublicKey]) -> usize {
        let message = domain.pre_authenticate(&self.payload);
        let mut counted: Vec<&PublicKey> = Vec::new();
        let mut entries = 0;
        for key in keys {
            let id = key.id();
            let mut valid = self
                .signatures
                .iter()
                .filter(|s| s.key == id && key.verifies(&message, &s.to_bytes()));
            if is_disabled(Check::DistinctKeys) {
                entries += valid.count();
            } else if valid.next().is_some() && !counted.contains(&key) {
                counted.push(key);
            }
        }
        counted.len() + entries
    }

    /// Wire and file form.
    ///
    /// # Errors
    /// [`TrustError::TooLarge`] when [`Self::decode`] would refuse the result.
    pub fn encode(&self) -> Result<Vec<u8>, TrustError> {
        let bytes = postcard::to_allocvec(self).map_err(|_| TrustError::Parse("envelope"))?;
        limit("envelope", bytes.len(), MAX_BYTES)?;
        Ok(bytes)
    }

    /// Parses the frame around a payload; the payload itself stays unread.
    ///
    /// # Errors
    /// [`TrustError::TooLarge`] or [`TrustError::Parse`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TrustError> {
        limit("envelope", bytes.len(), MAX_BYTES)?;
        let envelope: Self = parse("envelope", bytes)?;
        limit("signature list", envelope.signatures.len(), MAX_SIGNATURES)?;
        Ok(envelope)
    }
}

pub(crate) fn limit(what: &'static str, got: usize, limit: usize) -> Result<(), TrustError> {
    if got > limit && !is_disabled(Check::SizeLimit) {
        return Err(TrustError::TooLarge { what, got, limit });
    }
    Ok(())
}

/// Postcard without trailing bytes.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, TrustError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(TrustError::Parse(what)),
    }
}

/// Postcard behind one version byte, without trailing bytes.
pub(crate) fn parse_versioned<'a, T: Deserialize<'a>>(
    what: &'static str,
    version: u8,
    bytes: &'a [u8],
) -> Result<T, TrustError> {
    match bytes.split_first() {
        Some((&v, body)) if v == version => parse(what, body),
        Some((&got, _)) => Err(TrustError::Version { what, got }),
        None => Err(TrustError::Parse(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    #[test]
    fn the_signed_bytes_never_change() {
        assert_eq!(
            Domain::Manifest.pre_authenticate(b"hello"),
            b"DSSEv1 18 drover/manifest/v1 5 hello"
        );
    }

    #[test]
    fn a_signature_of_one_domain_fails_in_another() {
        let envelope = Envelope::signed(b"x".to_vec(), Domain::Up, &key(1));
        assert!(envelope.verify_by(Domain::Up, &key(1).public()).is_ok());
        assert!(envelope.verify_by(Domain::Down, &key(1).public()).is_err());
        assert!(envelope.verify_by(Domain::Up, &key(2).public()).is_err());
    }

    #[test]
    fn one_key_counts_once() {
        let mut envelope = Envelope::signed(b"x".to_vec(), Domain::Root, &key(1));
        envelope.signatures.push(envelope.signatures[0].clone());
        let one = key(1).public();
        assert_eq!(
            envelope.count(Domain::Root, &[one, one, key(2).public()]),
            1
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let envelope = Envelope::signed(b"payload".to_vec(), Domain::Up, &key(1));
        let bytes = envelope.encode().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let accepted = Envelope::decode(&bad)
                .is_ok_and(|e| e.verify_by(Domain::Up, &key(1).public()).is_ok());
            assert!(!accepted, "bit {bit} may be flipped");
        }
    }
}
