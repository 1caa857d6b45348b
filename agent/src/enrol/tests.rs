//! Against a server in a thread of the test.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

use drover_trust::{PublicKey, Role, RoleKeys, Root};

use super::*;
use crate::identity::Identity;

const SECRET: &str = "s3cret";

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn root(fleet: &str) -> Envelope {
    let role = |role, n| RoleKeys {
        role,
        threshold: 1,
        keys: vec![key(n).public()],
    };
    let root = Root {
        version: 1,
        fleet: fleet.into(),
        created_unix_s: 0,
        roles: vec![
            role(Role::Root, 1),
            role(Role::Release, 2),
            role(Role::Fleet, 3),
        ],
    };
    Envelope::signed(root.encode().unwrap(), Domain::Root, &key(1))
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
            let mut bytes = Vec::new();
            let body = loop {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).unwrap();
                bytes.extend_from_slice(&part[..n]);
                if let Some(body) = body_of(&bytes) {
                    break body;
                }
                assert!(n > 0, "the request ends early");
            };
            let envelope = Envelope::decode(&body).unwrap();
            let request = EnrolRequest::decode(envelope.unverified_payload()).unwrap();
            let signer = PublicKey(request.public_key);
            envelope.verify_by(Domain::Enrolment, &signer).unwrap();
            let (status, reply) = answer(request);
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                reply.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    is_ready.recv().unwrap();
    address
}

/// The body, once it is there as a whole.
fn body_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    assert!(head.starts_with("post /v1/enroll"), "{head}");
    let length = head.split("content-length: ").nth(1)?;
    let length: usize = length.split("\r\n").next()?.parse().ok()?;
    let body = &bytes[end + 4..];
    (body.len() >= length).then(|| body.to_vec())
}

fn claim() -> Claim<'static> {
    Claim {
        id: "c1",
        key: Sha256::digest(SECRET).into(),
    }
}

fn honest(request: &EnrolRequest, fleet: &str) -> EnrolReply {
    let proof = claim().mac([REQUEST_PROOF_DOMAIN, &request.public_key, &request.nonce]);
    proof.verify_slice(&request.proof).unwrap();
    let root = root(fleet).encode().unwrap();
    let proof = claim().mac([REPLY_PROOF_DOMAIN, &request.nonce, &root]);
    EnrolReply {
        device: DeviceId::of(&PublicKey(request.public_key)).to_string(),
        fleet: fleet.into(),
        root,
        broker_host: "broker.local".into(),
        broker_port: 1883,
        mqtt_password: "pw".into(),
        approved: true,
        proof: proof.finalize().into_bytes().into(),
    }
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
        (200, honest(&request, "f").encode().unwrap())
    }));
    let data = tempfile::tempdir().unwrap();
    assert!(Identity::load(data.path()).unwrap().is_none());
    let mut request = request(&format!("{server}/"), data.path());
    let first = enrol(&request).unwrap();
    request.root_pin = Some(TrustedRoot::pin_of(&root("f")));
    assert_eq!(enrol(&request).unwrap(), first);
    let identity = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(identity.device, first.device);
    assert_eq!(identity.enrolment.broker_port, 1883);
    assert_eq!(identity.enrolment.server, server);
    assert!(
        !format!("{:?}", identity.enrolment).contains("pw"),
        "shows the password"
    );
}

#[test]
fn answers_that_are_not_to_be_trusted() {
    type Alter = fn(&mut EnrolReply);
    let cases: [(Alter, &str); 3] = [
        (|r| r.proof[0] ^= 1, "claim token"),
        (|r| r.root = root("other").encode().unwrap(), "claim token"),
        (|r| r.device = "a".repeat(26), "answered for device"),
    ];
    for (alter, wanted) in cases {
        let server = serve(Box::new(move |request| {
            let mut reply = honest(&request, "f");
            alter(&mut reply);
            (200, reply.encode().unwrap())
        }));
        let data = tempfile::tempdir().unwrap();
        let message = enrol(&request(&server, data.path()))
            .unwrap_err()
            .to_string();
        assert!(message.contains(wanted), "{message:?} lacks {wanted:?}");
        assert!(
            Identity::load(data.path()).unwrap().is_none(),
            "left a trace"
        );
    }
}

#[test]
fn a_pinned_root_and_the_old_fleet_are_held() {
    let fleet = |name: &'static str| {
        serve(Box::new(move |request| {
            (200, honest(&request, name).encode().unwrap())
        }))
    };
    let data = tempfile::tempdir().unwrap();
    let mut pinned = request(&fleet("f"), data.path());
    pinned.root_pin = Some([7; 32]);
    let error = enrol(&pinned).unwrap_err();
    assert!(
        crate::chain(&error).contains("not the pinned one"),
        "{error}"
    );
    assert!(Identity::load(data.path()).unwrap().is_none());

    enrol(&request(&fleet("f"), data.path())).unwrap();
    let message = enrol(&request(&fleet("g"), data.path()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("enrolled in fleet f already"), "{message}");
    let identity = Identity::load(data.path()).unwrap().unwrap();
    assert_eq!(identity.enrolment.fleet, "f");
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
            "start with http://",
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
