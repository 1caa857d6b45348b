//! Against a server in a thread of the test.

use std::net::TcpListener;
use std::sync::mpsc;

use drover_trust::fixture::{Keys, signed_root};
use drover_trust::{PublicKey, Root};
use drover_wire::enrol::Access;

use super::*;
use crate::identity::Identity;

const SECRET: &str = "s3cret";

/// The fleet's root of this version, signed by its predecessors' keys too.
fn root(fleet: &'static str, version: u64) -> Envelope {
    let keys = Keys::new(fleet);
    let root = Root {
        version,
        ..keys.root_metadata(version)
    };
    signed_root(&root, &[&keys.root])
}

/// What the server makes of a request: status and body.
type Answer = Box<dyn Fn(EnrolRequest) -> (u16, Vec<u8>) + Send>;

/// A server that answers any number of requests, and its address.
fn serve(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let body = crate::testing::http_body(&mut stream, "post /v1/enroll");
            let envelope = Envelope::decode(&body).unwrap();
            let request = EnrolRequest::decode(envelope.unverified_payload()).unwrap();
            let signer = PublicKey(request.public_key);
            envelope.verify_by(Domain::Enrolment, &signer).unwrap();
            let (status, reply) = answer(request);
            crate::testing::answer(&mut stream, status, &reply);
        }
    });
    is_ready.recv().unwrap();
    address
}

fn claim() -> Claim<'static> {
    Claim {
        id: "c1",
        key: Sha256::digest(SECRET).into(),
    }
}

/// Makes the proof of a reply.
fn prove(reply: &mut EnrolReply, nonce: &[u8; 16]) {
    reply.proof = [0; 32];
    let mac = claim().mac(&reply.proven(nonce).unwrap());
    reply.proof = mac.finalize().into_bytes().into();
}

fn honest(request: &EnrolRequest, fleet: &'static str, newest: u64) -> EnrolReply {
    let proof = claim().mac(&request.proven().unwrap());
    proof.verify_slice(&request.proof).unwrap();
    let mut reply = EnrolReply {
        device: DeviceId::of(&PublicKey(request.public_key)).to_string(),
        fleet: fleet.into(),
        roots: (1..=newest)
            .map(|version| root(fleet, version).encode().unwrap())
            .collect(),
        access: Access {
            broker_host: "broker.local".into(),
            broker_port: 8883,
            certificate: vec![1],
            expires_unix_s: 90,
            renew_unix_s: 60,
            authorities: vec![vec![2]],
        },
        sent_unix_s: 1_700_000_000,
        proof: [0; 32],
    };
    prove(&mut reply, &request.nonce);
    reply
}

fn request(server: &str, data: &Path) -> Request {
    Request {
        server: server.into(),
        token: format!("c1.{SECRET}"),
        data: data.into(),
        name: "pump 7".into(),
        labels: BTreeMap::from([("site".into(), "north".into())]),
        root_pin: None,
    }
}

#[test]
fn a_device_joins_and_may_ask_again() {
    let server = serve(Box::new(|request| {
        assert_eq!(request.claim_id, "c1");
        assert_eq!(request.name, "pump 7");
        assert_eq!(request.labels["site"], "north");
        assert_ne!(request.exchange_key, request.public_key);
        (200, honest(&request, "f", 1).encode().unwrap())
    }));
    let data = tempfile::tempdir().unwrap();
    assert!(Identity::load(data.path()).unwrap().is_none());
    let mut request = request(&format!("{server}/"), data.path());
    let first = enrol(&request).unwrap();
    assert!(first.approved);
    request.root_pin = Some(TrustedRoot::pin_of(&root("f", 1)));
    assert_eq!(enrol(&request).unwrap(), first);
    let identity = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(identity.device, first.device);
    assert_eq!(identity.enrolment.access.broker_port, 8883);
    assert_eq!(identity.enrolment.time_floor_s, 1_700_000_000);
    assert_eq!(identity.enrolment.server, server);
}

#[test]
fn a_device_without_a_certificate_waits() {
    let server = serve(Box::new(|request| {
        let mut reply = honest(&request, "f", 1);
        reply.access.certificate.clear();
        prove(&mut reply, &request.nonce);
        (200, reply.encode().unwrap())
    }));
    let data = tempfile::tempdir().unwrap();
    assert!(!enrol(&request(&server, data.path())).unwrap().approved);
    assert!(Identity::load(data.path()).unwrap().is_some());
}

#[test]
fn answers_that_are_not_to_be_trusted() {
    type Alter = fn(&mut EnrolReply);
    let cases: [(Alter, &str); 5] = [
        (|r| r.proof[0] ^= 1, "claim token"),
        (
            |r| r.roots = vec![root("g", 1).encode().unwrap()],
            "claim token",
        ),
        (|r| r.access.authorities[0][0] ^= 1, "claim token"),
        (|r| r.sent_unix_s += 1, "claim token"),
        (|r| r.access.certificate.clear(), "claim token"),
    ];
    for (alter, wanted) in cases {
        let server = serve(Box::new(move |request| {
            let mut reply = honest(&request, "f", 1);
            alter(&mut reply);
            (200, reply.encode().unwrap())
        }));
        refused(&server, wanted);
    }
    let other_device = serve(Box::new(|request| {
        let mut reply = honest(&request, "f", 1);
        reply.device = "a".repeat(26);
        prove(&mut reply, &request.nonce);
        (200, reply.encode().unwrap())
    }));
    refused(&other_device, "answered for device");
    let other_fleet = serve(Box::new(|request| {
        let mut reply = honest(&request, "f", 1);
        reply.fleet = "g".into();
        prove(&mut reply, &request.nonce);
        (200, reply.encode().unwrap())
    }));
    refused(&other_fleet, "another fleet");
    let gap = serve(Box::new(|request| {
        let mut reply = honest(&request, "f", 3);
        reply.roots.remove(1);
        prove(&mut reply, &request.nonce);
        (200, reply.encode().unwrap())
    }));
    refused(&gap, "version 3 does not follow 1");
}

fn refused(server: &str, wanted: &str) {
    let data = tempfile::tempdir().unwrap();
    let error = enrol(&request(server, data.path())).unwrap_err();
    let message = crate::chain(&error);
    assert!(message.contains(wanted), "{message:?} lacks {wanted:?}");
    assert!(
        Identity::load(data.path()).unwrap().is_none(),
        "left a trace"
    );
}

#[test]
fn a_pinned_root_and_the_old_fleet_are_held() {
    let fleet = |name: &'static str, newest: u64| {
        serve(Box::new(move |request| {
            (200, honest(&request, name, newest).encode().unwrap())
        }))
    };
    let data = tempfile::tempdir().unwrap();
    let mut pinned = request(&fleet("f", 3), data.path());
    pinned.root_pin = Some([7; 32]);
    let error = enrol(&pinned).unwrap_err();
    assert!(
        crate::chain(&error).contains("none of the roots is the pinned one"),
        "{error}"
    );
    assert!(Identity::load(data.path()).unwrap().is_none());

    // Any root of the chain may be the pinned one; the newest is what counts from then on.
    pinned.root_pin = Some(TrustedRoot::pin_of(&root("f", 2)));
    enrol(&pinned).unwrap();
    let identity = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(identity.root.root().version, 3);

    let message = enrol(&request(&fleet("g", 1), data.path()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("enrolled in fleet f already"), "{message}");
    let error = enrol(&request(&fleet("f", 2), data.path())).unwrap_err();
    let message = crate::chain(&error);
    assert!(message.contains("do not lead on"), "{message}");
    enrol(&request(&fleet("f", 4), data.path())).unwrap();
    let identity = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(identity.root.root().version, 4);
}

#[test]
fn refusals_and_silence_are_told_in_plain_words() {
    let server = serve(Box::new(|_| {
        let body = br#"{"code":"conflict","message":"the token was used"}"#;
        (409, body.to_vec())
    }));
    let strange = serve(Box::new(|_| (200, b"<html>".to_vec())));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let data = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let with = |server: &str, token: &str, data: &Path| {
        let mut request = request(server, data);
        request.token = token.into();
        enrol(&request).unwrap_err().to_string()
    };
    let cases = [
        (
            with(&server, "c1.x", data.path()),
            "HTTP 409): the token was used",
        ),
        (
            with(&strange, "c1.x", data.path()),
            "does not answer like a drover server",
        ),
        (
            with(&nobody, "c1.x", data.path()),
            "is the server running there",
        ),
        (with(&server, "c1", data.path()), "ID.SECRET"),
        (
            with("fleet.local", "c1.x", data.path()),
            "start with https:// or http://",
        ),
        (with(&server, "c1.x", file.path()), "data folder"),
        (
            parse_pin("zz").unwrap_err().to_string(),
            "64 hexadecimal digits",
        ),
    ];
    for (message, wanted) in cases {
        assert!(message.contains(wanted), "{message:?} lacks {wanted:?}");
    }
    assert_eq!(parse_pin(&"0A".repeat(32)).unwrap(), [10; 32]);
}
