//! How a device joins a fleet and keeps its certificate fresh, over HTTP.
//!
//! `POST /v1/enroll` carries, as `application/octet-stream`, an encoded envelope of
//! `drover-trust` (domain `Enrolment`) whose payload is an encoded [`EnrolRequest`], signed
//! by the device's own key. The answer is an encoded [`EnrolReply`]. Repeating a request with
//! the same claim and key is safe: the answer names the same device.
//!
//! A claim token reads `<claim id>.<secret>`. Both sides derive `k`, the SHA-256 of the
//! secret's characters; the secret itself never travels, and the proofs below show that
//! either side knows `k`. This module never computes them: it holds no cryptography.
//!
//! `POST /v1/certificate` carries an envelope (domain `CertificateRequest`) around a
//! [`CertificateRequest`], signed by the device's key, and is answered by an encoded
//! [`CertificateReply`]. Both endpoints are authenticated end to end by what they carry, so
//! that neither needs the TLS around it to be verified: a device whose clock or authorities
//! are years old still gets through.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::codec::{self, WireError};

/// Version of the forms in this module.
pub const VERSION: u8 = 2;
/// Domain string at the start of what [`EnrolRequest::proof`] covers.
pub const REQUEST_PROOF_DOMAIN: &[u8] = b"drover-enrol-v2";
/// Domain string at the start of what [`EnrolReply::proof`] covers.
pub const REPLY_PROOF_DOMAIN: &[u8] = b"drover-enrol-reply-v2";
/// Largest encoded request, its signature not counted, in bytes.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// Largest encoded reply, in bytes.
pub const MAX_REPLY_BYTES: usize = 192 * 1024;
/// Most labels that a device may ask for.
pub const MAX_LABELS: usize = 32;
/// Longest name, label key or label value, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// A device asks to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The device's ed25519 key; its identity follows from it.
    pub public_key: [u8; 32],
    /// The device's X25519 key, to which keys of confidential bundles are wrapped.
    pub exchange_key: [u8; 32],
    /// First half of the claim token.
    pub claim_id: String,
    /// Drawn anew for each attempt.
    pub nonce: [u8; 16],
    /// Name for people; empty when there is none.
    pub name: String,
    /// Serial number of the board; empty when it tells none.
    pub hardware: String,
    /// What selectors of rollouts may ask for; those of the token win.
    pub labels: BTreeMap<String, String>,
    /// Architecture, as Rust names it.
    pub arch: String,
    /// Version of the agent.
    pub agent_version: String,
    /// HMAC-SHA256 with key `k` over [`Self::proven`].
    pub proof: [u8; 32],
}

/// The server lets a device in, or keeps it waiting for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolReply {
    /// The device's identity, also its MQTT client id.
    pub device: String,
    /// Name of the fleet.
    pub fleet: String,
    /// Encoded envelopes of the fleet's roots, from version 1 to the newest.
    pub roots: Vec<Vec<u8>>,
    /// How to reach the broker; the certificate in it is empty until the device is approved.
    pub access: Access,
    /// Server's clock, in seconds since 1970; raises the device's time floor.
    pub sent_unix_s: u64,
    /// HMAC-SHA256 with key `k` over [`Self::proven`]: who answers knows the token, so its
    /// root may be trusted.
    pub proof: [u8; 32],
}

/// How a device reaches the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Host of the broker.
    pub broker_host: String,
    /// Port of the broker.
    pub broker_port: u16,
    /// X.509 certificate of the device's own key, DER; empty until it is approved.
    pub certificate: Vec<u8>,
    /// End of the certificate's life, in seconds since 1970; 0 without one.
    pub expires_unix_s: u64,
    /// When the device should ask for the next one, in seconds since 1970; 0 without one.
    pub renew_unix_s: u64,
    /// X.509 certificates of the authorities that vouch for the broker, DER.
    pub authorities: Vec<Vec<u8>>,
}

/// A device asks for a new certificate of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// The device.
    pub device: String,
    /// Drawn anew for each attempt; the grant repeats it.
    pub nonce: [u8; 16],
    /// Version of the newest root that the device has verified.
    pub root_version: u64,
}

/// The answer to a [`CertificateRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReply {
    /// Successors of the device's root, in order; each is verified by the one before it.
    pub roots: Vec<Vec<u8>>,
    /// Encoded envelope around a [`CertificateGrant`], signed by the fleet role of the newest
    /// root.
    pub grant: Vec<u8>,
}

/// A new certificate for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateGrant {
    /// The device.
    pub device: String,
    /// Nonce of the request: an older grant answers no newer request.
    pub nonce: [u8; 16],
    /// How to reach the broker; the certificate in it is empty while the device waits for
    /// approval.
    pub access: Access,
    /// Server's clock, in seconds since 1970; raises the device's time floor.
    pub sent_unix_s: u64,
}

impl EnrolRequest {
    /// Version byte and postcard.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the server would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        codec::encode_as(VERSION, self, MAX_REQUEST_BYTES)
    }

    /// Parses the encoded form.
    ///
    /// # Errors
    /// Any [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let request: Self = codec::decode_as(VERSION, bytes, MAX_REQUEST_BYTES)?;
        let texts = [
            &request.claim_id,
            &request.name,
            &request.hardware,
            &request.arch,
            &request.agent_version,
        ];
        let acceptable = request.labels.len() <= MAX_LABELS
            && texts.into_iter().all(|t| is_text(t))
            && request.labels.iter().all(|(k, v)| is_text(k) && is_text(v));
        acceptable.then_some(request).ok_or(WireError::Parse)
    }

    /// What the proof covers: [`REQUEST_PROOF_DOMAIN`], then the whole request with a proof of
    /// zeros.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn proven(&self) -> Result<Vec<u8>, WireError> {
        let blank = Self {
            proof: [0; 32],
            ..self.clone()
        };
        Ok([REQUEST_PROOF_DOMAIN, &blank.encode()?].concat())
    }
}

impl EnrolReply {
    /// Version byte and postcard.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the device would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        codec::encode_as(VERSION, self, MAX_REPLY_BYTES)
    }

    /// Parses the encoded form.
    ///
    /// # Errors
    /// Any [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let reply: Self = codec::decode_as(VERSION, bytes, MAX_REPLY_BYTES)?;
        let texts = [&reply.device, &reply.fleet, &reply.access.broker_host];
        let acceptable = texts.into_iter().all(|t| is_text(t));
        acceptable.then_some(reply).ok_or(WireError::Parse)
    }

    /// What the proof covers: [`REPLY_PROOF_DOMAIN`], the request's nonce, then the whole
    /// reply with a proof of zeros.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn proven(&self, nonce: &[u8; 16]) -> Result<Vec<u8>, WireError> {
        let blank = Self {
            proof: [0; 32],
            ..self.clone()
        };
        Ok([REPLY_PROOF_DOMAIN, nonce, &blank.encode()?].concat())
    }
}

macro_rules! codec {
    ($($type:ty),*) => {$(
        impl $type {
            /// Version byte and postcard.
            ///
            /// # Errors
            /// [`WireError::TooLarge`] when the other side would refuse it.
            pub fn encode(&self) -> Result<Vec<u8>, WireError> {
                codec::encode_as(VERSION, self, MAX_REPLY_BYTES)
            }

            /// Parses the encoded form.
            ///
            /// # Errors
            /// Any [`WireError`].
            pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
                codec::decode_as(VERSION, bytes, MAX_REPLY_BYTES)
            }
        }
    )*};
}

codec!(CertificateRequest, CertificateReply, CertificateGrant);

fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> EnrolRequest {
        EnrolRequest {
            public_key: [1; 32],
            exchange_key: [5; 32],
            claim_id: "c".into(),
            nonce: [2; 16],
            name: "n".into(),
            hardware: "h".into(),
            labels: BTreeMap::from([("k".into(), "v".into())]),
            arch: "arm".into(),
            agent_version: "0".into(),
            proof: [3; 32],
        }
    }

    fn access() -> Access {
        Access {
            broker_host: "h".into(),
            broker_port: 300,
            certificate: alloc::vec![8],
            expires_unix_s: 9,
            renew_unix_s: 6,
            authorities: alloc::vec![alloc::vec![7]],
        }
    }

    /// Golden bytes of version 2; never to be edited.
    #[test]
    fn version_2_bytes() {
        let mut wanted = alloc::vec![2u8];
        wanted.extend([1; 32]);
        wanted.extend([5; 32]);
        wanted.extend([1, b'c']);
        wanted.extend([2; 16]);
        wanted.extend([1, b'n', 1, b'h', 1, 1, b'k', 1, b'v']);
        wanted.extend([3, b'a', b'r', b'm', 1, b'0']);
        wanted.extend([3; 32]);
        assert_eq!(request().encode().unwrap(), wanted);
        assert_eq!(EnrolRequest::decode(&wanted).unwrap(), request());

        let reply = EnrolReply {
            device: "d".into(),
            fleet: "f".into(),
            roots: alloc::vec![alloc::vec![9]],
            access: access(),
            sent_unix_s: 300,
            proof: [4; 32],
        };
        let mut wanted = alloc::vec![2u8, 1, b'd', 1, b'f', 1, 1, 9];
        wanted.extend([1, b'h', 0xac, 2, 1, 8, 9, 6, 1, 1, 7, 0xac, 2]);
        wanted.extend([4; 32]);
        assert_eq!(reply.encode().unwrap(), wanted);
        assert_eq!(EnrolReply::decode(&wanted).unwrap(), reply);
    }

    /// Golden bytes of version 2; never to be edited.
    #[test]
    fn version_2_bytes_of_certificates() {
        let request = CertificateRequest {
            device: "d".into(),
            nonce: [2; 16],
            root_version: 300,
        };
        let mut wanted = alloc::vec![2u8, 1, b'd'];
        wanted.extend([2; 16]);
        wanted.extend([0xac, 2]);
        assert_eq!(request.encode().unwrap(), wanted);
        assert_eq!(CertificateRequest::decode(&wanted).unwrap(), request);

        let reply = CertificateReply {
            roots: alloc::vec![alloc::vec![9]],
            grant: alloc::vec![1],
        };
        assert_eq!(reply.encode().unwrap(), [2, 1, 1, 9, 1, 1]);

        let grant = CertificateGrant {
            device: "d".into(),
            nonce: [2; 16],
            access: access(),
            sent_unix_s: 1,
        };
        let mut wanted = alloc::vec![2u8, 1, b'd'];
        wanted.extend([2; 16]);
        wanted.extend([1, b'h', 0xac, 2, 1, 8, 9, 6, 1, 1, 7, 1]);
        assert_eq!(grant.encode().unwrap(), wanted);
    }

    #[test]
    fn unknown_versions_trailing_bytes_and_control_characters_are_refused() {
        let mut bytes = request().encode().unwrap();
        bytes.push(0);
        assert_eq!(EnrolRequest::decode(&bytes), Err(WireError::Parse));
        bytes.pop();
        // Version 1 had passwords instead of certificates and is not spoken any more.
        bytes[0] = 1;
        assert_eq!(EnrolRequest::decode(&bytes), Err(WireError::Version(1)));
        let mut hostile = request();
        hostile.name = "a\u{1b}[2J".into();
        let bytes = hostile.encode().unwrap();
        assert_eq!(EnrolRequest::decode(&bytes), Err(WireError::Parse));
    }

    #[test]
    fn proofs_cover_every_field_but_themselves() {
        let other = EnrolRequest {
            proof: [9; 32],
            ..request()
        };
        assert_eq!(request().proven(), other.proven());
        let other = EnrolRequest {
            exchange_key: [6; 32],
            ..request()
        };
        assert_ne!(request().proven(), other.proven());
    }
}
