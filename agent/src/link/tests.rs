//! The link over real sockets to mosquitto, with certificates on both sides; skipped where
//! it is not installed.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use drover_trust::fixture::{Keys, key};
use drover_trust::{DeviceId, Domain, Envelope};
use drover_wire::chunk::Chunk;
use drover_wire::enrol::{Access, CertificateGrant, CertificateReply, CertificateRequest};
use drover_wire::message::{Batch, Body, Numbered, Record, Up};
use drover_wire::topic;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};

use super::tls::tests::{Authority, key_pair, pem};
use super::*;
use crate::identity::{Enrolment, Identity};
use crate::ota::Outgoing;

const PATIENCE: Duration = Duration::from_secs(20);

fn access(port: u16, authority: &Authority, certificate: Vec<u8>) -> Access {
    Access {
        broker_host: "127.0.0.1".into(),
        broker_port: port,
        certificate,
        expires_unix_s: u64::MAX,
        renew_unix_s: u64::MAX,
        authorities: vec![authority.certificate().der().to_vec()],
    }
}

/// The device of key 30, whose data lie in `data`.
fn party(data: &std::path::Path, server: &str, access: Access) -> Party {
    let root = Keys::new("test").trusted();
    let identity = Identity {
        device: DeviceId::of(&key(30).public()),
        key: key(30),
        enrolment: Enrolment {
            server: server.into(),
            fleet: "test".into(),
            root: root.envelope().encode().unwrap(),
            access,
            time_floor_s: 0,
        },
        root: root.clone(),
    };
    Party {
        member: Arc::new(Membership::new(data, &identity)),
        trust: Trust::new(root, 0),
        boot: 7,
    }
}

fn certificate(authority: &Authority) -> Vec<u8> {
    let device = DeviceId::of(&key(30).public());
    let certificate = authority.certify(device.as_str(), &key_pair(&key(30)));
    certificate.der().to_vec()
}

fn quick() -> LinkOptions {
    LinkOptions {
        reconnect_base_millis: 20,
        reconnect_cap_millis: 100,
        ..LinkOptions::default()
    }
}

struct Broker {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Broker {
    /// None where mosquitto is not installed.
    fn start(authority: &Authority) -> Option<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        // Started by root it would become a user that cannot read the folder.
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\nrequire_certificate true\n\
             use_identity_as_username true\ncafile {}\ncertfile {}\nkeyfile {}\n",
            write("ca", &authority.certificate().pem()),
            write(
                "certificate",
                &authority.certify("127.0.0.1", &key_pair(&key(41))).pem()
            ),
            write("key", &pem(&key(41))),
        );
        write("conf", &config);
        match spawn(folder.path()) {
            Ok(child) => Some(Self {
                child,
                folder,
                port,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: mosquitto is not installed");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = spawn(self.folder.path()).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &std::path::Path) -> std::io::Result<Child> {
    Command::new("mosquitto")
        .arg("-c")
        .arg(folder.join("conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// A server that hears all devices: what it receives, and a client to publish with.
async fn server(
    port: u16,
    authority: &Authority,
) -> (tokio::sync::mpsc::Receiver<Vec<u8>>, AsyncClient) {
    let certificate = authority.certify("server", &key_pair(&key(40)));
    let access = access(port, authority, certificate.der().to_vec());
    let trust = Trust::new(Keys::new("test").trusted(), 0);
    let config = tls::client_config(&key(40), &access, &trust).unwrap();
    let mut options = MqttOptions::new("server", "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(config))));
    let (client, mut event_loop) = AsyncClient::new(options, 64);
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let (subscribed, is_subscribed) = tokio::sync::oneshot::channel();
    let subscriber = client.clone();
    tokio::spawn(async move {
        let mut subscribed = Some(subscribed);
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let filter = subscriber.try_subscribe(topic::ALL_UP, QoS::AtLeastOnce);
                    filter.unwrap();
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    if let Some(subscribed) = subscribed.take() {
                        let _ = subscribed.send(());
                    }
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let _ = sender.send(publish.payload.to_vec()).await;
                }
                Ok(_) => {}
                // The broker starts, or is being restarted.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let waited = tokio::time::timeout(PATIENCE, is_subscribed).await;
    waited.expect("the broker did not come up").unwrap();
    (receiver, client)
}

/// The next input of the driver, out of a thread of its own.
async fn next(inputs: &Arc<std::sync::Mutex<mpsc::Receiver<Input>>>) -> Input {
    let inputs = Arc::clone(inputs);
    let waited = tokio::task::spawn_blocking(move || inputs.lock().unwrap().recv_timeout(PATIENCE));
    waited.await.unwrap().expect("nothing came from the link")
}

/// The next message of the device, its signature checked.
async fn opened(heard: &mut tokio::sync::mpsc::Receiver<Vec<u8>>) -> Numbered {
    let bytes = tokio::time::timeout(PATIENCE, heard.recv()).await;
    let envelope = Envelope::decode(&bytes.unwrap().unwrap()).unwrap();
    let payload = envelope.verify_by(Domain::Up, &key(30).public());
    Numbered::decode(payload.unwrap()).unwrap()
}

fn batch(len: usize) -> Up {
    Up::Batch(Batch {
        boot: 1,
        records: vec![Record {
            sequence: 1,
            unix_ms: 0,
            body: Body::Profile(vec![7; len]),
        }],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_both_ways_and_a_lost_broker_is_found_again() {
    let authority = Authority::new();
    let Some(mut broker) = Broker::start(&authority) else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let access = access(broker.port, &authority, certificate(&authority));
    let party = party(data.path(), "", access);
    let device = party.member.device().as_str().to_owned();
    let (mut heard, client) = server(broker.port, &authority).await;

    let (input, inputs) = mpsc::channel();
    let inputs = Arc::new(std::sync::Mutex::new(inputs));
    let (out, outgoing) = tokio::sync::mpsc::channel(64);
    let link = start(quick(), party, LinkEnds { outgoing, input });
    assert!(matches!(next(&inputs).await, Input::Connected));

    // Signed by the device; one that is too large costs neither connection nor order.
    for len in [1, 300_000, 150_000, 2] {
        out.send(Outgoing::Publish(batch(len))).await.unwrap();
    }
    let mut numbers = Vec::new();
    for len in [1, 150_000, 2] {
        let up = opened(&mut heard).await;
        assert_eq!((up.device.as_str(), up.boot), (device.as_str(), 7));
        assert_eq!(up.message, batch(len));
        numbers.push((up.instance, up.counter));
    }
    assert!(numbers.is_sorted_by(|a, b| a.0 == b.0 && a.1 < b.1));

    let publish =
        |topic: String, bytes: Vec<u8>| client.publish(topic, QoS::AtLeastOnce, false, bytes);
    publish(topic::down(&device), vec![1, 2]).await.unwrap();
    match next(&inputs).await {
        Input::Message { bytes, .. } => assert_eq!(bytes, [1, 2]),
        other => panic!("{other:?}"),
    }

    publish(topic::roots(&device), vec![3]).await.unwrap();
    match next(&inputs).await {
        Input::Roots { bytes, .. } => assert_eq!(bytes, [3]),
        other => panic!("{other:?}"),
    }

    // Chunks come only while the bundle is wanted. The message after the subscription is
    // taken by the broker in order, so its echo shows that the subscription stands.
    let digest = [9; 32];
    out.send(Outgoing::Subscribe(digest)).await.unwrap();
    out.send(Outgoing::Publish(batch(3))).await.unwrap();
    tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap();
    let chunk = Chunk {
        index: 4,
        bytes: &[5; 128 * 1024],
    };
    publish(topic::bundle(&digest), chunk.encode())
        .await
        .unwrap();
    match next(&inputs).await {
        Input::Chunk {
            digest: got, bytes, ..
        } => {
            assert_eq!(got, digest);
            assert_eq!(Chunk::decode(&bytes), Some(chunk));
        }
        other => panic!("{other:?}"),
    }

    broker.kill();
    assert!(matches!(next(&inputs).await, Input::Disconnected));
    out.send(Outgoing::Publish(batch(4))).await.unwrap();
    broker.restart();
    assert!(matches!(next(&inputs).await, Input::Connected));

    // The numbers go on over the reconnect. The server may subscribe later than the device.
    let deadline = Instant::now() + PATIENCE;
    let up = loop {
        out.send(Outgoing::Publish(batch(5))).await.unwrap();
        let soon = Duration::from_millis(200);
        match tokio::time::timeout(soon, opened(&mut heard)).await {
            Ok(up) => break up,
            Err(_) => assert!(Instant::now() < deadline, "nothing after the reconnect"),
        }
    };
    assert_eq!(up.message, batch(5));
    let last = numbers.last().unwrap();
    assert!(up.instance == last.0 && up.counter > last.1, "{up:?}");

    drop(out);
    tokio::time::timeout(PATIENCE, link).await.unwrap().unwrap();
}

/// A server that grants certificates to whoever asks, from the `granted`th request on; the
/// requests before that wait for approval.
fn granting(port: u16, authority: &Arc<Authority>, granted: usize) -> String {
    let authority = Arc::clone(authority);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let body = crate::testing::http_body(&mut stream, "post /v1/certificate");
            let envelope = Envelope::decode(&body).unwrap();
            let payload = envelope.verify_by(Domain::CertificateRequest, &key(30).public());
            let request = CertificateRequest::decode(payload.unwrap()).unwrap();
            let certificate = if n + 1 < granted {
                Vec::new()
            } else {
                certificate(&authority)
            };
            let grant = CertificateGrant {
                device: request.device,
                nonce: request.nonce,
                access: access(port, &authority, certificate),
                sent_unix_s: 1_700_000_000,
            };
            let keys = Keys::new("test");
            let payload = grant.encode().unwrap();
            let grant = Envelope::signed(payload, Domain::CertificateGrant, &keys.fleet);
            let reply = CertificateReply {
                roots: vec![keys.envelope().encode().unwrap()],
                grant: grant.encode().unwrap(),
            };
            crate::testing::answer(&mut stream, 200, &reply.encode().unwrap());
        }
    });
    address
}

/// Connects a device that begins with `held`; what the driver hears until it is connected.
async fn connects(broker: &Broker, server: &str, held: Access) -> (Vec<Input>, Arc<Membership>) {
    let data = tempfile::tempdir().unwrap();
    let party = party(data.path(), server, held);
    let member = Arc::clone(&party.member);
    let (input, inputs) = mpsc::channel();
    let inputs = Arc::new(std::sync::Mutex::new(inputs));
    let (out, outgoing) = tokio::sync::mpsc::channel(64);
    let link = start(quick(), party, LinkEnds { outgoing, input });
    let mut heard = Vec::new();
    loop {
        match next(&inputs).await {
            Input::Connected => break,
            other => heard.push(other),
        }
    }
    drop(out);
    tokio::time::timeout(PATIENCE, link).await.unwrap().unwrap();
    let stored = Identity::load(data.path());
    // The key is not in the folder of this test.
    assert!(stored.unwrap().is_none());
    assert!(broker.port > 0);
    (heard, member)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_its_certificate_once_it_is_approved_and_again_when_it_is_refused() {
    let authority = Arc::new(Authority::new());
    let Some(broker) = Broker::start(&authority) else {
        return;
    };
    // Up, before anybody knocks.
    let (_heard, _client) = server(broker.port, &authority).await;

    let address = granting(broker.port, &authority, 3);
    let (heard, member) = connects(
        &broker,
        &address,
        access(broker.port, &authority, Vec::new()),
    )
    .await;
    assert!(matches!(heard.as_slice(), [Input::Granted(_)]), "{heard:?}");
    assert!(!member.current().access.certificate.is_empty());

    // A certificate of another authority: the broker refuses it, as it does an expired one.
    let stranger = Authority::new();
    let mut held = access(broker.port, &authority, certificate(&stranger));
    let address = granting(broker.port, &authority, 1);
    let (heard, _) = connects(&broker, &address, held.clone()).await;
    assert!(matches!(heard.as_slice(), [Input::Granted(_)]), "{heard:?}");

    // Authorities of another time: the device refuses the broker, and hears of the new ones.
    held.authorities = vec![stranger.certificate().der().to_vec()];
    held.certificate = certificate(&authority);
    let (heard, _) = connects(&broker, &address, held).await;
    assert!(matches!(heard.as_slice(), [Input::Granted(_)]), "{heard:?}");

    // Two thirds of the life are over.
    let mut held = access(broker.port, &authority, certificate(&authority));
    held.renew_unix_s = 1;
    let data = tempfile::tempdir().unwrap();
    let party = party(data.path(), &address, held);
    let (input, inputs) = mpsc::channel();
    let inputs = Arc::new(std::sync::Mutex::new(inputs));
    let (out, outgoing) = tokio::sync::mpsc::channel(64);
    let link = start(quick(), party, LinkEnds { outgoing, input });
    loop {
        if let Input::Granted(renewed) = next(&inputs).await {
            assert_eq!(renewed.enrolment.access.renew_unix_s, u64::MAX);
            break;
        }
    }
    drop(out);
    tokio::time::timeout(PATIENCE, link).await.unwrap().unwrap();
}

#[test]
fn pauses_grow_up_to_the_cap() {
    let options = LinkOptions {
        reconnect_base_millis: 100,
        reconnect_cap_millis: 800,
        ..LinkOptions::default()
    };
    for attempt in 0..100 {
        let whole = 100u64.saturating_mul(1 << attempt.min(10)).min(800);
        let pause = pause(&options, attempt).as_millis() as u64;
        assert!((whole / 4..=whole).contains(&pause), "{attempt}: {pause}");
    }
}
