//! One connection to the broker, from connect to loss.
//!
//! rumqttc's sharp edges are kept outside: packet sizes are checked before `publish` (one
//! that is too large would cost the connection), the poll of the event loop is never
//! cancelled half-way, and the number of unacknowledged messages is limited here, well below
//! the packet identifiers that rumqttc cycles through.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use drover_trust::{DeviceId, Domain, Envelope, SecretKey};
use drover_wire::limits::MAX_PACKET_BYTES;
use drover_wire::message::{self, Up};
use drover_wire::topic;
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions, Packet, Publish, QoS,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::renewer::Renewer;
use super::tls::{self, TlsError};
use super::{LinkOptions, Party};
use crate::identity::Enrolment;
use crate::ota::{Input, Outgoing};

/// Room for an MQTT header and the topic, in bytes.
const HEADER_BYTES: usize = 128;
/// Packet identifiers that rumqttc cycles through.
const PACKET_IDS: u16 = 1000;
/// Requests that wait in rumqttc's channel at most.
const REQUESTS: usize = 128;
/// A broker that takes no message for so long is given up.
const STALLED: Duration = Duration::from_secs(60);

/// Why a session ended.
pub(super) enum End {
    /// The connection was lost, or nobody was there.
    Lost(String),
    /// Somebody was there and did not let this device in.
    Refused(String),
    /// There is another certificate, or another fleet.
    Changed,
    /// There was none.
    Idle,
    /// Nobody is left to serve.
    DriverGone,
}

/// Numbers what goes out, over all connections of this start of the agent.
#[derive(Debug)]
pub(super) struct Numbering {
    device: String,
    instance: [u8; 16],
    boot: u64,
    counter: u64,
}

impl Numbering {
    pub(super) fn start(device: &DeviceId, boot: u64) -> Self {
        let mut instance = [0; 16];
        if let Err(error) = getrandom::fill(&mut instance) {
            // A clone could not be told from this device then; all else holds.
            tracing::error!(%error, "the system gives no random numbers");
        }
        Self {
            device: device.as_str().to_owned(),
            instance,
            boot,
            counter: 0,
        }
    }

    /// The bytes to send, signed; none when no packet can carry them.
    fn seal(&mut self, message: Up, key: &SecretKey) -> Option<Vec<u8>> {
        self.counter += 1;
        let numbered = message::Numbered {
            device: self.device.clone(),
            instance: self.instance,
            boot: self.boot,
            counter: self.counter,
            message,
        };
        let signed = numbered.encode().map_err(|error| error.to_string());
        let signed = signed.and_then(|payload| {
            let envelope = Envelope::signed(payload, Domain::Up, key);
            envelope.encode().map_err(|error| error.to_string())
        });
        match signed {
            Ok(bytes) if bytes.len() + HEADER_BYTES <= MAX_PACKET_BYTES => Some(bytes),
            Ok(bytes) => {
                tracing::error!(bytes = bytes.len(), "a message is too large to be sent");
                None
            }
            Err(why) => {
                tracing::error!(why, "a message cannot be sent");
                None
            }
        }
    }
}

/// One connection.
pub(super) struct Session<'a> {
    party: &'a Party,
    input: &'a mpsc::Sender<Input>,
    permits: &'a Arc<Semaphore>,
    client: AsyncClient,
    event_loop: Option<EventLoop>,
    in_flight_limit: usize,
    /// Messages given to rumqttc and not yet taken by the broker.
    in_flight: usize,
    /// When the broker last took a message, or had none to take.
    taken_at: Instant,
    down_topic: String,
    roots_topic: String,
    up_topic: String,
    /// The broker greeted this device.
    greeted: bool,
    ready: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        options: &LinkOptions,
        party: &'a Party,
        enrolment: &Enrolment,
        input: &'a mpsc::Sender<Input>,
        permits: &'a Arc<Semaphore>,
    ) -> Result<Self, TlsError> {
        let device = party.member.device().as_str();
        let access = &enrolment.access;
        let config = tls::client_config(party.member.key(), access, &party.trust)?;
        let mut mqtt = MqttOptions::new(device, access.broker_host.as_str(), access.broker_port);
        let config = TlsConfiguration::Rustls(Arc::new(config));
        mqtt.set_transport(Transport::Tls(config))
            .set_clean_session(true)
            .set_keep_alive(Duration::from_secs(options.keepalive_secs.max(1)))
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
            .set_inflight(PACKET_IDS);
        let (client, mut event_loop) = AsyncClient::new(mqtt, REQUESTS);
        event_loop
            .network_options
            .set_connection_timeout(options.connect_timeout_secs.max(1));
        Ok(Self {
            party,
            input,
            permits,
            client,
            event_loop: Some(event_loop),
            in_flight_limit: usize::from(options.in_flight.max(1)),
            in_flight: 0,
            taken_at: Instant::now(),
            down_topic: topic::down(device),
            roots_topic: topic::roots(device),
            up_topic: topic::up(device),
            greeted: false,
            ready: false,
        })
    }

    /// Whether messages could be sent at some time.
    pub(super) fn was_ready(&self) -> bool {
        self.ready
    }

    /// Connects and serves until the connection is lost or has to be made anew.
    pub(super) async fn serve(
        &mut self,
        outgoing: &mut Receiver<Outgoing>,
        numbering: &mut Numbering,
        renewer: &mut Renewer,
        changes: &mut watch::Receiver<Arc<Enrolment>>,
    ) -> End {
        let Some(mut event_loop) = self.event_loop.take() else {
            return End::Lost("a session serves once".into());
        };
        loop {
            // Dropping a poll half-way could drop part of a packet, so it is polled to its
            // end while messages go out beside it.
            let mut poll = pin!(event_loop.poll());
            let event = loop {
                let stalled = self.taken_at + STALLED;
                tokio::select! {
                    event = &mut poll => break event,
                    message = outgoing.recv(), if self.may_send() => match message {
                        Some(message) => if let Err(error) = self.send(message, numbering) {
                            return End::Lost(error.to_string());
                        },
                        None => return End::DriverGone,
                    },
                    () = tokio::time::sleep_until(stalled), if self.in_flight > 0 => {
                        return End::Lost("the broker takes no messages".into());
                    }
                    renewed = renewer.renewed() => {
                        let handed = self.hand(Input::Granted(renewed));
                        return handed.err().unwrap_or(End::Changed);
                    }
                    changed = changes.changed() => {
                        return changed.map_or(End::DriverGone, |()| End::Changed);
                    }
                }
            };
            let handled = match event {
                Ok(event) => self.on(event).await,
                Err(error) => Err(self.judge(&error)),
            };
            if let Err(end) = handled {
                return end;
            }
            if self.ready {
                renewer.accepted();
            }
        }
    }

    /// Whether somebody said no, or nobody was there. A broker that closes before it has
    /// greeted may have sent its reason into a connection that was gone already.
    fn judge(&self, error: &ConnectionError) -> End {
        let why = describe(error);
        let answered = match error {
            ConnectionError::Tls(_)
            | ConnectionError::ConnectionRefused(_)
            | ConnectionError::NotConnAck(_)
            | ConnectionError::MqttState(_) => true,
            ConnectionError::Io(error) => is_answer(error),
            _ => false,
        };
        if answered && !self.greeted {
            End::Refused(why)
        } else {
            End::Lost(why)
        }
    }

    fn may_send(&self) -> bool {
        self.ready && self.in_flight < self.in_flight_limit
    }

    async fn on(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.greeted = true;
                let topics = [&self.down_topic, &self.roots_topic];
                let filter = |topic: &String| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce);
                self.client
                    .try_subscribe_many(topics.map(filter))
                    .map_err(|error| End::Lost(error.to_string()))
            }
            // The first is for the device's own topics; those of bundles follow later.
            Event::Incoming(Packet::SubAck(ack)) if !self.ready => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    let why = "the broker does not let this device read its own topics";
                    return Err(End::Lost(why.into()));
                }
                self.ready = true;
                tracing::info!("connected to the fleet");
                self.hand(Input::Connected)
            }
            Event::Incoming(Packet::Publish(publish)) => self.take(publish).await,
            Event::Incoming(Packet::PubAck(_)) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.taken_at = Instant::now();
                Ok(())
            }
            Event::Incoming(Packet::Disconnect) => {
                Err(End::Lost("the broker closed the connection".into()))
            }
            Event::Incoming(_) | Event::Outgoing(_) => Ok(()),
        }
    }

    /// Hands a message to the driver once few enough wait there.
    async fn take(&mut self, publish: Publish) -> Result<(), End> {
        let bundle = topic::digest_of_bundle(&publish.topic);
        let is_roots = publish.topic == self.roots_topic;
        if bundle.is_none() && !is_roots && publish.topic != self.down_topic {
            return Ok(());
        }
        let permit = Arc::clone(self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| End::DriverGone)?;
        let bytes = publish.payload.to_vec();
        self.hand(match bundle {
            Some(digest) => Input::Chunk {
                digest,
                bytes,
                permit,
            },
            None if is_roots => Input::Roots { bytes, permit },
            None => Input::Message { bytes, permit },
        })
    }

    fn hand(&self, input: Input) -> Result<(), End> {
        self.input.send(input).map_err(|_| End::DriverGone)
    }

    fn send(&mut self, message: Outgoing, numbering: &mut Numbering) -> Result<(), ClientError> {
        match message {
            Outgoing::Publish(message) => {
                if let Some(bytes) = numbering.seal(message, self.party.member.key()) {
                    let topic = self.up_topic.as_str();
                    self.client
                        .try_publish(topic, QoS::AtLeastOnce, false, bytes)?;
                    if self.in_flight == 0 {
                        self.taken_at = Instant::now();
                    }
                    self.in_flight += 1;
                }
                Ok(())
            }
            Outgoing::Subscribe(digest) => self
                .client
                .try_subscribe(topic::bundle(&digest), QoS::AtLeastOnce),
            Outgoing::Unsubscribe(digest) => self.client.try_unsubscribe(topic::bundle(&digest)),
        }
    }
}

/// Whether the other side ended the connection, with a reason or without.
fn is_answer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    let closed = [
        K::ConnectionReset,
        K::ConnectionAborted,
        K::BrokenPipe,
        K::UnexpectedEof,
    ];
    let by_tls = error.get_ref().is_some_and(|e| e.is::<rustls::Error>());
    by_tls || closed.contains(&error.kind())
}

/// What happened, with what a person can do.
fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(_) => {
            "the broker refuses this device; was it revoked, or does it wait for approval \
             (`drover device approve`)?"
                .into()
        }
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
