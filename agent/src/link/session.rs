//! One connection to the broker, from connect to loss.
//!
//! rumqttc's sharp edges are kept outside: packet sizes are checked before `publish` (one
//! that is too large would cost the connection), the poll of the event loop is never
//! cancelled half-way, and the number of unacknowledged messages is limited here, well below
//! the packet identifiers that rumqttc cycles through.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use drover_trust::{Domain, Envelope};
use drover_wire::limits::MAX_PACKET_BYTES;
use drover_wire::message::Up;
use drover_wire::topic;
use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions,
    Packet, Publish, QoS, SubscribeReasonCode,
};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::LinkOptions;
use crate::identity::Identity;
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
    /// The connection was lost or never made.
    Lost(String),
    /// Nobody is left to serve.
    DriverGone,
}

/// One connection.
pub(super) struct Session<'a> {
    identity: &'a Identity,
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
    up_topic: String,
    ready: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        options: &LinkOptions,
        identity: &'a Identity,
        input: &'a mpsc::Sender<Input>,
        permits: &'a Arc<Semaphore>,
    ) -> Self {
        let device = identity.device.as_str();
        let enrolment = &identity.enrolment;
        let mut mqtt = MqttOptions::new(
            device,
            enrolment.broker_host.as_str(),
            enrolment.broker_port,
        );
        mqtt.set_credentials(device, enrolment.mqtt_password.as_str())
            .set_clean_session(true)
            .set_keep_alive(Duration::from_secs(options.keepalive_secs.max(1)))
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
            .set_inflight(PACKET_IDS);
        let (client, mut event_loop) = AsyncClient::new(mqtt, REQUESTS);
        event_loop
            .network_options
            .set_connection_timeout(options.connect_timeout_secs.max(1));
        Self {
            identity,
            input,
            permits,
            client,
            event_loop: Some(event_loop),
            in_flight_limit: usize::from(options.in_flight.max(1)),
            in_flight: 0,
            taken_at: Instant::now(),
            down_topic: topic::down(device),
            up_topic: topic::up(device),
            ready: false,
        }
    }

    /// Whether messages could be sent at some time.
    pub(super) fn was_ready(&self) -> bool {
        self.ready
    }

    /// Connects and serves until the connection is lost.
    pub(super) async fn serve(&mut self, outgoing: &mut Receiver<Outgoing>) -> End {
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
                        Some(message) => if let Err(error) = self.send(message) {
                            return End::Lost(error.to_string());
                        },
                        None => return End::DriverGone,
                    },
                    () = tokio::time::sleep_until(stalled), if self.in_flight > 0 => {
                        return End::Lost("the broker takes no messages".into());
                    }
                }
            };
            let handled = match event {
                Ok(event) => self.on(event).await,
                Err(error) => Err(End::Lost(describe(&error))),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    fn may_send(&self) -> bool {
        self.ready && self.in_flight < self.in_flight_limit
    }

    async fn on(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => self
                .client
                .try_subscribe(self.down_topic.as_str(), QoS::AtLeastOnce)
                .map_err(|error| End::Lost(error.to_string())),
            // The first is for the device's own topic; those of bundles follow later.
            Event::Incoming(Packet::SubAck(ack)) if !self.ready => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    let why = "the broker does not let this device read its own topic";
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
        if bundle.is_none() && publish.topic != self.down_topic {
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
            None => Input::Message { bytes, permit },
        })
    }

    fn hand(&self, input: Input) -> Result<(), End> {
        self.input.send(input).map_err(|_| End::DriverGone)
    }

    fn send(&mut self, message: Outgoing) -> Result<(), ClientError> {
        match message {
            Outgoing::Publish(message) => {
                if let Some(bytes) = self.sign(&message) {
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

    /// The bytes to send; none when no packet can carry them.
    fn sign(&self, message: &Up) -> Option<Vec<u8>> {
        let signed = message.encode().map_err(|error| error.to_string());
        let signed = signed.and_then(|payload| {
            let envelope = Envelope::signed(payload, Domain::Up, &self.identity.key);
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

/// What happened, with what a person can do.
fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "the broker refuses this device: it waits for approval (`drover device approve`), or \
              its password was replaced (`drover-agent enroll` renews it)"
            .into(),
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
