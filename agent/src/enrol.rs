//! Joining a fleet: one request over HTTP, signed by a key that was made here.
//!
//! The claim token's secret never travels; both sides prove that they know it, and only
//! therefore the answer's roots may be trusted. Running it again is safe at any point: the
//! key stays, the server answers for the same device, and newer roots must follow the one
//! that is trusted already. A power cut leaves a key, or a key and an enrolment.

mod serial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use drover_trust::{DeviceId, Domain, Envelope, SecretKey, TrustError, TrustedRoot};
use drover_wire::enrol::{EnrolReply, EnrolRequest, MAX_REPLY_BYTES};
use drover_wire::message::WireError;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::exchange::ExchangeKey;
use crate::http::{self, HttpError};
use crate::identity::{self, Enrolment, IdentityError};

/// What a device asks with.
#[derive(Clone, Debug)]
pub struct Request {
    /// Address of the server, as in `https://fleet.local:8080`.
    pub server: String,
    /// Claim token, `ID.SECRET`.
    pub token: String,
    /// Data folder of the agent.
    pub data: PathBuf,
    /// Name for people; may be empty.
    pub name: String,
    /// What selectors of rollouts may ask for.
    pub labels: BTreeMap<String, String>,
    /// SHA-256 of any of the fleet's roots, when it is known from elsewhere.
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
    /// The key or the answer could not be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The request is too large: too many or too long labels.
    #[error("the request is not acceptable; are name and labels short?")]
    Request(#[source] WireError),
    /// There is no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
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
    #[error("the fleet's roots are not acceptable")]
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
    // Said before anything is made.
    split(&request.token)?;
    http::server(&request.server)?;
    let known = identity::known_root(&request.data)?;
    let key = identity::load_or_make_key(&request.data)?;
    let enrolment = join(request, &key, known.as_ref())?;
    identity::save_enrolment(&request.data, &enrolment)?;
    Ok(Enrolled {
        device: DeviceId::of(&key.public()),
        fleet: enrolment.fleet,
        approved: !enrolment.access.certificate.is_empty(),
    })
}

/// Asks to join, and checks the answer; `known` is the fleet that may not be left. Nothing is
/// stored.
///
/// # Errors
/// [`EnrolError`].
pub(crate) fn join(
    request: &Request,
    key: &SecretKey,
    known: Option<&TrustedRoot>,
) -> Result<Enrolment, EnrolError> {
    let (claim_id, secret) = split(&request.token)?;
    let server = http::server(&request.server)?;
    let claim = Claim {
        id: claim_id,
        key: Sha256::digest(secret).into(),
    };
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(IdentityError::Random)?;
    let bytes = claim.request(request, key, nonce)?;
    let body = http::post(server, "/v1/enroll", &bytes, MAX_REPLY_BYTES)?;
    let reply = EnrolReply::decode(&body).map_err(|source| EnrolError::Answer {
        server: server.to_owned(),
        source,
    })?;

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
    let root = accept_roots(&reply, request.root_pin, known, &request.data)?;
    Ok(Enrolment {
        server: server.to_owned(),
        fleet: root.root().fleet.clone(),
        root: root.envelope().encode().map_err(EnrolError::Root)?,
        access: reply.access,
        time_floor_s: reply.sent_unix_s,
    })
}

fn split(token: &str) -> Result<(&str, &str), EnrolError> {
    let halves = token.trim().split_once('.');
    let halves = halves.filter(|(id, secret)| !id.is_empty() && !secret.is_empty());
    halves.ok_or(EnrolError::Token)
}

/// A claim token, with the key that both sides derive from its secret.
struct Claim<'a> {
    id: &'a str,
    key: [u8; 32],
}

impl Claim<'_> {
    fn mac(&self, proven: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key);
        let mac = mac.expect("HMAC takes keys of any length");
        mac.chain_update(proven)
    }

    /// The signed request.
    fn request(
        &self,
        request: &Request,
        key: &SecretKey,
        nonce: [u8; 16],
    ) -> Result<Vec<u8>, EnrolError> {
        let mut body = EnrolRequest {
            public_key: key.public().0,
            exchange_key: ExchangeKey::of(key).public(),
            claim_id: self.id.to_owned(),
            nonce,
            name: request.name.clone(),
            hardware: serial::of_board(),
            labels: request.labels.clone(),
            arch: std::env::consts::ARCH.to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            proof: [0; 32],
        };
        let proven = body.proven().map_err(EnrolError::Request)?;
        body.proof = self.mac(&proven).finalize().into_bytes().into();
        let payload = body.encode().map_err(EnrolError::Request)?;
        Envelope::signed(payload, Domain::Enrolment, key)
            .encode()
            .map_err(|_| EnrolError::Request(WireError::Parse))
    }

    /// Whether the answer was made by someone who knows the secret.
    fn proves(&self, reply: &EnrolReply, nonce: [u8; 16]) -> bool {
        let proven = reply.proven(&nonce);
        proven.is_ok_and(|proven| self.mac(&proven).verify_slice(&reply.proof).is_ok())
    }
}

/// The newest root that the answer brings, if its chain may be trusted.
fn accept_roots(
    reply: &EnrolReply,
    pin: Option<[u8; 32]>,
    known: Option<&TrustedRoot>,
    data: &Path,
) -> Result<TrustedRoot, EnrolError> {
    let chain: Result<Vec<Envelope>, TrustError> =
        reply.roots.iter().map(|r| Envelope::decode(r)).collect();
    let chain = chain.map_err(EnrolError::Root)?;
    let first = match (pin, known) {
        (Some(pin), _) => {
            let pinned = chain.iter().find(|e| TrustedRoot::pin_of(e) == pin);
            let pinned = pinned.ok_or(TrustError::Root("none of the roots is the pinned one"));
            pinned.and_then(|e| TrustedRoot::pinned(e.clone(), &pin))
        }
        (None, Some(known)) => Ok(known.clone()),
        (None, None) => {
            let first = chain.first().cloned();
            let first = first.ok_or(TrustError::Root("there is none"));
            first.and_then(TrustedRoot::self_signed)
        }
    };
    if let Some(known) = known.filter(|k| k.root().fleet != reply.fleet) {
        return Err(EnrolError::OtherFleet {
            have: known.root().fleet.clone(),
            got: reply.fleet.clone(),
            folder: identity::folder(data),
        });
    }
    let root = newest(&first.map_err(EnrolError::Root)?, &chain)?;
    if root.root().fleet != reply.fleet {
        return Err(EnrolError::Root(TrustError::Fleet));
    }
    // A chain of another origin, or one that ends before the trusted root, is passed over by
    // the walk; it must not be taken for this fleet's.
    let reached = TrustedRoot::pin_of(root.envelope());
    let from_known = known.map_or(Ok(root.clone()), |known| newest(known, &chain))?;
    let same = TrustedRoot::pin_of(from_known.envelope()) == reached;
    if !same || !chain.iter().any(|e| TrustedRoot::pin_of(e) == reached) {
        let why = "they do not lead on from the root that this device trusts";
        return Err(EnrolError::Root(TrustError::Root(why)));
    }
    Ok(root)
}

/// Follows the chain to its end.
fn newest(first: &TrustedRoot, chain: &[Envelope]) -> Result<TrustedRoot, EnrolError> {
    match first.walk(chain.iter().cloned()) {
        (newest, None) => Ok(newest),
        (_, Some(error)) => Err(EnrolError::Root(error)),
    }
}

#[cfg(test)]
mod tests;
