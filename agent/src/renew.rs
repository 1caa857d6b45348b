//! A new certificate for the device's key, over HTTP, and the roots that were missed.
//!
//! The request is signed by the device, the answer by the fleet role of the newest root,
//! which is reached from the one that the device trusts: neither needs a connection that is
//! verified, nor a clock. So a device that was away for years gets through. Nothing is kept
//! here; the caller stores what it gets before it uses it.

use drover_trust::{DeviceId, Domain, Envelope, Role, SecretKey, TrustError, TrustedRoot};
use drover_wire::enrol::{CertificateGrant, CertificateReply, CertificateRequest, MAX_REPLY_BYTES};
use drover_wire::message::WireError;

use crate::http::{self, HttpError};
use crate::identity::Enrolment;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// There is no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// The answer is not one of a Drover server of this version.
    #[error("the server does not answer like a drover server of this version")]
    Answer(#[source] WireError),
    /// The fleet did not sign the answer.
    #[error("the answer is not signed by the fleet")]
    Signature(#[source] TrustError),
    /// The fleet signed it for another device, or for another request.
    #[error("the answer is for another device or another request")]
    Other,
    /// The answer could not be kept.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// What to hold from now on. The certificate is the former one where none was granted.
    pub enrolment: Enrolment,
    /// Whether a certificate was granted; otherwise the device waits for approval.
    pub granted: bool,
    /// Successors of the root that was trusted, as they came.
    pub roots: Vec<Vec<u8>>,
}

/// Asks the server of `enrolment`; `root` is the newest that the device trusts.
///
/// # Errors
/// [`RenewError`]; what was held before still holds.
pub fn renew(
    key: &SecretKey,
    enrolment: &Enrolment,
    root: &TrustedRoot,
) -> Result<Renewed, RenewError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(RenewError::Random)?;
    let device = DeviceId::of(&key.public());
    let request = CertificateRequest {
        device: device.as_str().to_owned(),
        nonce,
        root_version: root.root().version,
    };
    let payload = request.encode().map_err(RenewError::Answer)?;
    let signed = Envelope::signed(payload, Domain::CertificateRequest, key);
    let bytes = signed.encode().map_err(RenewError::Signature)?;
    let server = http::server(&enrolment.server)?;
    let body = http::post(server, "/v1/certificate", &bytes, MAX_REPLY_BYTES)?;
    let reply = CertificateReply::decode(&body).map_err(RenewError::Answer)?;
    accept(&request, enrolment, root, reply)
}

fn accept(
    request: &CertificateRequest,
    enrolment: &Enrolment,
    root: &TrustedRoot,
    reply: CertificateReply,
) -> Result<Renewed, RenewError> {
    let chain: Result<Vec<Envelope>, TrustError> =
        reply.roots.iter().map(|r| Envelope::decode(r)).collect();
    // Where the chain breaks off, whoever signed the grant decides.
    let (newest, stopped) = root.walk(chain.map_err(RenewError::Signature)?);
    let envelope = Envelope::decode(&reply.grant).map_err(RenewError::Signature)?;
    let payload = newest
        .verify(Role::Fleet, Domain::CertificateGrant, &envelope)
        .map_err(|error| RenewError::Signature(stopped.unwrap_or(error)))?;
    let grant = CertificateGrant::decode(payload).map_err(RenewError::Answer)?;
    if grant.device != request.device || grant.nonce != request.nonce {
        return Err(RenewError::Other);
    }
    let granted = !grant.access.certificate.is_empty();
    let mut renewed = Enrolment {
        root: newest.envelope().encode().map_err(RenewError::Signature)?,
        access: grant.access,
        time_floor_s: grant.sent_unix_s,
        ..enrolment.clone()
    };
    if !granted {
        let former = &enrolment.access;
        renewed.access.certificate = former.certificate.clone();
        renewed.access.expires_unix_s = former.expires_unix_s;
        renewed.access.renew_unix_s = former.renew_unix_s;
    }
    Ok(Renewed {
        enrolment: renewed,
        granted,
        roots: reply.roots,
    })
}

#[cfg(test)]
mod tests {
    use drover_trust::fixture::{Keys, key};
    use drover_wire::enrol::Access;

    use super::*;

    fn access(certificate: &[u8]) -> Access {
        Access {
            broker_host: "h".into(),
            broker_port: 1,
            certificate: certificate.to_vec(),
            expires_unix_s: 20,
            renew_unix_s: 10,
            authorities: vec![vec![3]],
        }
    }

    fn request() -> CertificateRequest {
        CertificateRequest {
            device: "d".into(),
            nonce: [5; 16],
            root_version: 1,
        }
    }

    fn reply(certificate: &[u8], device: &str, signer: &SecretKey) -> CertificateReply {
        let grant = CertificateGrant {
            device: device.into(),
            nonce: [5; 16],
            access: access(certificate),
            sent_unix_s: 77,
        };
        let payload = grant.encode().unwrap();
        let grant = Envelope::signed(payload, Domain::CertificateGrant, signer);
        CertificateReply {
            roots: Vec::new(),
            grant: grant.encode().unwrap(),
        }
    }

    #[test]
    fn only_the_fleet_grants_and_only_what_was_asked_for() {
        let keys = Keys::new("f");
        let root = keys.trusted();
        let held = Enrolment {
            server: "s".into(),
            fleet: "f".into(),
            root: root.envelope().encode().unwrap(),
            access: access(&[1]),
            time_floor_s: 1,
        };
        let accept = |reply| accept(&request(), &held, &root, reply);
        let renewed = accept(reply(&[9], "d", &keys.fleet)).unwrap();
        assert!(renewed.granted);
        assert_eq!(renewed.enrolment.access, access(&[9]));
        assert_eq!(renewed.enrolment.time_floor_s, 77);
        let waiting = accept(reply(&[], "d", &keys.fleet)).unwrap();
        assert!(!waiting.granted, "waits for approval");
        assert_eq!(waiting.enrolment.access.certificate, [1]);
        for forger in [&keys.catalog, &keys.release, &key(99)] {
            let error = accept(reply(&[9], "d", forger)).unwrap_err();
            assert!(matches!(error, RenewError::Signature(_)), "{error}");
        }
        let other = accept(reply(&[9], "e", &keys.fleet)).unwrap_err();
        assert!(matches!(other, RenewError::Other), "{other}");
        let mut request = request();
        request.nonce = [6; 16];
        let replayed = super::accept(&request, &held, &root, reply(&[9], "d", &keys.fleet));
        assert!(matches!(replayed.unwrap_err(), RenewError::Other));
    }
}
