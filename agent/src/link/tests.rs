//! The link over a real socket to mosquitto; skipped where it is not installed.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use drover_trust::{DeviceId, Domain, Envelope, Role, RoleKeys, Root, SecretKey, TrustedRoot};
use drover_wire::chunk::Chunk;
use drover_wire::message::{Batch, Body, Record, Up};
use drover_wire::topic;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};

use super::*;
use crate::identity::Enrolment;
use crate::ota::Outgoing;

const PATIENCE: Duration = Duration::from_secs(20);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn identity(port: u16) -> Arc<Identity> {
    let role = |role| RoleKeys {
        role,
        threshold: 1,
        keys: vec![key(1).public()],
    };
    let root = Root {
        version: 1,
        fleet: "test".into(),
        created_unix_s: 0,
        roles: vec![role(Role::Root), role(Role::Release), role(Role::Fleet)],
    };
    let root = Envelope::signed(root.encode().unwrap(), Domain::Root, &key(1));
    Arc::new(Identity {
        device: DeviceId::of(&key(30).public()),
        key: key(30),
        enrolment: Enrolment {
            server: String::new(),
            fleet: "test".into(),
            root: root.encode().unwrap(),
            broker_host: "127.0.0.1".into(),
            broker_port: port,
            mqtt_password: "pw".into(),
        },
        root: TrustedRoot::self_signed(root).unwrap(),
    })
}

struct Broker {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Broker {
    /// None where mosquitto is not installed.
    fn start() -> Option<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        std::fs::write(folder.path().join("conf"), config).unwrap();
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
async fn server(port: u16) -> (tokio::sync::mpsc::Receiver<Vec<u8>>, AsyncClient) {
    let mut options = MqttOptions::new("server", "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20);
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
    let Some(mut broker) = Broker::start() else {
        return;
    };
    let identity = identity(broker.port);
    let device = identity.device.as_str().to_owned();
    let (mut heard, client) = server(broker.port).await;

    let (input, inputs) = mpsc::channel();
    let inputs = Arc::new(std::sync::Mutex::new(inputs));
    let (out, outgoing) = tokio::sync::mpsc::channel(64);
    let options = LinkOptions {
        reconnect_base_millis: 20,
        reconnect_cap_millis: 100,
        ..LinkOptions::default()
    };
    let link = start(options, Arc::clone(&identity), LinkEnds { outgoing, input });
    assert!(matches!(next(&inputs).await, Input::Connected));

    // Signed by the device; one that is too large costs neither connection nor order.
    for len in [1, 300_000, 150_000, 2] {
        out.send(Outgoing::Publish(batch(len))).await.unwrap();
    }
    for len in [1, 150_000, 2] {
        let bytes = tokio::time::timeout(PATIENCE, heard.recv()).await;
        let envelope = Envelope::decode(&bytes.unwrap().unwrap()).unwrap();
        let payload = envelope.verify_by(Domain::Up, &identity.key.public());
        assert_eq!(Up::decode(payload.unwrap()).unwrap(), batch(len));
    }

    let publish =
        |topic: String, bytes: Vec<u8>| client.publish(topic, QoS::AtLeastOnce, false, bytes);
    publish(topic::down(&device), vec![1, 2]).await.unwrap();
    match next(&inputs).await {
        Input::Message { bytes, .. } => assert_eq!(bytes, [1, 2]),
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
