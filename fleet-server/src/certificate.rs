//! Certificates of devices and operators: issuing, renewing and taking them back.
//!
//! A renewal is asked for with the device's key and answered with the fleet's, so that it
//! needs no TLS that could be verified: a device whose authorities are years old still gets
//! through. A request that somebody plays again yields a certificate of the same key, which
//! is of use to its holder alone.

use std::sync::Arc;
use std::time::Duration;

use drover_api::{CertifyOperator, OperatorCertificate, Severity};
use drover_trust::{DeviceId, Domain, Envelope, PublicKey};
use drover_wire::enrol::{Access, CertificateGrant, CertificateReply, CertificateRequest};
use serde_json::json;

use crate::http::Refusal;
use crate::operator::{Actor, CERTIFICATE_PREFIX};
use crate::rate::Rate;
use crate::state::Core;
use crate::store::{Admission, Kind, NewEvent};
use crate::tls::{Issue, LIFE_SECS};
use crate::{ServerError, clock};

/// How long an ended certificate is remembered, in seconds: a clock that was set right may
/// have been wrong.
const KEPT_SECS: u64 = 366 * 24 * 3600;
/// Longest reason for a revocation, in bytes.
const MAX_REASON_BYTES: usize = 256;

/// Limits what strangers and devices may try.
pub(crate) struct Limits {
    /// Wrong or used claims, by address.
    pub(crate) claims: Rate,
    /// Renewals, by device.
    pub(crate) renewals: Rate,
    /// Assignments that replace one which this server did not sign, by device.
    pub(crate) foreign: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        let window = Duration::from_secs(600);
        Self {
            claims: Rate::new(20, window),
            renewals: Rate::new(20, window),
            foreign: Rate::new(3, window),
        }
    }
}

/// How a device reaches the broker; with a new certificate when it takes part.
pub(crate) async fn access(
    core: &Core,
    device: &DeviceId,
    key: PublicKey,
    admission: Admission,
) -> Result<Access, ServerError> {
    let (broker_host, broker_port) = core.advertised();
    let mut access = Access {
        broker_host,
        broker_port,
        certificate: Vec::new(),
        expires_unix_s: 0,
        renew_unix_s: 0,
        authorities: core.broker_authorities.clone(),
    };
    if admission == Admission::Welcome {
        let now_unix_s = clock::unix_s();
        let issued = core.authority.issue(&Issue {
            kind: Kind::Device,
            subject: device.as_str(),
            key,
            names: vec![device.to_string()],
            now_unix_s,
            life_secs: LIFE_SECS,
        })?;
        core.store.add_certificate(&issued.row).await?;
        access.certificate = issued.der.to_vec();
        access.expires_unix_s = issued.row.not_after_unix_s;
        access.renew_unix_s = now_unix_s.saturating_add(LIFE_SECS / 3 * 2);
    }
    Ok(access)
}

/// Answers a request for a new certificate; gives the encoded reply.
pub(crate) async fn renew(core: &Core, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let not_one = |_| Refusal::bad("this is not a certificate request");
    let envelope = Envelope::decode(body).map_err(not_one)?;
    let request = CertificateRequest::decode(envelope.unverified_payload())
        .map_err(|e| Refusal::bad(format!("this is not a certificate request: {e}")))?;
    let unknown = || Refusal::forbidden("this device is not known here; enrol it with a token");
    let device = DeviceId::parse(&request.device).map_err(|_| unknown())?;
    let key = core.store.device_key(device.as_str()).await?;
    let key = key.ok_or_else(unknown)?.public_key;
    envelope
        .verify_by(Domain::CertificateRequest, &key)
        .map_err(|_| Refusal::refused("the request is not signed by the device's own key"))?;
    if !core.limits.renewals.allows(device.as_str()) {
        return Err(Refusal::too_many(
            "this device asks for too many certificates",
        ));
    }
    let admission = core.store.admission(device.as_str()).await?;
    match admission {
        Admission::Welcome | Admission::Waiting => {}
        refused => {
            return Err(Refusal::forbidden(format!(
                "this device gets no certificate: {}",
                refused.why()
            )));
        }
    }
    let grant = CertificateGrant {
        device: device.to_string(),
        nonce: request.nonce,
        access: access(core, &device, key, admission).await?,
        sent_unix_s: clock::unix_s(),
    };
    let grant = grant.encode().map_err(|_| Refusal::internal())?;
    let reply = CertificateReply {
        roots: core.roots.chain(request.root_version),
        grant: core
            .identity
            .sign_as_fleet(Domain::CertificateGrant, grant)?,
    };
    tracing::info!(%device, "device got a certificate");
    reply.encode().map_err(|_| Refusal::internal())
}

/// Takes a device's certificates back for ever and ends its connection.
pub(crate) async fn revoke(
    core: &Core,
    actor: &Actor,
    device: &str,
    reason: &str,
) -> Result<(), Refusal> {
    let is_text = !reason.trim().is_empty() && !reason.chars().any(char::is_control);
    if !is_text || reason.len() > MAX_REASON_BYTES {
        return Err(Refusal::bad(format!(
            "reason: say why, in at most {MAX_REASON_BYTES} bytes without control characters"
        )));
    }
    let entry = actor.entry("device.revoke", device);
    let entry = entry.with(&json!({ "reason": reason }));
    core.store
        .revoke_device(device, reason, clock::unix_s(), &entry)
        .await?;
    let detail = format!("revoked by {}: {reason}", actor.who.account);
    let event = NewEvent::of(device, Severity::Security, "revoked", detail);
    core.store.add_event(&event).await?;
    // The list is written before the session ends, so that the device does not get back in
    // with a broker that reads it. A list that cannot be written must not keep it connected.
    let published = publish_revocations(core).await;
    core.broker.cut(device).await?;
    core.replan.notify_one();
    Ok(published?)
}

/// Certifies an operator's own key.
pub(crate) async fn certify_operator(
    core: &Core,
    actor: &Actor,
    request: &CertifyOperator,
) -> Result<OperatorCertificate, Refusal> {
    // The role is asked of the account whenever the certificate is shown.
    if core.store.operator(&request.name).await?.is_none() {
        return Err(Refusal::not_found(format!(
            "no account is {:?}; make it with `drover operator add`",
            request.name
        )));
    }
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(request.public_key.as_bytes());
    let key = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    let key = key.map(PublicKey).filter(|key| key.check().is_ok());
    let key = key.ok_or_else(|| Refusal::bad("public_key: 64 digits of an ed25519 key"))?;
    let subject = format!("{CERTIFICATE_PREFIX}{}", request.name);
    let issued = core.authority.issue(&Issue {
        kind: Kind::Operator,
        subject: &subject,
        key,
        names: Vec::new(),
        now_unix_s: clock::unix_s(),
        life_secs: LIFE_SECS,
    })?;
    let entry = actor.entry("operator.certificate", request.name.clone());
    let entry = entry.with(&json!({
        "expires_unix_s": issued.row.not_after_unix_s,
        "public_key": request.public_key,
    }));
    core.store.add_certificate_for(&issued.row, &entry).await?;
    Ok(OperatorCertificate {
        certificate: issued.pem,
        expires_unix_s: issued.row.not_after_unix_s,
    })
}

/// Takes back all certificates of an operator; says how many were valid.
pub(crate) async fn revoke_operator(
    core: &Core,
    actor: &Actor,
    name: &str,
) -> Result<u64, ServerError> {
    let subject = format!("{CERTIFICATE_PREFIX}{name}");
    let entry = actor.entry("operator.certificate.revoke", name);
    let revoked = core
        .store
        .revoke_certificates(&subject, clock::unix_s(), &entry)
        .await?;
    publish_revocations(core).await?;
    Ok(revoked)
}

/// Keeps a device out until an operator approves it again: its identity is in doubt.
pub(crate) async fn quarantine(
    core: &Core,
    device: &str,
    kind: &'static str,
    reason: &str,
) -> Result<(), ServerError> {
    if core.store.quarantine(device, reason).await? {
        let event = NewEvent::of(device, Severity::Security, kind, reason.to_owned());
        core.store.add_event(&event).await?;
        core.replan.notify_one();
        if let Err(error) = publish_revocations(core).await {
            tracing::error!(%error, "the revocation list is not written");
        }
    }
    core.broker.cut(device).await
}

/// Writes the revocation list anew, for brokers that read it.
pub(crate) async fn publish_revocations(core: &Core) -> Result<(), ServerError> {
    let list = revocation_list(core).await?;
    core.data.publish("crl.pem", &list)?;
    core.broker.revoked(&list)
}

/// The revocation list of now, as PEM.
pub(crate) async fn revocation_list(core: &Core) -> Result<String, ServerError> {
    let now_unix_s = clock::unix_s();
    let revoked = core.store.revoked_serials(now_unix_s).await?;
    core.authority.revocation_list(&revoked, now_unix_s)
}

/// Says once an hour that the revocation list is current, for brokers that were away, and
/// forgets what has ended long ago.
pub(crate) async fn keep_revocations(core: Arc<Core>) {
    loop {
        let before = clock::unix_s().saturating_sub(KEPT_SECS);
        if let Err(error) = core.store.forget_certificates(before).await {
            tracing::error!(%error, "certificates that have ended are not forgotten");
        }
        if let Err(error) = publish_revocations(&core).await {
            tracing::error!(%error, "the revocation list is not written");
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}
