//! The REST interface against a running server: who gets in, what is refused, and that
//! refusals leave nothing behind.

use crate::support::{Fleet, auto, bundle, enrolment, key, mac, post, signed_bundle};
use drover_api::{ErrorBody, ErrorCode};
use drover_trust::{DeviceId, Envelope, TrustedRoot};
use drover_wire::enrol::EnrolReply;

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operators_token_opens() {
    let fleet = Fleet::start().await;
    let stranger = fleet.client("guess", None);
    let refused = tokio::task::spawn_blocking(move || {
        assert!(stranger.health().unwrap().ok);
        stranger.devices().unwrap_err()
    });
    let refused = refused.await.unwrap();
    assert_eq!(refused.code(), Some(ErrorCode::Unauthorized));
    assert!(refused.to_string().contains("operator.token"), "{refused}");
    let status = fleet.operate(|c| c.status()).await.unwrap();
    assert_eq!((status.fleet.as_str(), status.devices), ("test", 0));
    let missing = fleet.operate(|c| c.rollout("../r1")).await.unwrap_err();
    assert_eq!(missing.code(), Some(ErrorCode::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_that_are_not_right_are_refused_with_a_reason() {
    let fleet = Fleet::start().await;
    let publish = async |bytes: Vec<u8>| fleet.operate(move |c| c.publish_release(&bytes)).await;

    let one_key = bundle(1, &[2]).encode().unwrap();
    let mut tampered = signed_bundle(1).encode().unwrap();
    *tampered.last_mut().unwrap() ^= 1;
    let mut short = signed_bundle(1).encode().unwrap();
    short.pop();
    for (bytes, why) in [
        (b"PK\x03\x04 not a bundle".to_vec(), "not a drover bundle"),
        (one_key, "1 of 2 needed release signatures"),
        (tampered, "differs from what was signed"),
        (short, "bytes, the manifest names"),
    ] {
        let error = publish(bytes).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Refused), "{error}");
        assert!(error.to_string().contains(why), "{error} lacks {why:?}");
    }
    assert!(fleet.operate(|c| c.releases()).await.unwrap().is_empty());
    assert!(fleet.bundles().is_empty(), "a refused bundle was stored");

    let second = signed_bundle(2).encode().unwrap();
    let release = publish(second.clone()).await.unwrap();
    assert_eq!((release.counter, release.chunks), (2, 10));
    // Publishing the same again is no error, an older counter is one.
    assert_eq!(publish(second).await.unwrap().digest, release.digest);
    let older = publish(signed_bundle(1).encode().unwrap())
        .await
        .unwrap_err();
    assert_eq!(older.code(), Some(ErrorCode::Conflict));
    assert!(
        older.to_string().contains("counter of at least 3"),
        "{older}"
    );
    assert_eq!(fleet.bundles().len(), 1);
    let found = fleet.operate(|c| c.release("pump@1.2")).await.unwrap();
    assert_eq!(found.digest, release.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_enrols_one_device() {
    let fleet = Fleet::start().await;
    let url = format!("{}/v1/enroll", fleet.url());
    let token = fleet.tokens(auto(1)).await.remove(0);
    let enrol = async |body| post(url.clone(), None, body).await;

    // A stranger who guesses the secret.
    let (id, _) = token.split_once('.').unwrap();
    let (guessed, _, _) = enrolment(&key(30), &format!("{id}.guess"), "x");
    assert_eq!(enrol(guessed).await.0, 403);

    let (body, k, nonce) = enrolment(&key(30), &token, "pump-1");
    let (status, reply) = enrol(body.clone()).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
    let reply = EnrolReply::decode(&reply).unwrap();
    assert_eq!(reply.device, DeviceId::of(&key(30).public()).as_str());
    assert!(!reply.access.certificate.is_empty());
    assert_eq!(reply.proof, mac(&k, &reply.proven(&nonce).unwrap()));
    let root = Envelope::decode(&reply.roots[0]).unwrap();
    assert_eq!(
        TrustedRoot::pin_of(&root),
        TrustedRoot::pin_of(fleet.root.envelope())
    );

    // The answer was lost: the same device asks again.
    let (status, again) = enrol(body).await;
    let again = EnrolReply::decode(&again).unwrap();
    assert_eq!((status, &again.device), (200, &reply.device));

    // Another device shows the same token.
    let (stolen, _, _) = enrolment(&key(31), &token, "y");
    let (status, body) = enrol(stolen).await;
    let body: ErrorBody = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, body.code), (409, ErrorCode::Conflict));
    assert!(body.request_id.is_some());
    let kinds = fleet.operate(|c| c.events(None, 10)).await.unwrap();
    let kinds: Vec<&str> = kinds.iter().map(|e| e.kind.as_str()).collect();
    let mut seen = kinds.clone();
    seen.sort_unstable();
    let twice = ["claim-refused", "claim-reused", "claim-reused"];
    assert_eq!(seen, [&twice[..], &["enrolled"]].concat());
    // Nobody knows which of the two stole it, so the first one is out until somebody looks.
    let devices = fleet.operate(|c| c.devices()).await.unwrap();
    let why = devices[0].quarantined.as_deref().unwrap();
    assert!(why.contains("shown by device"), "{why}");
    fleet.operate(|c| c.approve_device("pump-1")).await.unwrap();
    let devices = fleet.operate(|c| c.devices()).await.unwrap();
    assert_eq!(devices[0].quarantined, None);

    // A request that another key signed, and no request at all.
    let (mut forged, _, _) = enrolment(&key(30), &token, "z");
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(enrol(forged).await.0, 422);
    assert_eq!(enrol(b"hello".to_vec()).await.0, 400);
    assert_eq!(enrol(vec![0; 20_000]).await.0, 413);
    assert_eq!(fleet.operate(|c| c.devices()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_shared_folder_are_named() {
    let fleet = Fleet::start().await;
    let mut config = fleet.config.clone();
    let shared = drover_server::start(config.clone()).await;
    let message = shared.err().unwrap().to_string();
    assert!(message.contains("in use by another server"), "{message}");

    config.data_dir = fleet.dir.path().join("other");
    config.http_listen = fleet.server.as_ref().unwrap().http_addr();
    let taken = drover_server::start(config.clone()).await;
    let message = taken.err().unwrap().to_string();
    assert!(message.contains("the port is in use"), "{message}");

    config.http_listen = ([127, 0, 0, 1], 0).into();
    config.mqtt_listen = fleet.server.as_ref().unwrap().broker_addr().unwrap();
    let taken = drover_server::start(config.clone()).await;
    let message = taken.err().unwrap().to_string();
    assert!(
        message.contains("embedded broker cannot listen"),
        "{message}"
    );

    std::fs::write(&config.fleet_key, "hello").unwrap();
    let message = drover_server::start(config)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("fleet key file"), "{message}");
}
