//! Claim tokens, and devices that enrol with them.
//!
//! A token enrols one device. The device may repeat its request, because the answer may have
//! been lost; anybody else who shows the token is refused and an event says so. Of secrets
//! only hashes are stored.

use drover_api::{Approval, CreateTokens, Severity, Token};
use drover_trust::{DeviceId, Domain, Envelope, PublicKey};
use drover_wire::enrol::{
    EnrolReply, EnrolRequest, MAX_LABELS, MAX_TEXT_BYTES, REPLY_PROOF_DOMAIN, REQUEST_PROOF_DOMAIN,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::http::Refusal;
use crate::state::Core;
use crate::store::{Claim, ClaimOutcome, NewDevice, NewEvent};
use crate::{ServerError, clock, random};

/// Tokens made at once at most.
const MAX_TOKENS: u32 = 1000;
/// Longest life of a token, in seconds.
const MAX_TTL_SECS: u64 = 366 * 24 * 3600;

/// Makes claim tokens.
pub(crate) async fn create_tokens(
    core: &Core,
    request: &CreateTokens,
) -> Result<Vec<Token>, Refusal> {
    if !(1..=MAX_TOKENS).contains(&request.count) {
        return Err(Refusal::bad(format!("count: use 1 to {MAX_TOKENS}")));
    }
    if !(1..=MAX_TTL_SECS).contains(&request.ttl_secs) {
        return Err(Refusal::bad(format!("ttl_secs: use 1 to {MAX_TTL_SECS}")));
    }
    let is_text = |t: &String| t.len() <= MAX_TEXT_BYTES && !t.chars().any(char::is_control);
    let mut texts = request.labels.iter().flat_map(|(k, v)| [k, v]);
    if request.labels.len() > MAX_LABELS || !texts.all(is_text) {
        return Err(Refusal::bad(format!(
            "labels: at most {MAX_LABELS}, of {MAX_TEXT_BYTES} bytes without control characters"
        )));
    }
    let expires_unix_s = clock::unix_s().saturating_add(request.ttl_secs);
    let mut claims = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..request.count {
        let (id, secret) = (random::id()?, random::secret()?);
        tokens.push(Token {
            token: format!("{id}.{secret}"),
            expires_unix_s,
        });
        claims.push(Claim {
            id,
            k: Sha256::digest(secret.as_bytes()).into(),
            expires_unix_s,
            auto_approve: request.approval == Approval::Auto,
            labels: request.labels.clone(),
        });
    }
    core.store.add_claims(&claims).await?;
    Ok(tokens)
}

/// Enrols the device that sent `body`; gives the encoded reply.
pub(crate) async fn enrol(core: &Core, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let not_one = |_| Refusal::bad("this is not an enrolment request");
    let envelope = Envelope::decode(body).map_err(not_one)?;
    // The key that must have signed is inside; the proof below ties it to the token.
    let request = EnrolRequest::decode(envelope.unverified_payload())
        .map_err(|e| Refusal::bad(format!("this is not an enrolment request: {e}")))?;
    let key = PublicKey(request.public_key);
    key.check()
        .and_then(|()| envelope.verify_by(Domain::Enrolment, &key).map(drop))
        .map_err(|_| Refusal::refused("the request is not signed by the device's own key"))?;
    let device = DeviceId::of(&key);

    let unknown = || {
        Refusal::forbidden(
            "the claim token is not known here or its secret is wrong; ask the operator for a \
             new one (`drover device token`)",
        )
    };
    let claim = core
        .store
        .claim(&request.claim_id)
        .await?
        .ok_or_else(unknown)?;
    let parts = [REQUEST_PROOF_DOMAIN, &request.public_key, &request.nonce];
    if mac(&claim.k, &parts)?.verify_slice(&request.proof).is_err() {
        let detail = format!("wrong secret for claim {}", claim.id);
        note(core, &device, Severity::Security, "claim-refused", detail).await?;
        return Err(unknown());
    }
    let password = random::secret()?;
    let new = NewDevice {
        id: device.to_string(),
        public_key: key,
        password_sha256: Sha256::digest(password.as_bytes()).into(),
        name: request.name.clone(),
        labels: request.labels.clone(),
        arch: request.arch.clone(),
        agent_version: request.agent_version.clone(),
        now_unix_s: clock::unix_s(),
    };
    let approved = match core.store.use_claim(&claim, &new).await? {
        ClaimOutcome::Enrolled { approved } => approved,
        ClaimOutcome::Taken => {
            let detail = format!("claim {} was used by another device before", claim.id);
            note(core, &device, Severity::Security, "claim-reused", detail).await?;
            return Err(Refusal::conflict(
                "the claim token has been used by another device; each token enrols one device",
            ));
        }
        ClaimOutcome::Expired => {
            return Err(Refusal::forbidden(
                "the claim token has expired; ask the operator for a new one",
            ));
        }
    };
    tracing::info!(%device, approved, "device enrolled");
    let detail = if approved {
        "takes part"
    } else {
        "waits for approval"
    };
    note(core, &device, Severity::Info, "enrolled", detail.into()).await?;
    core.replan.notify_one();
    reply(core, &claim, &request, &device, password, approved)
}

/// Lets a waiting device take part.
pub(crate) async fn approve(core: &Core, device: &str) -> Result<(), ServerError> {
    if core.store.approve(device).await? {
        let detail = "approved by an operator".to_owned();
        let event = NewEvent::of(device, Severity::Info, "approved", detail);
        core.store.add_event(&event).await?;
        core.replan.notify_one();
    }
    Ok(())
}

fn reply(
    core: &Core,
    claim: &Claim,
    request: &EnrolRequest,
    device: &DeviceId,
    mqtt_password: String,
    approved: bool,
) -> Result<Vec<u8>, Refusal> {
    let root = core.identity.root().envelope().encode();
    let root = root.map_err(|_| Refusal::internal())?;
    let parts = [REPLY_PROOF_DOMAIN, &request.nonce, &root];
    let proof = mac(&claim.k, &parts)?.finalize().into_bytes().into();
    let (broker_host, broker_port) = core.advertised();
    let reply = EnrolReply {
        device: device.to_string(),
        fleet: core.identity.fleet().to_owned(),
        root,
        broker_host,
        broker_port,
        mqtt_password,
        approved,
        proof,
    };
    reply.encode().map_err(|_| Refusal::internal())
}

fn mac(k: &[u8; 32], parts: &[&[u8]]) -> Result<Hmac<Sha256>, Refusal> {
    let mut mac = Hmac::<Sha256>::new_from_slice(k).map_err(|_| Refusal::internal())?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac)
}

async fn note(
    core: &Core,
    device: &DeviceId,
    severity: Severity,
    kind: &'static str,
    detail: String,
) -> Result<(), ServerError> {
    let event = NewEvent::of(device.as_str(), severity, kind, detail);
    core.store.add_event(&event).await
}
