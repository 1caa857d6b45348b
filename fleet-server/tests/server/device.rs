//! A simulated device: says what the protocol says, and hears what the server sends.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_bundle::VerifiedManifest;
use drover_trust::{
    Assignment, Catalog, CatalogMark, DeviceId, Domain, Envelope, Role, SecretKey, TrustedRoot,
};
use drover_wire::bitmap::Bitmap;
use drover_wire::chunk::Chunk;
use drover_wire::message::{
    Ack, Addressed, Batch, Body, Down, Hello, Numbered, Observation, Phase, Record, RootChain,
    Running, State, Up, Verdict,
};
use drover_wire::topic;
use rumqttc::{AsyncClient, Event, Packet, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::{Fleet, Member, PATIENCE, auto};

/// What a device hears.
pub(crate) enum Heard {
    Down(Down),
    Chunk(u32, Vec<u8>),
    /// Successors of its root.
    Roots(Vec<Vec<u8>>),
}

/// A device that does as the protocol says.
pub(crate) struct Device {
    pub(crate) key: SecretKey,
    pub(crate) id: DeviceId,
    /// Drawn anew at each start of its agent.
    pub(crate) instance: [u8; 16],
    /// Counts the starts.
    pub(crate) boot: u64,
    /// Counts its messages.
    pub(crate) counter: u64,
    pub(crate) root: TrustedRoot,
    pub(crate) client: AsyncClient,
    packets: mpsc::UnboundedReceiver<Packet>,
    task: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Device {
    pub(crate) async fn enrol(fleet: &Fleet, n: u8) -> Self {
        let token = fleet.tokens(auto(1)).await.remove(0);
        let mut device = Self::claim(fleet, n, &token).await;
        device.connected().await;
        device
    }

    /// A device that has enrolled and tries to connect.
    pub(crate) async fn claim(fleet: &Fleet, n: u8, token: &str) -> Self {
        let member = fleet.claim(n, token).await;
        Self::of(fleet, member)
    }

    /// A device that tries to connect.
    pub(crate) fn of(fleet: &Fleet, member: Member) -> Self {
        let (client, mut events) = member.connect();
        let (sender, packets) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(packet)) => drop(sender.send(packet)),
                    Ok(_) => {}
                    // A lost connection; polling again connects again.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        Self {
            id: DeviceId::of(&member.key.public()),
            key: member.key,
            instance: [1; 16],
            boot: 1,
            counter: 0,
            root: fleet.root.clone(),
            client,
            packets,
            task,
        }
    }

    /// Waits for the connection and subscribes.
    pub(crate) async fn connected(&mut self) {
        self.packet("CONNACK", |p| matches!(p, Packet::ConnAck(_)).then_some(()))
            .await;
        for topic in [topic::roots, topic::down] {
            let topic = topic(self.id.as_str());
            self.client
                .subscribe(topic, QoS::AtLeastOnce)
                .await
                .unwrap();
            self.packet("SUBACK", |p| matches!(p, Packet::SubAck(_)).then_some(()))
                .await;
        }
    }

    pub(crate) async fn packet<T>(&mut self, what: &str, pick: impl Fn(&Packet) -> Option<T>) -> T {
        let wait = async {
            while let Some(packet) = self.packets.recv().await {
                if let Some(picked) = pick(&packet) {
                    return Some(picked);
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Some(picked)) => picked,
            _ => panic!("{what} did not come"),
        }
    }

    pub(crate) async fn say(&mut self, message: Up) {
        self.say_signed(message, &self.key.clone()).await;
    }

    pub(crate) async fn say_signed(&mut self, message: Up, key: &SecretKey) {
        self.counter += 1;
        let numbered = self.numbered(message, self.counter);
        let envelope = Envelope::signed(numbered.encode().unwrap(), Domain::Up, key);
        self.publish(envelope.encode().unwrap()).await;
    }

    fn numbered(&self, message: Up, counter: u64) -> Numbered {
        Numbered {
            device: self.id.to_string(),
            instance: self.instance,
            boot: self.boot,
            counter,
            message,
        }
    }

    /// A message of this number, ready for its topic.
    pub(crate) fn signed(&self, message: Up, counter: u64) -> Vec<u8> {
        self.signed_as(self.id.as_str(), message, counter)
    }

    /// The same in the name of another device.
    pub(crate) fn signed_as(&self, device: &str, message: Up, counter: u64) -> Vec<u8> {
        let numbered = Numbered {
            device: device.to_owned(),
            ..self.numbered(message, counter)
        };
        let envelope = Envelope::signed(numbered.encode().unwrap(), Domain::Up, &self.key);
        envelope.encode().unwrap()
    }

    /// Sends what was signed before.
    pub(crate) async fn publish(&mut self, payload: Vec<u8>) {
        let up = topic::up(self.id.as_str());
        self.client
            .publish(up, QoS::AtLeastOnce, false, payload)
            .await
            .unwrap();
    }

    pub(crate) fn hello_of(&self, assignment: u64) -> Up {
        Up::Hello(Hello {
            boot: self.boot,
            agent_version: "0".into(),
            arch: "x86_64".into(),
            memory_bytes: 1,
            assignment,
        })
    }

    pub(crate) async fn hello(&mut self, assignment: u64) {
        self.say(self.hello_of(assignment)).await;
    }

    pub(crate) async fn phase(&mut self, assignment: u64, phase: Phase) {
        let active = match phase {
            Phase::Committed { digest } => Some(Running {
                name: "pump".into(),
                version: "1".into(),
                digest,
                counter: 1,
            }),
            _ => None,
        };
        self.say(Up::State(State {
            assignment,
            active,
            phase,
        }))
        .await;
    }

    /// The next message that `pick` takes; whatever is not the fleet's is no message.
    pub(crate) async fn hears<T>(&mut self, what: &str, pick: impl Fn(&Heard) -> Option<T>) -> T {
        let (root, id) = (self.root.clone(), self.id.clone());
        self.packet(what, |packet| {
            let Packet::Publish(publish) = packet else {
                return None;
            };
            if topic::digest_of_bundle(&publish.topic).is_some() {
                let chunk = Chunk::decode(&publish.payload).unwrap();
                return pick(&Heard::Chunk(chunk.index, chunk.bytes.to_vec()));
            }
            if publish.topic == topic::roots(id.as_str()) {
                let chain = RootChain::decode(&publish.payload).unwrap();
                return pick(&Heard::Roots(chain.roots));
            }
            let envelope = Envelope::decode(&publish.payload).unwrap();
            let payload = root.verify(Role::Fleet, Domain::Down, &envelope).unwrap();
            let addressed = Addressed::decode(payload).unwrap();
            assert_eq!(addressed.device, id.as_str());
            assert!(addressed.sent_unix_s > 1_700_000_000);
            pick(&Heard::Down(addressed.message))
        })
        .await
    }

    pub(crate) async fn assignment(&mut self, last: u64) -> Assignment {
        let (root, id) = (self.root.clone(), self.id.clone());
        self.hears("assignment", move |heard| match heard {
            Heard::Down(Down::Desired {
                assignment,
                catalog,
            }) => {
                let catalog = Envelope::decode(catalog).unwrap();
                let catalog = Catalog::open(&catalog, &root, &CatalogMark::default(), 0).unwrap();
                let envelope = Envelope::decode(assignment).unwrap();
                Assignment::open(&envelope, &root, &catalog, &id, last, 0).ok()
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn ack(&mut self) -> Ack {
        self.hears("ack", |heard| match heard {
            Heard::Down(Down::Ack(ack)) => Some(ack.clone()),
            _ => None,
        })
        .await
    }

    /// Fetches the assigned bundle as a device does, and commits it.
    pub(crate) async fn update(&mut self, assignment: &Assignment) {
        let digest = assignment.bundles[0].digest;
        let bundle = topic::bundle(&digest);
        self.client
            .subscribe(bundle, QoS::AtLeastOnce)
            .await
            .unwrap();
        self.say(Up::WantManifest { digest }).await;
        let manifest = self
            .hears("manifest", |heard| match heard {
                Heard::Down(Down::Manifest { envelope, .. }) => Some(envelope.clone()),
                _ => None,
            })
            .await;
        let manifest = Envelope::decode(&manifest).unwrap();
        let manifest = VerifiedManifest::open(&manifest, &self.root).unwrap();
        assert_eq!(*manifest.digest(), digest);

        let total = u32::try_from(manifest.manifest().chunking.digests.len()).unwrap();
        let missing = Bitmap::full(total);
        self.say(Up::WantChunks { digest, missing }).await;
        let mut chunks = BTreeMap::new();
        while chunks.len() < total as usize {
            let (index, bytes) = self
                .hears("chunk", |heard| match heard {
                    Heard::Chunk(index, bytes) => Some((*index, bytes.clone())),
                    _ => None,
                })
                .await;
            manifest.check_chunk(index, &bytes).unwrap();
            chunks.insert(index, bytes);
        }
        let payload: Vec<u8> = chunks.into_values().flatten().collect();
        manifest.check_payload(&payload).unwrap();
        let sequence = assignment.sequence;
        self.phase(sequence, Phase::Trial { digest }).await;
        self.phase(sequence, Phase::Committed { digest }).await;
    }
}

/// A batch of one observation per sequence.
pub(crate) fn batch(sequences: impl IntoIterator<Item = u64>) -> Up {
    let record = |sequence| Record {
        sequence,
        unix_ms: 1,
        body: Body::Observation(Observation {
            model: [1; 32],
            window: sequence,
            score: 0.25,
            decision: Verdict::Normal,
            latency_us: 3,
            input: vec![],
            output: vec![],
        }),
    };
    Up::Batch(Batch {
        boot: 1,
        records: sequences.into_iter().map(record).collect(),
    })
}
