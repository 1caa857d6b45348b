//! Claim tokens, and devices that enrol with them.
//!
//! A token enrols one device. The device may repeat its request, because the answer may have
//! been lost. When another key shows the same token, nobody can say which of the two is the
//! thief: the new one is refused, the old one quarantined, and an operator decides. Of secrets
//! only hashes are stored.

use std::net::IpAddr;

use drover_api::{Approval, CreateTokens, Severity, Token};
use drover_trust::mutation::{Check, is_disabled};
use drover_trust::{DeviceId, Domain, Envelope, PublicKey};
use drover_wire::enrol::{EnrolReply, EnrolRequest, MAX_LABELS, MAX_TEXT_BYTES};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::http::Refusal;
use crate::operator::Actor;
use crate::state::Core;
use crate::store::{Admission, Claim, ClaimOutcome, NewDevice, NewEvent};
use crate::{ServerError, certificate, clock, random};

/// Tokens made at once at most.
const MAX_TOKENS: u32 = 1000;
/// Longest life of a token, in seconds.
const MAX_TTL_SECS: u64 = 366 * 24 * 3600;

/// Makes claim tokens.
pub(crate) async fn create_tokens(
    core: &Core,
    actor: &Actor,
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
    if let Some(rule) = &request.approve_if {
        let parts = [&rule.arch, &rule.hardware_prefix];
        let mut texts = parts.into_iter().flatten();
        let mut labels = rule.labels.iter().flat_map(|(k, v)| [k, v]);
        if rule.is_empty() || !texts.all(is_text) || !labels.all(is_text) {
            return Err(Refusal::bad(
                "approve_if: name an architecture, a serial number's beginning or labels",
            ));
        }
    }
    if let Some(device) = &request.for_device
        && DeviceId::parse(device).is_err()
    {
        return Err(Refusal::bad("for_device: give the identity of a device"));
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
            rule: request.approve_if.clone(),
            labels: request.labels.clone(),
            for_device: request.for_device.clone(),
        });
    }
    let ids: Vec<&str> = claims.iter().map(|c| c.id.as_str()).collect();
    let entry = actor.entry("claim.create", ids.join(" "));
    let entry = entry.with(&json!({
        "approval": request.approval,
        "approve_if": request.approve_if,
        "expires_unix_s": expires_unix_s,
        "for_device": request.for_device,
        "labels": request.labels,
    }));
    core.store.add_claims(&claims, &entry).await?;
    Ok(tokens)
}

/// Enrols the device that sent `body` from `address`; gives the encoded reply.
pub(crate) async fn enrol(core: &Core, body: &[u8], address: IpAddr) -> Result<Vec<u8>, Refusal> {
    let address = address.to_string();
    // Only what is wrong counts, so that nobody behind the same address is kept out.
    let may_fail = || match core.limits.claims.allows(&address) {
        true => Ok(()),
        false => Err(Refusal::too_many(
            "too many claims from this address were wrong; wait ten minutes",
        )),
    };
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
    let Some(claim) = core.store.claim(&request.claim_id).await? else {
        may_fail()?;
        return Err(unknown());
    };
    let proven = request.proven().map_err(|_| Refusal::internal())?;
    if mac(&claim.k, &proven)?
        .verify_slice(&request.proof)
        .is_err()
    {
        may_fail()?;
        let detail = format!("wrong secret for claim {}", claim.id);
        note(core, &device, Severity::Security, "claim-refused", detail).await?;
        return Err(unknown());
    }
    let is_others = claim
        .for_device
        .as_deref()
        .is_some_and(|d| d != device.as_str());
    if is_others && !is_disabled(Check::Claim) {
        may_fail()?;
        let detail = format!("claim {} is for another device", claim.id);
        note(core, &device, Severity::Security, "claim-refused", detail).await?;
        return Err(unknown());
    }
    if core.store.admission(device.as_str()).await? == Admission::Revoked {
        return Err(Refusal::forbidden(
            "this device was revoked and stays out; give it a new key and a new token",
        ));
    }
    let new = NewDevice {
        id: device.to_string(),
        public_key: key,
        nonce: request.nonce,
        exchange_key: request.exchange_key,
        name: request.name.clone(),
        hardware: request.hardware.clone(),
        labels: request.labels.clone(),
        arch: request.arch.clone(),
        agent_version: request.agent_version.clone(),
        now_unix_s: clock::unix_s(),
    };
    let approve = is_approved(&claim, &request);
    match core.store.use_claim(&claim, &new, approve).await? {
        ClaimOutcome::Enrolled { approved } => {
            tracing::info!(%device, approved, "device enrolled");
            let detail = match approved {
                true => "takes part",
                false => "waits for approval",
            };
            note(core, &device, Severity::Info, "enrolled", detail.into()).await?;
        }
        ClaimOutcome::Repeated { approved } => tracing::info!(%device, approved, "answered again"),
        ClaimOutcome::Taken { by } => {
            may_fail()?;
            let detail = format!("claim {} was used by device {by} before", claim.id);
            note(core, &device, Severity::Security, "claim-reused", detail).await?;
            let reason = format!(
                "its claim {} was shown by device {device} as well",
                claim.id
            );
            certificate::quarantine(core, &by, "claim-reused", &reason).await?;
            return Err(Refusal::conflict(
                "the claim token has been used by another device; each token enrols one device",
            ));
        }
        ClaimOutcome::Expired => {
            return Err(Refusal::forbidden(
                "the claim token has expired; ask the operator for a new one",
            ));
        }
    }
    core.replan.notify_one();
    reply(core, &claim, &request, &device).await
}

/// Whether a device takes part without an operator: the token's rule decides, if it has one.
fn is_approved(claim: &Claim, request: &EnrolRequest) -> bool {
    let Some(rule) = &claim.rule else {
        return claim.auto_approve;
    };
    let mut labels = request.labels.clone();
    labels.extend(claim.labels.clone());
    rule.matches(&request.arch, &request.hardware, &labels)
}

/// Lets a waiting device take part.
pub(crate) async fn approve(core: &Core, actor: &Actor, device: &str) -> Result<(), ServerError> {
    let entry = actor.entry("device.approve", device);
    if core.store.approve(device, &entry).await? {
        let detail = format!("approved by {}", actor.who.account);
        let event = NewEvent::of(device, Severity::Info, "approved", detail);
        core.store.add_event(&event).await?;
        // It is no longer in the list if it was quarantined.
        certificate::publish_revocations(core).await?;
        core.replan.notify_one();
    }
    Ok(())
}

async fn reply(
    core: &Core,
    claim: &Claim,
    request: &EnrolRequest,
    device: &DeviceId,
) -> Result<Vec<u8>, Refusal> {
    let admission = core.store.admission(device.as_str()).await?;
    let key = PublicKey(request.public_key);
    let mut reply = EnrolReply {
        device: device.to_string(),
        fleet: core.identity.fleet().to_owned(),
        roots: core.roots.chain(0),
        access: certificate::access(core, device, key, admission).await?,
        sent_unix_s: clock::unix_s(),
        proof: [0; 32],
    };
    let proven = reply.proven(&request.nonce);
    let proven = proven.map_err(|_| Refusal::internal())?;
    reply.proof = mac(&claim.k, &proven)?.finalize().into_bytes().into();
    reply.encode().map_err(|_| Refusal::internal())
}

fn mac(k: &[u8; 32], bytes: &[u8]) -> Result<Hmac<Sha256>, Refusal> {
    let mut mac = Hmac::<Sha256>::new_from_slice(k).map_err(|_| Refusal::internal())?;
    mac.update(bytes);
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
