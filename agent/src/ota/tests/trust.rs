//! New roots, confidential bundles and a move to another fleet, as the driver carries them out.

use std::sync::Arc;
use std::time::Duration;

use drover_trust::fixture::{Keys, key, signed_root};
use drover_trust::{Domain, Envelope, Root, TrustedRoot, Voucher};
use drover_wire::chunk::Chunk;
use drover_wire::enrol::{Access, EnrolReply, EnrolRequest};
use drover_wire::message::{Down, Phase, RootChain, Up};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::super::{Input, Outgoing};
use super::world::{NOW, PATIENCE, World, bundle, device, keys, member, open};
use crate::exchange::tests::seal;
use crate::identity::Enrolment;
use crate::renew::Renewed;

/// Root 2, in which another release key follows the first.
fn successor() -> Vec<u8> {
    let mut keys = keys();
    keys.release = key(50);
    let root: Root = keys.root_metadata(2);
    signed_root(&root, &[&keys.root]).encode().unwrap()
}

#[tokio::test]
async fn what_is_committed_runs_on_when_its_release_key_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let first = bundle(1);
    let digest = first.digest;
    let mut world = World::start(open(folder.path()));
    world.assign(1, first);
    world.input(Input::Connected);
    world
        .serve_until("commit", |w| w.is_committed(digest))
        .await;
    let chain = RootChain {
        roots: vec![successor()],
    };
    let trust = world.driver.as_ref().unwrap().trust();
    assert_eq!(trust.root().root().version, 1);
    world.input(Input::Roots {
        bytes: chain.encode().unwrap(),
        permit: Arc::clone(&world.permits).try_acquire_owned().unwrap(),
    });
    world
        .serve_until("the new root", |_| trust.root().root().version == 2)
        .await;
    world.stop();
    drop(world);

    let mut world = World::start(open(folder.path()));
    assert_eq!(world.calls(), [format!("committed {:02x}", digest[0])]);
    let version = world.driver.as_ref().unwrap().trust().root().root().version;
    assert_eq!(version, 2, "the newest root is kept");
    world.stop();
}

#[tokio::test]
async fn a_confidential_bundle_is_decrypted_and_its_key_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let secret = bundle(1);
    let digest = secret.digest;
    let mut world = World::start(open(folder.path()));
    world.content_key = Some([77; 32]);
    world.assign(1, secret);
    // The device has the manifest, then its power goes.
    world.input(Input::Connected);
    let has_manifest = |w: &World| {
        let phase = w.snapshot().state.phase;
        matches!(phase, Phase::Fetching { total: 1.., .. })
    };
    let secret = world.bundles.pop().unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !has_manifest(&world) {
        let tick = tokio::time::timeout(Duration::from_millis(20), world.ends.outgoing.recv());
        match tick.await {
            Ok(Some(Outgoing::Publish(Up::WantManifest { .. }))) => {
                let envelope = secret.envelope.clone();
                world.say(Down::Manifest { digest, envelope });
            }
            Ok(Some(Outgoing::Publish(Up::Hello(hello)))) => world.answer(Up::Hello(hello)),
            _ => {}
        }
        let now = tokio::time::Instant::now();
        assert!(now < deadline, "{:?}", world.snapshot());
    }
    let desired = world.desired.clone();
    world.stop();
    drop(world);

    // What comes before the key has come again cannot be read; what somebody else encrypted
    // never can.
    let mut world = World::start(open(folder.path()));
    world.content_key = Some([77; 32]);
    world.desired = desired;
    world.bundles.push(secret);
    world.input(Input::Connected);
    let asked = std::cell::Cell::new(0);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !world.is_committed(digest) {
        let tick = tokio::time::timeout(Duration::from_millis(20), world.ends.outgoing.recv());
        if let Ok(Some(Outgoing::Publish(message))) = tick.await {
            if matches!(message, Up::WantManifest { .. }) {
                asked.set(asked.get() + 1);
            }
            world.answer(message);
            if asked.get() == 1 {
                asked.set(2);
                let foreign = seal(&[78; 32], &digest, 0, &[1; 4096]);
                let bytes = foreign.as_slice();
                world.input(Input::Chunk {
                    digest,
                    bytes: Chunk { index: 0, bytes }.encode(),
                    permit: Arc::clone(&world.permits).try_acquire_owned().unwrap(),
                });
            }
        }
        let now = tokio::time::Instant::now();
        assert!(now < deadline, "{:?}", world.snapshot());
    }
    assert!(asked.get() > 0, "the key was not asked for again");
    assert!(world.snapshot().undecryptable > 0);
    world.stop();
}

#[tokio::test]
async fn the_time_of_the_enrolment_is_a_floor() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = member(data.path());
    let enrolled = Enrolment {
        time_floor_s: NOW + 5000,
        ..(*member.current()).clone()
    };
    member.join(enrolled.clone()).unwrap();
    let now_s = |world: &World| world.driver.as_ref().unwrap().trust().now_s();
    let mut world = World::start_as(open(folder.path()), Arc::clone(&member));
    let reached = |w: &World| now_s(w) >= NOW + 5000;
    world
        .serve_until("the time of the enrolment", reached)
        .await;

    // A certificate brings a later one, and a restart keeps it.
    world.input(Input::Granted(Renewed {
        enrolment: Enrolment {
            time_floor_s: NOW + 9000,
            ..enrolled
        },
        granted: true,
        roots: Vec::new(),
    }));
    let reached = |w: &World| now_s(w) >= NOW + 9000;
    world
        .serve_until("the time of the certificate", reached)
        .await;
    world.stop();
    drop(world);
    let mut world = World::start_as(open(folder.path()), member);
    assert!(now_s(&world) >= NOW + 9000);
    world.stop();
}

/// A server of the fleet "new" that takes whoever asks with the claim `c.s`, once.
fn new_fleet() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let body = crate::testing::http_body(&mut stream, "post /v1/enroll");
        let envelope = Envelope::decode(&body).unwrap();
        let request = EnrolRequest::decode(envelope.unverified_payload()).unwrap();
        let mut reply = EnrolReply {
            device: device().as_str().into(),
            fleet: "new".into(),
            roots: vec![Keys::new("new").envelope().encode().unwrap()],
            access: Access {
                broker_host: "broker.new".into(),
                broker_port: 8883,
                certificate: vec![1],
                expires_unix_s: u64::MAX,
                renew_unix_s: u64::MAX,
                authorities: Vec::new(),
            },
            sent_unix_s: NOW,
            proof: [0; 32],
        };
        let mac = Hmac::<Sha256>::new_from_slice(&Sha256::digest("s")).unwrap();
        let mac = mac.chain_update(reply.proven(&request.nonce).unwrap());
        reply.proof = mac.finalize().into_bytes().into();
        crate::testing::answer(&mut stream, 200, &reply.encode().unwrap());
    });
    address
}

#[tokio::test]
async fn a_voucher_moves_the_device_and_what_runs_runs_on() {
    let data = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = member(data.path());
    let changes = member.watch();
    let first = bundle(1);
    let digest = first.digest;
    let mut world = World::start_as(open(folder.path()), Arc::clone(&member));
    world.assign(1, first);
    world.input(Input::Connected);
    world
        .serve_until("commit", |w| w.is_committed(digest))
        .await;
    // The state shows before its effect does.
    let active = format!("activate {:02x}", digest[0]);
    world
        .serve_until("activation", |w| w.calls().contains(&active))
        .await;
    let calls = world.calls();

    let voucher = Voucher {
        from_fleet: "test".into(),
        device: device(),
        to_fleet: "new".into(),
        to_root: TrustedRoot::pin_of(&Keys::new("new").envelope()),
        server: new_fleet(),
        claim: "c.s".into(),
        issued_unix_s: NOW,
        expires_unix_s: NOW + 1000,
    };
    let transfer = |signer| {
        let payload = voucher.encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Voucher, signer);
        Down::Transfer {
            voucher: envelope.encode().unwrap(),
        }
    };
    // The fleet's online key gives nothing away.
    let refused = world.snapshot().counters.refused;
    let keys = keys();
    world.say(transfer(&keys.fleet));
    world
        .serve_until("the refusal", |w| w.snapshot().counters.refused > refused)
        .await;
    world.say(transfer(&keys.root));
    world
        .serve_until("the move", |_| changes.has_changed().unwrap())
        .await;
    world
        .serve_until("the reset", |w| w.snapshot().state.assignment == 0)
        .await;
    assert_eq!(member.current().fleet, "new");
    let state = world.snapshot().state;
    assert_eq!(state.active.unwrap().digest, digest);
    assert_eq!(
        world.snapshot().outbox_records,
        0,
        "the old owner's records"
    );
    // Told to load what runs already, the host does nothing.
    let again = ["drop 00".to_owned(), format!("committed {:02x}", digest[0])];
    world
        .serve_until("the resumption", |w| w.calls()[calls.len()..] == again)
        .await;
    world.stop();
}
