//! How a device joins a fleet: one request and one reply over HTTP.
//!
//! `POST /v1/enroll` carries, as `application/octet-stream`, an encoded envelope of
//! `drover-trust` (domain `Enrolment`) whose payload is an encoded [`EnrolRequest`], signed
//! by the device's own key. The answer is an encoded [`EnrolReply`]. Repeating a request with
//! the same claim and key is safe: the answer names the same device.
//!
//! A claim token reads `<claim id>.<secret>`. Both sides derive `k`, the SHA-256 of the
//! secret's characters; the secret itself never travels, and the proofs below show that
//! either side knows `k`. This module never computes them: it holds no cryptography.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::codec::{self, WireError};

/// Domain string at the start of what [`EnrolRequest::proof`] covers.
pub const REQUEST_PROOF_DOMAIN: &[u8] = b"drover-enrol-v1";
/// Domain string at the start of what [`EnrolReply::proof`] covers.
pub const REPLY_PROOF_DOMAIN: &[u8] = b"drover-enrol-reply-v1";
/// Largest encoded request, its signature not counted, in bytes.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// Largest encoded reply, in bytes.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Most labels that a device may ask for.
pub const MAX_LABELS: usize = 32;
/// Longest name, label key or label value, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// A device asks to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The device's ed25519 key; its identity follows from it.
    pub public_key: [u8; 32],
    /// First half of the claim token.
    pub claim_id: String,
    /// Drawn anew for each attempt.
    pub nonce: [u8; 16],
    /// Name for people; empty when there is none.
    pub name: String,
    /// What selectors of rollouts may ask for; those of the token win.
    pub labels: BTreeMap<String, String>,
    /// Architecture, as Rust names it.
    pub arch: String,
    /// Version of the agent.
    pub agent_version: String,
    /// HMAC-SHA256 with key `k` of [`REQUEST_PROOF_DOMAIN`], `public_key` and `nonce`.
    pub proof: [u8; 32],
}

/// The server lets a device in, or keeps it waiting for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolReply {
    /// The device's identity, also its MQTT user name and client id.
    pub device: String,
    /// Name of the fleet.
    pub fleet: String,
    /// Encoded envelope of the fleet's root metadata.
    pub root: Vec<u8>,
    /// Host of the broker.
    pub broker_host: String,
    /// Port of the broker.
    pub broker_port: u16,
    /// MQTT password of this device; a later reply replaces an earlier one's.
    pub mqtt_password: String,
    /// Whether the device takes part now; otherwise an operator has to approve it.
    pub approved: bool,
    /// HMAC-SHA256 with key `k` of [`REPLY_PROOF_DOMAIN`], the request's nonce and `root`: who
    /// answers knows the token, so its root may be trusted.
    pub proof: [u8; 32],
}

impl EnrolRequest {
    /// Version byte and postcard.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the server would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        codec::encode(self, MAX_REQUEST_BYTES)
    }

    /// Parses the encoded form.
    ///
    /// # Errors
    /// Any [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let request: Self = codec::decode(bytes, MAX_REQUEST_BYTES)?;
        let texts = [
            &request.claim_id,
            &request.name,
            &request.arch,
            &request.agent_version,
        ];
        let acceptable = request.labels.len() <= MAX_LABELS
            && texts.into_iter().all(|t| is_text(t))
            && request.labels.iter().all(|(k, v)| is_text(k) && is_text(v));
        acceptable.then_some(request).ok_or(WireError::Parse)
    }
}

impl EnrolReply {
    /// Version byte and postcard.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the device would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        codec::encode(self, MAX_REPLY_BYTES)
    }

    /// Parses the encoded form.
    ///
    /// # Errors
    /// Any [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let reply: Self = codec::decode(bytes, MAX_REPLY_BYTES)?;
        let texts = [&reply.device, &reply.fleet, &reply.broker_host];
        let acceptable = texts.into_iter().all(|t| is_text(t));
        acceptable.then_some(reply).ok_or(WireError::Parse)
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> EnrolRequest {
        EnrolRequest {
            public_key: [1; 32],
            claim_id: "c".into(),
            nonce: [2; 16],
            name: "n".into(),
            labels: BTreeMap::from([("k".into(), "v".into())]),
            arch: "arm".into(),
            agent_version: "0".into(),
            proof: [3; 32],
        }
    }

    /// Golden bytes of version 1; never to be edited.
    #[test]
    fn version_1_bytes() {
        let mut wanted = alloc::vec![1u8];
        wanted.extend([1; 32]);
        wanted.extend([1, b'c']);
        wanted.extend([2; 16]);
        wanted.extend([1, b'n', 1, 1, b'k', 1, b'v', 3, b'a', b'r', b'm', 1, b'0']);
        wanted.extend([3; 32]);
        assert_eq!(request().encode().unwrap(), wanted);
        assert_eq!(EnrolRequest::decode(&wanted).unwrap(), request());

        let reply = EnrolReply {
            device: "d".into(),
            fleet: "f".into(),
            root: alloc::vec![9],
            broker_host: "h".into(),
            broker_port: 300,
            mqtt_password: "p".into(),
            approved: true,
            proof: [4; 32],
        };
        let mut wanted = alloc::vec![1u8, 1, b'd', 1, b'f', 1, 9, 1, b'h', 0xac, 2, 1, b'p', 1];
        wanted.extend([4; 32]);
        assert_eq!(reply.encode().unwrap(), wanted);
        assert_eq!(EnrolReply::decode(&wanted).unwrap(), reply);
    }

    #[test]
    fn unknown_versions_trailing_bytes_and_control_characters_are_refused() {
        let mut bytes = request().encode().unwrap();
        bytes.push(0);
        assert_eq!(EnrolRequest::decode(&bytes), Err(WireError::Parse));
        bytes.pop();
        bytes[0] = 2;
        assert_eq!(EnrolRequest::decode(&bytes), Err(WireError::Version(2)));
        let mut hostile = request();
        hostile.name = "a\u{1b}[2J".into();
        let bytes = hostile.encode().unwrap();
        assert_eq!(EnrolRequest::decode(&bytes), Err(WireError::Parse));
    }
}
