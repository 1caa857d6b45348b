//! What a device with a valid certificate can reach: the same suite against the embedded
//! broker and against mosquitto with the configuration that the server writes for it.
//!
//! A denied publish may be acknowledged and a denied subscription may be granted, as MQTT
//! 3.1.1 allows; so everything is shown by what arrives, after an honest message that came
//! later has arrived.

use std::time::{Duration, Instant};

use drover_trust::{Domain, Envelope, Role};
use drover_wire::message::{
    Addressed, Batch, Body, Down, Numbered, Observation, Record, Up, Verdict,
};
use drover_wire::topic;
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::mosquitto::{self, Mosquitto};
use crate::support::{Fleet, Member, PATIENCE};

/// What no device may publish, as a payload that is easy to find.
const FORGED: &[u8] = b"forged";

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_its_own_topics_only() {
    suite(&Fleet::start().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_its_own_topics_only_at_mosquitto() {
    match mosquitto::fleet().await {
        Some((fleet, mosquitto)) => suite(&fleet, Some(&mosquitto)).await,
        None => println!("skipped: mosquitto is not installed"),
    }
}

async fn suite(fleet: &Fleet, mosquitto: Option<&Mosquitto>) {
    let (mallory, bob) = (fleet.enrol(30).await, fleet.enrol(31).await);
    let mut at_bob = Session::of(&bob).await;
    for filter in [
        topic::down(&bob.id),
        topic::roots(&bob.id),
        "drover/v1/b/+".into(),
    ] {
        assert!(at_bob.subscribe(&filter).await, "{filter} is Bob's");
    }
    subscriptions(fleet, &mallory, &bob, &mut at_bob, mosquitto.is_none()).await;
    publishing(fleet, &mallory, &bob, &mut at_bob).await;
    wills(fleet, &mallory, &bob, &mut at_bob).await;
    foreign_client_id(fleet, &mallory, &bob, &mut at_bob).await;
    retained(fleet, &mallory, &bob).await;
    revocation(fleet, &mallory, &mut at_bob, mosquitto).await;
    assert_eq!(at_bob.connects, 1, "Bob's own session was ended");
}

/// Whatever Mallory subscribes, she hears of Bob's messages nothing, and of her own those that
/// are for her.
async fn subscriptions(
    fleet: &Fleet,
    mallory: &Member,
    bob: &Member,
    at_bob: &mut Session,
    is_refused: bool,
) {
    let mut at_mallory = Session::of(mallory).await;
    for filter in [
        "#".to_owned(),
        "+/#".into(),
        "drover/#".into(),
        "drover/v1/d/+/down".into(),
        "drover/v1/d/+/+".into(),
        topic::ALL_UP.into(),
        topic::up(&bob.id),
        topic::up(&mallory.id),
        topic::down(&bob.id),
        topic::roots(&bob.id),
        format!("$share/g/{}", topic::down(&bob.id)),
        "$share/g/#".into(),
        "$SYS/#".into(),
    ] {
        let granted = at_mallory.subscribe(&filter).await;
        // The embedded broker says no; mosquitto says yes and sends nothing.
        assert!(!(granted && is_refused), "{filter} was granted");
    }
    at_bob.talk(fleet, bob).await;
    assert!(at_mallory.subscribe(&topic::down(&mallory.id)).await);
    let heard = at_mallory.talk(fleet, mallory).await;
    assert_eq!(
        heard,
        [topic::down(&mallory.id)],
        "heard besides her own answer"
    );
}

/// Whatever Mallory publishes, Bob hears nothing of it, and the server nothing in Bob's name.
async fn publishing(fleet: &Fleet, mallory: &Member, bob: &Member, at_bob: &mut Session) {
    let refused = refused_messages(fleet).await;
    for to in [
        topic::down(&bob.id),
        topic::roots(&bob.id),
        topic::up(&bob.id),
        topic::bundle(&[1; 32]),
        topic::down(&mallory.id),
        "drover/v1/d/x/y".into(),
        format!("$share/g/{}", topic::down(&bob.id)),
        "$SYS/broker".into(),
    ] {
        // A session each, because a broker may end it for what it does not allow.
        let mut at_mallory = Session::of(mallory).await;
        at_mallory.publish(&to, false).await;
        at_mallory.subscribe(&topic::down(&mallory.id)).await;
        let heard = at_mallory.talk(fleet, mallory).await;
        assert_eq!(
            heard,
            [topic::down(&mallory.id)],
            "she told herself at {to}"
        );
    }
    let heard = at_bob.talk(fleet, bob).await;
    assert_eq!(
        heard,
        [topic::down(&bob.id)],
        "Bob heard more than the answer"
    );
    assert_eq!(
        refused_messages(fleet).await,
        refused,
        "it reached the server"
    );
}

/// Nor by a last will.
async fn wills(fleet: &Fleet, mallory: &Member, bob: &Member, at_bob: &mut Session) {
    for to in [topic::down(&bob.id), topic::up(&bob.id)] {
        let mut options = mallory.options(&mallory.id);
        options.set_last_will(LastWill::new(&to, FORGED, QoS::AtLeastOnce, false));
        let (_, mut events) = AsyncClient::new(options, 4);
        // Refused at once or accepted and then lost: the will is never heard.
        let _ = tokio::time::timeout(PATIENCE, events.poll()).await.unwrap();
        drop(events);
        // Her next session comes after the end of that one, and so after its will.
        let mut at_mallory = Session::of(mallory).await;
        at_mallory.subscribe(&topic::down(&mallory.id)).await;
        at_mallory.talk(fleet, mallory).await;
        let heard = at_bob.talk(fleet, bob).await;
        assert_eq!(heard, [topic::down(&bob.id)], "a will reached {to}");
    }
}

/// With Bob's client id Mallory is still Mallory, and Bob keeps his session.
async fn foreign_client_id(fleet: &Fleet, mallory: &Member, bob: &Member, at_bob: &mut Session) {
    let mut at_mallory = Session::start(mallory.options(&bob.id));
    if at_mallory.is_let_in().await {
        at_mallory.subscribe(&topic::down(&bob.id)).await;
        at_mallory.subscribe(&topic::down(&mallory.id)).await;
        at_bob.talk(fleet, bob).await;
        let heard = at_mallory.talk(fleet, mallory).await;
        assert_eq!(heard, [topic::down(&mallory.id)], "she heard Bob's");
    }
    drop(at_mallory);
    let heard = at_bob.talk(fleet, bob).await;
    assert_eq!(heard, [topic::down(&bob.id)]);
    assert_eq!(at_bob.connects, 1, "Mallory took Bob's session");
}

/// Nothing is retained, whoever asks for it.
async fn retained(fleet: &Fleet, mallory: &Member, bob: &Member) {
    for to in [topic::down(&bob.id), topic::up(&mallory.id)] {
        let mut at_mallory = Session::of(mallory).await;
        at_mallory.publish(&to, true).await;
    }
    // Somebody new, so that whatever was kept would come with the subscription.
    let eve = fleet.enrol(32).await;
    let mut at_eve = Session::of(&eve).await;
    for filter in [topic::down(&eve.id), "drover/v1/b/+".into()] {
        assert!(at_eve.subscribe(&filter).await);
    }
    let heard = at_eve.talk(fleet, &eve).await;
    assert_eq!(heard, [topic::down(&eve.id)]);
}

/// A revoked device is cut off at once and does not get back in.
async fn revocation(
    fleet: &Fleet,
    mallory: &Member,
    at_bob: &mut Session,
    mosquitto: Option<&Mosquitto>,
) {
    let mut at_mallory = Session::of(mallory).await;
    let id = mallory.id.clone();
    let start = Instant::now();
    let revoked = fleet.operate(move |c| c.revoke_device(&id, "a test")).await;
    let revoked = revoked.unwrap();
    assert_eq!(revoked.revoked.as_deref(), Some("a test"));
    assert_eq!(revoked.certificate_expires_unix_s, None);
    at_mallory.is_cut_off().await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "cut off after {took:?} only");
    drop(at_mallory);
    if let Some(mosquitto) = mosquitto {
        mosquitto.reload();
        // It takes its signals when it has time, and nothing says when it has.
        let start = Instant::now();
        while Session::start(mallory.options(&mallory.id))
            .is_let_in()
            .await
        {
            assert!(start.elapsed() < PATIENCE, "mosquitto still lets her in");
        }
    }
    assert!(
        !Session::start(mallory.options(&mallory.id))
            .is_let_in()
            .await
    );
    assert_eq!(fleet.renew(mallory).await, None);
    let events = fleet.operate(|c| c.events(None, 5)).await.unwrap();
    assert!(events.iter().any(|e| e.kind == "revoked"), "{events:?}");
    assert_eq!(at_bob.connects, 1);
}

/// How many messages the server has refused since it started.
async fn refused_messages(fleet: &Fleet) -> usize {
    let events = fleet.operate(|c| c.events(None, 1000)).await.unwrap();
    events
        .iter()
        .filter(|e| e.kind == "message-refused")
        .count()
}

/// One connection, polled by a task of its own.
struct Session {
    client: AsyncClient,
    packets: mpsc::UnboundedReceiver<Option<Packet>>,
    task: JoinHandle<()>,
    /// How often it has been connected.
    connects: usize,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// A device, connected as itself.
    async fn of(member: &Member) -> Self {
        let mut session = Self::start(member.options(&member.id));
        assert!(session.is_let_in().await, "{} is not let in", member.id);
        session
    }

    fn start(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::new(options, 64);
        let (sender, packets) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let packet = match events.poll().await {
                    Ok(Event::Incoming(packet)) => Some(packet),
                    Ok(Event::Outgoing(_)) => continue,
                    // The next poll connects again.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        None
                    }
                };
                if sender.send(packet).is_err() {
                    return;
                }
            }
        });
        Self {
            client,
            packets,
            task,
            connects: 0,
        }
    }

    /// The next packet, or `None` for a lost or refused connection.
    async fn next(&mut self) -> Option<Packet> {
        let next = tokio::time::timeout(PATIENCE, self.packets.recv()).await;
        let packet = next.unwrap_or_else(|_| panic!("nothing came")).unwrap();
        if matches!(packet, Some(Packet::ConnAck(_))) {
            self.connects += 1;
        }
        packet
    }

    async fn is_let_in(&mut self) -> bool {
        matches!(self.next().await, Some(Packet::ConnAck(_)))
    }

    async fn is_cut_off(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Whether the broker says yes.
    async fn subscribe(&mut self, filter: &str) -> bool {
        self.client
            .subscribe(filter, QoS::AtLeastOnce)
            .await
            .unwrap();
        loop {
            match self.next().await {
                Some(Packet::SubAck(ack)) => {
                    return ack.return_codes != [rumqttc::SubscribeReasonCode::Failure];
                }
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Publishes, and waits until the broker has acknowledged it or ended the session.
    async fn publish(&mut self, to: &str, retain: bool) {
        let publish = self.client.publish(to, QoS::AtLeastOnce, retain, FORGED);
        publish.await.unwrap();
        while !matches!(self.next().await, Some(Packet::PubAck(_)) | None) {}
    }

    /// Sends a record as the device and waits for the server's acknowledgement of it; gives
    /// the topics of everything that came until then.
    async fn talk(&mut self, fleet: &Fleet, member: &Member) -> Vec<String> {
        let counter = fleet.count();
        let record = Record {
            sequence: counter,
            unix_ms: 1,
            body: Body::Observation(Observation {
                model: [1; 32],
                window: counter,
                score: 0.25,
                decision: Verdict::Normal,
                latency_us: 3,
                input: vec![],
                output: vec![],
            }),
        };
        let message = Numbered {
            device: member.id.clone(),
            instance: [1; 16],
            boot: 1,
            counter,
            message: Up::Batch(Batch {
                boot: 1,
                records: vec![record],
            }),
        };
        let payload = message.encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Up, &member.key);
        let up = topic::up(&member.id);
        let bytes = envelope.encode().unwrap();
        self.client
            .publish(up, QoS::AtLeastOnce, false, bytes)
            .await
            .unwrap();
        let mut heard = Vec::new();
        loop {
            let Some(Packet::Publish(publish)) = self.next().await else {
                continue;
            };
            assert_ne!(publish.payload, FORGED, "at {}", publish.topic);
            if topic::roots(&member.id) == publish.topic {
                continue;
            }
            heard.push(publish.topic.clone());
            let envelope = Envelope::decode(&publish.payload).unwrap();
            let payload = fleet.root.verify(Role::Fleet, Domain::Down, &envelope);
            let addressed = Addressed::decode(payload.unwrap()).unwrap();
            assert_eq!(addressed.device, member.id);
            if matches!(addressed.message, Down::Ack(ack) if ack.ranges == [(counter, counter)]) {
                return heard;
            }
        }
    }
}
