//! The TLS front before the embedded broker: who is let in, who is not, and that nobody who
//! is slow or hostile keeps others out.

use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, Packet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Fleet, Member, PATIENCE, auto, key};

/// Whether the broker says yes to a client id.
async fn is_let_in(member: &Member, client_id: &str) -> bool {
    let (_, mut events) = AsyncClient::new(member.options(client_id), 4);
    let polled = tokio::time::timeout(PATIENCE, events.poll()).await.unwrap();
    matches!(polled, Ok(Event::Incoming(Packet::ConnAck(_))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_one_device() {
    let fleet = Fleet::start().await;
    let (first, second) = (fleet.enrol(30).await, fleet.enrol(31).await);
    assert!(is_let_in(&first, &first.id).await);
    assert!(!is_let_in(&first, &second.id).await);
    assert!(!is_let_in(&first, "drover-server").await);
    let events = fleet.operate(|c| c.events(None, 5)).await.unwrap();
    let mismatch = events.iter().find(|e| e.kind == "identity-mismatch");
    let mismatch = mismatch.unwrap();
    assert_eq!(mismatch.device.as_deref(), Some(first.id.as_str()));
    assert!(mismatch.detail.contains(&second.id), "{}", mismatch.detail);

    // Another's certificate without its key, and a certificate of somebody else's authority.
    let stolen = Member {
        key: key(99),
        ..second.clone()
    };
    assert!(
        std::panic::catch_unwind(|| stolen.tls()).is_err() || !is_let_in(&stolen, &second.id).await
    );
    let elsewhere = Fleet::start().await;
    let mut foreign = elsewhere.enrol(31).await;
    foreign.access.broker_port = second.access.broker_port;
    foreign.access.authorities = second.access.authorities.clone();
    assert!(!is_let_in(&foreign, &foreign.id).await);

    // A new certificate of the same key, while the old one is still good.
    let access = fleet.renew(&first).await.unwrap();
    assert_ne!(access.certificate, first.access.certificate);
    assert!(access.renew_unix_s < access.expires_unix_s);
    let renewed = Member {
        access,
        ..first.clone()
    };
    assert!(is_let_in(&renewed, &first.id).await && is_let_in(&first, &first.id).await);
    // Asked for with another key.
    let thief = Member {
        key: key(99),
        ..first.clone()
    };
    let refused = fleet.try_renew(&thief).await;
    assert_eq!(refused, Err(422));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_certificate_opens_http_and_no_session() {
    let fleet = Fleet::start().await;
    let operator = key(50);
    let public_key = operator.public().to_hex();
    let account = drover_api::AddOperator {
        name: "ann".into(),
        role: drover_api::OperatorRole::Viewer,
        password: drover_api::Secret::new("a long password"),
    };
    let added = fleet.operate(move |c| c.add_operator(&account)).await;
    added.unwrap();
    let request = drover_api::CertifyOperator {
        name: "ann".into(),
        public_key,
    };
    let certified = fleet.operate(move |c| c.certify_operator(&request)).await;
    let certified = certified.unwrap();
    let ours = crate::support::pem_of(&operator);
    let identity = (
        certified.certificate.clone().into_bytes(),
        ours.into_bytes(),
    );
    let client = fleet.client("", Some(identity.clone()));
    let asked = tokio::task::spawn_blocking(move || (client.who_am_i(), client.stop_broker()));
    let (who, stopped) = asked.await.unwrap();
    assert_eq!(who.unwrap().account, "ann");
    let code = stopped.unwrap_err().code();
    assert_eq!(code, Some(drover_api::ErrorCode::Forbidden));
    // Taken back, it does not even shake hands.
    let revoked = fleet.operate(|c| c.revoke_operator("ann")).await.unwrap();
    assert_eq!(revoked.certificates, 1);
    let client = fleet.client("", Some(identity));
    let refused = tokio::task::spawn_blocking(move || client.health());
    assert!(refused.await.unwrap().is_err());
    let device = fleet.enrol(30).await;
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(certified.certificate.as_bytes());
    let der: rustls::pki_types::CertificateDer<'_> = der.unwrap();
    let mut posing = Member {
        key: operator,
        ..device.clone()
    };
    posing.access.certificate = der.to_vec();
    for id in [device.id.as_str(), "operator:ann"] {
        assert!(!is_let_in(&posing, id).await, "{id} was let in");
    }
}

/// Strangers that say nothing, say nonsense, or speak plain MQTT are closed, and a device gets
/// in meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_keep_nobody_out() {
    let fleet = Fleet::start_with(|config| config.mqtt_handshakes = 2).await;
    let device = fleet.enrol(30).await;
    let addr = fleet.server.as_ref().unwrap().broker_addr().unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    // CONNECT without TLS.
    let mut plain = TcpStream::connect(addr).await.unwrap();
    let connect = b"\x10\x0e\0\x04MQTT\x04\x02\0\x05\0\x02id";
    plain.write_all(connect).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer));
    let _ = ended.await.unwrap();
    // At most a TLS alert: nothing of MQTT.
    assert_ne!(answer.first(), Some(&0x20), "{answer:?}");
    assert!(is_let_in(&device, &device.id).await);
    for mut stranger in silent {
        let mut answer = Vec::new();
        let ended = stranger.read_to_end(&mut answer);
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        assert!(ended.is_ok(), "a silent stranger is kept");
    }
}

/// Over the cap a connection is closed at once, and counted; room that becomes free is used.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_cap() {
    let fleet = Fleet::start_with(|config| config.mqtt_connections = 2).await;
    let device = fleet.enrol(30).await;
    let addr = fleet.server.as_ref().unwrap().broker_addr().unwrap();
    let inside = [
        TcpStream::connect(addr).await.unwrap(),
        TcpStream::connect(addr).await.unwrap(),
    ];
    let start = Instant::now();
    let mut third = TcpStream::connect(addr).await.unwrap();
    let ended = third.read(&mut [0]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "not closed at once"
    );
    drop(inside);
    let start = Instant::now();
    while !is_let_in(&device, &device.id).await {
        assert!(start.elapsed() < PATIENCE, "no room again");
    }
}

/// A device whose identity is in doubt is cut off, and let in again by an operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_two_have_quarantines_the_first() {
    let fleet = Fleet::start().await;
    let token = fleet.tokens(auto(1)).await.remove(0);
    let device = fleet.claim(30, &token).await;
    let (_, mut events) = device.connect();
    assert!(matches!(
        events.poll().await,
        Ok(Event::Incoming(Packet::ConnAck(_)))
    ));
    let (body, _, _) = crate::support::enrolment(&key(31), &token, "thief");
    let url = format!("{}/v1/enroll", fleet.url());
    assert_eq!(crate::support::post(url, None, body).await.0, 409);
    let cut = async { while events.poll().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, cut).await.unwrap();
    assert!(!is_let_in(&device, &device.id).await);
    assert_eq!(fleet.try_renew(&device).await, Err(403));
    let id = device.id.clone();
    fleet.operate(move |c| c.approve_device(&id)).await.unwrap();
    assert!(is_let_in(&device, &device.id).await);
}

/// A token's rule approves what is like it and lets the rest wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_approves_what_is_like_it() {
    let fleet = Fleet::start().await;
    let rule = |prefix: &str| drover_api::ApprovalRule {
        arch: Some("x86_64".into()),
        hardware_prefix: Some(prefix.into()),
        ..drover_api::ApprovalRule::default()
    };
    for (n, prefix, approved) in [(30, "serial-device", true), (31, "other", false)] {
        let request = drover_api::CreateTokens {
            approve_if: Some(rule(prefix)),
            ..auto(1)
        };
        let token = fleet.tokens(request).await.remove(0);
        let device = fleet.claim(n, &token).await;
        assert_eq!(!device.access.certificate.is_empty(), approved);
        let id = device.id.clone();
        let seen = fleet.operate(move |c| c.device(&id)).await.unwrap();
        assert_eq!(seen.approved, approved);
        assert_eq!(seen.certificate_expires_unix_s.is_some(), approved);
        assert_eq!(seen.hardware, format!("serial-device-{n}"));
    }
    let empty = drover_api::CreateTokens {
        approve_if: Some(drover_api::ApprovalRule::default()),
        ..auto(1)
    };
    let refused = fleet.operate(move |c| c.create_tokens(&empty)).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("approve_if"), "{message}");
}

/// Without its authority the server makes another, and devices find their way back by their
/// own keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_authority_strands_nobody() {
    let mut fleet = Fleet::start().await;
    let device = fleet.enrol(30).await;
    fleet.stop().await;
    std::fs::remove_file(fleet.config.data_dir.join("authority.pem")).unwrap();
    let started = drover_server::start(fleet.config.clone()).await.unwrap();
    let port = started.broker_addr().unwrap().port();
    fleet.server = Some(started);
    let mut stranded = device.clone();
    stranded.access.broker_port = port;
    assert!(!is_let_in(&stranded, &device.id).await);
    let access = fleet.renew(&device).await.unwrap();
    assert_ne!(access.authorities, device.access.authorities);
    let back = Member { access, ..device };
    assert!(is_let_in(&back, &back.id).await);
    fleet.stop().await;
}

/// MQTT 5 as well, with properties that the front does not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_may_speak_mqtt_5() {
    use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet};
    use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
    let fleet = Fleet::start().await;
    let (device, other) = (fleet.enrol(30).await, fleet.enrol(31).await);
    let options = |client_id: &str| {
        let access = &device.access;
        let mut options = MqttOptions::new(client_id, &access.broker_host, access.broker_port);
        let tls = rumqttc::TlsConfiguration::Rustls(device.tls());
        options
            .set_transport(rumqttc::Transport::tls_with_config(tls))
            .set_receive_maximum(Some(7))
            .set_session_expiry_interval(Some(60))
            .set_user_properties(vec![("a".into(), "b".into())]);
        options
    };
    let (client, mut events) = AsyncClient::new(options(&device.id), 4);
    let first = tokio::time::timeout(PATIENCE, events.poll()).await.unwrap();
    assert!(
        matches!(first, Ok(Event::Incoming(Packet::ConnAck(_)))),
        "{first:?}"
    );
    let down = drover_wire::topic::down(&device.id);
    let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
    client.subscribe(down, qos).await.unwrap();
    let granted = async {
        loop {
            if let Event::Incoming(Packet::SubAck(ack)) = events.poll().await.unwrap() {
                return ack;
            }
        }
    };
    let granted = tokio::time::timeout(PATIENCE, granted).await.unwrap();
    assert_eq!(
        format!("{:?}", granted.return_codes),
        "[Success(AtLeastOnce)]"
    );

    let (_, mut events) = AsyncClient::new(options(&other.id), 4);
    let refused = tokio::time::timeout(PATIENCE, events.poll()).await.unwrap();
    assert!(
        matches!(
            refused,
            Err(ConnectionError::ConnectionRefused(
                ConnectReturnCode::NotAuthorized
            ))
        ),
        "{refused:?}"
    );
}

/// Whoever connects to the REST interface and says nothing delays nobody.
#[tokio::test(flavor = "multi_thread")]
async fn silence_does_not_stop_the_rest_interface() {
    let fleet = Fleet::start_with(|config| config.http_connections = 21).await;
    let addr = fleet.server.as_ref().unwrap().http_addr();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    let health = fleet.operate(|c| c.health()).await;
    assert!(health.unwrap().ok);
    // Over the cap a connection is closed at once; silent ones make room when they are ended.
    for _ in 0..2 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    let mut last = silent.pop().unwrap();
    let ended = last.read(&mut [0]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    for mut stranger in silent {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "a silent stranger is kept");
    }
    assert!(fleet.operate(|c| c.health()).await.unwrap().ok);
}

/// Wrong claims are held back by address, right ones of the same address are not; and a request
/// that is played again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_held_back_and_replays_change_nothing() {
    let fleet = Fleet::start().await;
    let url = format!("{}/v1/enroll", fleet.url());
    let token = fleet.tokens(auto(1)).await.remove(0);
    let (id, _) = token.split_once('.').unwrap();
    let mut answers = Vec::new();
    for n in 0..25 {
        let guess = format!("{id}.guess{n}");
        let (body, _, _) = crate::support::enrolment(&key(40), &guess, "x");
        answers.push(crate::support::post(url.clone(), None, body).await.0);
    }
    assert_eq!((answers[0], answers[24]), (403, 429));
    let events = fleet.operate(|c| c.events(None, 100)).await.unwrap();
    let refused = events.iter().filter(|e| e.kind == "claim-refused").count();
    assert_eq!(refused, 20, "a flood of guesses is a flood of events");

    let device = fleet.claim(30, &token).await;
    assert!(is_let_in(&device, &device.id).await);
    let (replay, _, _) = crate::support::enrolment(&key(30), &token, "device-30");
    let again = crate::support::post(url.clone(), None, replay).await;
    assert_eq!(again.0, 200);
    let id = device.id.clone();
    let revoked = fleet.operate(move |c| c.revoke_device(&id, "a test")).await;
    assert!(revoked.is_ok());
    let events = fleet.operate(|c| c.events(None, 100)).await.unwrap();
    let enrolled = events.iter().filter(|e| e.kind == "enrolled").count();
    assert_eq!(enrolled, 1);
    // Whoever was revoked does not enrol again, with whatever claim.
    let (replay, _, _) = crate::support::enrolment(&key(30), &token, "device-30");
    assert_eq!(crate::support::post(url, None, replay).await.0, 403);
    assert!(!is_let_in(&device, &device.id).await);
}
