//! The audit log: every route that changes something leaves an entry, nobody gets in without
//! a role, and an exported log is checked without the server.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use drover_api::audit::AuditChain;
use drover_api::{Approval, AuditEntry, CreateTokens, OperatorRole};
use drover_trust::{DeviceId, Domain, Envelope, Role, Root, Voucher};
use serde_json::{Value, json};

use crate::support::{Fleet, auto, key, post, signed_bundle};
use crate::{PASSWORD, Person};

/// Changing routes that need no token, and log in their own way.
const OPEN: [&str; 5] = [
    "/v1/enroll",
    "/v1/certificate",
    "/v1/login",
    "/v1/login/oidc/start",
    "/v1/login/oidc/finish",
];
/// Changing routes that are about one's own token and password.
const OWN: [&str; 4] = [
    "/v1/logout",
    "/v1/api-tokens",
    "/v1/api-tokens/{token}/revoke",
    "/v1/operators/{name}/password",
];

/// Method and path of every route that the description names.
fn routes() -> BTreeSet<(String, String)> {
    let description: Value = serde_json::from_str(&drover_server::openapi_json()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &Value)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().cloned().collect();
        let path = path.clone();
        methods.into_iter().map(move |m| (m, path.clone()))
    };
    paths.iter().flat_map(methods).collect()
}

fn concrete(path: &str) -> String {
    path.replace("{device}", "device-30")
        .replace("{rollout}", "r1")
        .replace("{release}", "pump")
        .replace("{token}", "t")
        .replace("{name}", "carol")
}

async fn log(fleet: &Fleet) -> Vec<AuditEntry> {
    fleet.operate(|c| c.audit(0, 10_000)).await.unwrap()
}

fn bootstrap_token(fleet: &Fleet) -> String {
    let path = fleet.config.data_dir.join("operator.token");
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

async fn status_of(fleet: &Fleet, method: &str, path: &str, token: Option<&str>) -> u16 {
    let url = format!("{}{}", fleet.url(), concrete(path));
    let token = token.map(str::to_owned);
    match method {
        "get" => get(url, token).await,
        "post" => post(url, token, b"{}".to_vec()).await.0,
        other => panic!("teach this test to send {other}"),
    }
}

async fn get(url: String, token: Option<String>) -> u16 {
    let ask = move || {
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(std::sync::Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .disable_verification(true)
            .build();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .build()
            .into();
        let mut request = agent.get(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().unwrap().status().as_u16()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_a_role() {
    let fleet = Fleet::start().await;
    let viewer = Person::new(&fleet, "viewer", OperatorRole::Viewer).await;
    let request = drover_api::CreateApiToken {
        name: "walk".into(),
        role: OperatorRole::Viewer,
        ttl_secs: 600,
    };
    let token = viewer.asks(move |c| c.create_api_token(&request)).await;
    let token = token.unwrap().token.reveal().to_owned();
    for (method, path) in routes() {
        if path == "/healthz" || OPEN.contains(&path.as_str()) {
            continue;
        }
        let stranger = status_of(&fleet, &method, &path, None).await;
        assert_eq!(stranger, 401, "{method} {path} lets strangers in");
        // Ending the token would end the walk.
        if path == "/v1/logout" {
            continue;
        }
        let status = status_of(&fleet, &method, &path, Some(&token)).await;
        let changes = method != "get" && !OWN.contains(&path.as_str());
        if changes || path == "/v1/operators" {
            assert_eq!(status, 403, "{method} {path} lets viewers in");
        } else {
            assert_ne!(status, 401, "{method} {path}");
        }
    }
}

/// One change: its route, the path that it is asked at, what is sent, and who asks.
struct Change {
    route: &'static str,
    path: String,
    body: Vec<u8>,
    token: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_leaves_an_entry() {
    let fleet = Fleet::start().await;
    let alice = Person::new(&fleet, "alice", OperatorRole::Admin).await;
    let made = drover_api::CreateApiToken {
        name: "walk".into(),
        role: OperatorRole::Admin,
        ttl_secs: 600,
    };
    let make = async || {
        let made = made.clone();
        let made = alice.asks(move |c| c.create_api_token(&made)).await;
        made.unwrap()
    };
    let (alices, ended, thrown) = (make().await, make().await, make().await);
    let manual = CreateTokens {
        approval: Approval::Manual,
        ..auto(2)
    };
    let claims = fleet.tokens(manual).await;
    fleet.claim(30, &claims[0]).await;
    fleet.claim(31, &claims[1]).await;

    let bootstrap = bootstrap_token(&fleet);
    let change = |route: &'static str, path: &str, body: Value| Change {
        route,
        path: path.into(),
        body: body.to_string().into_bytes(),
        token: bootstrap.clone(),
    };
    let octets = |change: Change, body: Vec<u8>| Change { body, ..change };
    let by = |change: Change, token: &drover_api::NewApiToken| Change {
        token: token.token.reveal().to_owned(),
        ..change
    };
    let none = || json!({});
    let account = json!({ "name": "carol", "role": "viewer", "password": PASSWORD });
    let mosquitto = json!({ "names": ["localhost"], "port": 8883, "folder": "/etc/mosquitto" });
    let certify = json!({
        "name": "alice",
        "public_key": HEXLOWER.encode(&key(77).public().0),
    });
    let revoke = format!("/v1/api-tokens/{}/revoke", thrown.about.id);
    let changes = [
        change(
            "/v1/tokens",
            "/v1/tokens",
            json!({ "count": 1, "ttl_secs": 60 }),
        ),
        change(
            "/v1/devices/{device}/approve",
            "/v1/devices/device-30/approve",
            none(),
        ),
        octets(
            change(
                "/v1/devices/{device}/transfer",
                "/v1/devices/device-31/transfer",
                none(),
            ),
            voucher(),
        ),
        change(
            "/v1/devices/{device}/revoke",
            "/v1/devices/device-30/revoke",
            json!({ "reason": "stolen" }),
        ),
        octets(
            change("/v1/releases", "/v1/releases", none()),
            signed_bundle(1).encode().unwrap(),
        ),
        change(
            "/v1/rollouts",
            "/v1/rollouts",
            json!({ "release": "pump", "approval": true }),
        ),
        by(
            change(
                "/v1/rollouts/{rollout}/approve",
                "/v1/rollouts/r1/approve",
                none(),
            ),
            &alices,
        ),
        change("/v1/broker/stop", "/v1/broker/stop", none()),
        change("/v1/broker/start", "/v1/broker/start", none()),
        change("/v1/broker/mosquitto", "/v1/broker/mosquitto", mosquitto),
        change("/v1/certificates", "/v1/certificates", certify),
        change(
            "/v1/certificates/{name}/revoke",
            "/v1/certificates/alice/revoke",
            none(),
        ),
        octets(change("/v1/roots", "/v1/roots", none()), next_root(&fleet)),
        change("/v1/operators", "/v1/operators", account),
        change(
            "/v1/operators/{name}/disable",
            "/v1/operators/carol/disable",
            none(),
        ),
        change(
            "/v1/operators/{name}/enable",
            "/v1/operators/carol/enable",
            none(),
        ),
        change(
            "/v1/operators/{name}/role",
            "/v1/operators/carol/role",
            json!({ "role": "operator" }),
        ),
        change(
            "/v1/operators/{name}/password",
            "/v1/operators/carol/password",
            json!({ "password": "another long password" }),
        ),
        change(
            "/v1/api-tokens",
            "/v1/api-tokens",
            json!({ "name": "t", "role": "viewer", "ttl_secs": 60 }),
        ),
        change("/v1/api-tokens/{token}/revoke", &revoke, none()),
        by(change("/v1/logout", "/v1/logout", none()), &ended),
    ];
    let played: BTreeSet<&str> = changes.iter().map(|c| c.route).collect();
    for (method, path) in routes() {
        let known = method == "get" || OPEN.contains(&path.as_str());
        assert!(
            known || played.contains(path.as_str()),
            "{method} {path} is not played here"
        );
    }
    for Change {
        route,
        path,
        body,
        token,
    } in changes
    {
        let before = log(&fleet).await.len();
        let url = format!("{}{path}", fleet.url());
        let (status, answer) = post(url, Some(token), body).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status, 200, "{path}: {answer}");
        let entries = log(&fleet).await;
        assert_eq!(entries.len(), before + 1, "{route} left no entry");
    }
    let entries = log(&fleet).await;
    let mut chain = AuditChain::default();
    entries.iter().for_each(|e| chain.push(e).unwrap());
    let head = fleet.operate(|c| c.audit_head()).await.unwrap();
    chain.check_head(&head).unwrap();
    let envelope = HEXLOWER.decode(head.envelope.as_bytes()).unwrap();
    let envelope = Envelope::decode(&envelope).unwrap();
    let signed = fleet.root.verify(Role::Fleet, Domain::AuditHead, &envelope);
    assert_eq!(signed.unwrap(), head.statement().as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_say_who_what_how_and_why() {
    let fleet = Fleet::start().await;
    let alice = Person::new(&fleet, "alice", OperatorRole::Operator).await;
    let reason = "neue Geräte für Halle 7";
    let made = alice.asks(move |c| c.with_reason(reason).create_tokens(&auto(1)));
    let claim = made.await.unwrap().remove(0).token;
    let entry = log(&fleet).await.pop().unwrap();
    assert_eq!(
        (entry.who.as_str(), entry.role.as_str()),
        ("alice", "operator")
    );
    assert_eq!(
        (entry.what.as_str(), entry.reason.as_str()),
        ("claim.create", reason)
    );
    assert!(entry.how.starts_with("token "), "{}", entry.how);
    let (id, secret) = claim.split_once('.').unwrap();
    assert_eq!(entry.object, id);
    assert!(!entry.detail.contains(secret));
    let login = log(&fleet).await;
    let login = login.iter().find(|e| e.what == "login").unwrap();
    assert_eq!(
        (login.who.as_str(), login.how.as_str()),
        ("alice", "password")
    );
}

/// The root role gives device-31 away.
fn voucher() -> Vec<u8> {
    let voucher = Voucher {
        from_fleet: "test".into(),
        device: DeviceId::of(&key(31).public()),
        to_fleet: "other".into(),
        to_root: [1; 32],
        server: "https://other.example".into(),
        claim: "id.secret".into(),
        issued_unix_s: 1,
        expires_unix_s: u64::MAX,
    };
    let payload = voucher.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Voucher, &key(1));
    envelope.encode().unwrap()
}

/// The same keys under the next version.
fn next_root(fleet: &Fleet) -> Vec<u8> {
    let root = Root {
        version: 2,
        ..fleet.root.root().clone()
    };
    let envelope = Envelope::signed(root.encode().unwrap(), Domain::Root, &key(1));
    envelope.encode().unwrap()
}
