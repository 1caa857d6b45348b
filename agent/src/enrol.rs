//! Joining a fleet: one request over HTTP, signed by a key that was made here.
//!
//! The claim token's secret never travels; both sides prove that they know it, and only
//! therefore the answer's root may be trusted. Running it again is safe at any point: the
//! key stays, the server answers for the same device, and a newer root must follow the one
//! that is trusted already. A power cut leaves a key, or a key and an enrolment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_trust::{DeviceId, Domain, Envelope, SecretKey, TrustError, TrustedRoot};
use drover_wire::enrol::{
    EnrolReply, EnrolRequest, MAX_REPLY_BYTES, REPLY_PROOF_DOMAIN, REQUEST_PROOF_DOMAIN,
};
use drover_wire::message::WireError;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::identity::{self, Enrolment, IdentityError};

/// Longest wait for the server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a device asks with.
#[derive(Clone, Debug)]
pub struct Request {
    /// Address of the server, as in `http://fleet.local:8080`.
    pub server: String,
    /// Claim token, `ID.SECRET`.
    pub token: String,
    /// Data folder of the agent.
    pub data: PathBuf,
    /// Name for people; may be empty.
    pub name: String,
    /// What selectors of rollouts may ask for.
    pub labels: BTreeMap<String, String>,
    /// SHA-256 of the fleet's root, when it is known from elsewhere.
    pub root_pin: Option<[u8; 32]>,
}

/// The device takes part, or waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Identity of the device.
    pub device: DeviceId,
    /// Name of the fleet.
    pub fleet: String,
    /// Whether it takes part now.
    pub approved: bool,
}

/// Why a device did not join.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token has no two halves.
    #[error("the claim token does not read ID.SECRET; take it as `drover device token` shows it")]
    Token,
    /// Not a root pin.
    #[error("the root pin is not 64 hexadecimal digits")]
    Pin,
    /// Not an address of a server.
    #[error("server address {0:?} does not start with http://")]
    Address(String),
    /// The key or the answer could not be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The request is too large: too many or too long labels.
    #[error("the request is not acceptable; are name and labels short?")]
    Request(#[source] WireError),
    /// Nobody answered.
    #[error("no answer from {server}; is the server running there, and the network up?")]
    Unreachable {
        /// Address.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The server said no.
    #[error("the server refused (HTTP {status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In the server's words.
        message: String,
    },
    /// The answer is not one of a Drover server of this version.
    #[error("{server} does not answer like a drover server of this version")]
    Answer {
        /// Address.
        server: String,
        /// Why.
        source: WireError,
    },
    /// The answer was not made by someone who knows the token.
    #[error(
        "the answer does not prove knowledge of the claim token; someone stands between this \
         device and the server"
    )]
    Proof,
    /// The answer names another device.
    #[error("the server answered for device {got}, this is {own}")]
    Device {
        /// This device.
        own: DeviceId,
        /// Device in the answer.
        got: String,
    },
    /// The root is not acceptable.
    #[error("the fleet's root is not acceptable")]
    Root(#[source] TrustError),
    /// The device belongs elsewhere already.
    #[error(
        "this device is enrolled in fleet {have} already, the server is of fleet {got}; remove \
         the folder {} to leave the old fleet",
        folder.display()
    )]
    OtherFleet {
        /// Fleet that it belongs to.
        have: String,
        /// Fleet of the server.
        got: String,
        /// What to remove.
        folder: PathBuf,
    },
}

/// Reads a root pin.
///
/// # Errors
/// [`EnrolError::Pin`].
pub fn parse_pin(text: &str) -> Result<[u8; 32], EnrolError> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
    let pin = bytes.ok().and_then(|b| b.try_into().ok());
    pin.ok_or(EnrolError::Pin)
}

/// Joins a fleet, or renews what is known of it.
///
/// # Errors
/// [`EnrolError`]; what was stored before stays as it was.
pub fn enrol(request: &Request) -> Result<Enrolled, EnrolError> {
    let (claim_id, secret) = request
        .token
        .trim()
        .split_once('.')
        .ok_or(EnrolError::Token)?;
    if claim_id.is_empty() || secret.is_empty() {
        return Err(EnrolError::Token);
    }
    let server = request.server.trim_end_matches('/');
    if !server.starts_with("http://") {
        return Err(EnrolError::Address(server.to_owned()));
    }
    let known = identity::load_enrolment(&request.data)?;
    let key = identity::load_or_make_key(&request.data)?;
    let claim = Claim {
        id: claim_id,
        key: Sha256::digest(secret).into(),
    };
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(IdentityError::Random)?;
    let bytes = claim.request(request, &key, nonce)?;
    let reply = post(server, &bytes)?;

    let device = DeviceId::of(&key.public());
    if !claim.proves(&reply, nonce) {
        return Err(EnrolError::Proof);
    }
    if reply.device != device.as_str() {
        return Err(EnrolError::Device {
            own: device,
            got: reply.device,
        });
    }
    let root = accept_root(&reply, request.root_pin, known.as_ref(), &request.data)?;
    let enrolment = Enrolment {
        server: server.to_owned(),
        fleet: root.root().fleet.clone(),
        root: reply.root,
        broker_host: reply.broker_host,
        broker_port: reply.broker_port,
        mqtt_password: reply.mqtt_password,
    };
    identity::save_enrolment(&request.data, &enrolment)?;
    Ok(Enrolled {
        device,
        fleet: enrolment.fleet,
        approved: reply.approved,
    })
}

/// A claim token, with the key that both sides derive from its secret.
struct Claim<'a> {
    id: &'a str,
    key: [u8; 32],
}

impl Claim<'_> {
    fn mac(&self, parts: [&[u8]; 3]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key);
        let mut mac = mac.expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    /// The signed request.
    fn request(
        &self,
        request: &Request,
        key: &SecretKey,
        nonce: [u8; 16],
    ) -> Result<Vec<u8>, EnrolError> {
        let public_key = key.public().0;
        let proof = self.mac([REQUEST_PROOF_DOMAIN, &public_key, &nonce]);
        let body = EnrolRequest {
            public_key,
            claim_id: self.id.to_owned(),
            nonce,
            name: request.name.clone(),
            labels: request.labels.clone(),
            arch: std::env::consts::ARCH.to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            proof: proof.finalize().into_bytes().into(),
        };
        let payload = body.encode().map_err(EnrolError::Request)?;
        Envelope::signed(payload, Domain::Enrolment, key)
            .encode()
            .map_err(|_| EnrolError::Request(WireError::Parse))
    }

    /// Whether the answer was made by someone who knows the secret.
    fn proves(&self, reply: &EnrolReply, nonce: [u8; 16]) -> bool {
        let mac = self.mac([REPLY_PROOF_DOMAIN, &nonce, &reply.root]);
        mac.verify_slice(&reply.proof).is_ok()
    }
}

fn post(server: &str, bytes: &[u8]) -> Result<EnrolReply, EnrolError> {
    let unreachable = |error| EnrolError::Unreachable {
        server: server.to_owned(),
        source: Box::new(error),
    };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .build();
    let mut response = ureq::Agent::new_with_config(config)
        .post(format!("{server}/v1/enroll"))
        .content_type("application/octet-stream")
        .send(bytes)
        .map_err(unreachable)?;
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(MAX_REPLY_BYTES as u64)
        .read_to_vec()
        .map_err(unreachable)?;
    if !(200..300).contains(&status) {
        let message = refusal(&body);
        return Err(EnrolError::Refused { status, message });
    }
    EnrolReply::decode(&body).map_err(|source| EnrolError::Answer {
        server: server.to_owned(),
        source,
    })
}

/// The server's own words, out of its JSON if that is what it sent.
fn refusal(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|v| v.get("message")?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    // It goes to a terminal.
    let plain = text.chars().filter(|c| !c.is_control()).take(500);
    match plain.collect::<String>() {
        empty if empty.is_empty() => "no reason was given".into(),
        plain => plain,
    }
}

/// The root that the answer brings, if it may be trusted.
fn accept_root(
    reply: &EnrolReply,
    pin: Option<[u8; 32]>,
    known: Option<&Enrolment>,
    data: &Path,
) -> Result<TrustedRoot, EnrolError> {
    let envelope = Envelope::decode(&reply.root).map_err(EnrolError::Root)?;
    let root = match pin {
        Some(pin) => TrustedRoot::pinned(envelope, &pin),
        None => TrustedRoot::self_signed(envelope),
    }
    .map_err(EnrolError::Root)?;
    let Some(known) = known else {
        return Ok(root);
    };
    if known.fleet != root.root().fleet {
        return Err(EnrolError::OtherFleet {
            have: known.fleet.clone(),
            got: root.root().fleet.clone(),
            folder: identity::folder(data),
        });
    }
    let trusted = Envelope::decode(&known.root)
        .and_then(TrustedRoot::self_signed)
        .map_err(EnrolError::Root)?;
    let offered = TrustedRoot::pin_of(root.envelope());
    if TrustedRoot::pin_of(trusted.envelope()) == offered {
        return Ok(root);
    }
    trusted
        .advance(root.envelope().clone())
        .map_err(EnrolError::Root)
}

#[cfg(test)]
mod tests;
