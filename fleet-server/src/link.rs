//! The server's own connection to the broker, embedded or not.
//!
//! Sessions are clean, so after each connect the link subscribes again. Publishing is
//! best effort: without a connection a message is given up at once, because whoever needs it
//! asks again. Messages from devices that arrive faster than they are handled are dropped and
//! counted; devices repeat what was not acknowledged.

use std::sync::Arc;
use std::time::Duration;

use drover_wire::limits::MAX_PACKET_BYTES;
use drover_wire::topic;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport,
};
use tokio::sync::{Notify, mpsc, watch};

use crate::broker::Broker;
use crate::metrics::Metrics;
use crate::random;

/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Longest wait for room in the client's queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message from a device, unread.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// Sends to devices.
#[derive(Clone)]
pub(crate) struct Link {
    client: AsyncClient,
    connected: watch::Receiver<bool>,
    hurry: Arc<Notify>,
}

/// The half that runs.
pub(crate) struct LinkTask {
    events: EventLoop,
    client: AsyncClient,
    connected: watch::Sender<bool>,
    hurry: Arc<Notify>,
    incoming: mpsc::Sender<Incoming>,
    metrics: Arc<Metrics>,
}

impl Link {
    /// A link to `broker` that hands messages of devices to `incoming`.
    pub(crate) fn new(
        broker: &dyn Broker,
        incoming: mpsc::Sender<Incoming>,
        metrics: Arc<Metrics>,
    ) -> (Self, LinkTask) {
        let endpoint = broker.endpoint();
        let login = broker.login();
        let mut options = MqttOptions::new(login.client_id, endpoint.host, endpoint.port);
        if let Some(tls) = endpoint.tls {
            let tls = TlsConfiguration::Rustls(tls);
            options.set_transport(Transport::tls_with_config(tls));
        }
        options
            .set_keep_alive(Duration::from_secs(15))
            .set_clean_session(true)
            .set_inflight(64)
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        if let Some((user, password)) = login.credentials {
            options.set_credentials(user, password);
        }
        let (client, events) = AsyncClient::new(options, 64);
        let (sender, connected) = watch::channel(false);
        let hurry = Arc::new(Notify::new());
        let link = Self {
            client: client.clone(),
            connected,
            hurry: hurry.clone(),
        };
        let task = LinkTask {
            events,
            client,
            connected: sender,
            hurry,
            incoming,
            metrics,
        };
        (link, task)
    }

    /// Whether messages get through now.
    pub(crate) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Tells of each change between connected and not.
    pub(crate) fn changes(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Tries to connect now: the broker has just been started.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Hands a message to the broker; `false` when it was given up.
    pub(crate) async fn publish(&self, topic: String, payload: Vec<u8>) -> bool {
        if !self.is_connected() || payload.len() + topic.len() + 16 > MAX_PACKET_BYTES {
            return false;
        }
        let publish = self.client.publish(topic, QoS::AtLeastOnce, false, payload);
        matches!(tokio::time::timeout(PATIENCE, publish).await, Ok(Ok(())))
    }
}

impl LinkTask {
    /// Connects, and connects again, for ever.
    pub(crate) async fn run(mut self) {
        let mut failures = 0u32;
        loop {
            match self.events.poll().await {
                Ok(event) => {
                    failures = 0;
                    self.on(event);
                }
                Err(error) => {
                    if self.connected.send_replace(false) || failures == 0 {
                        tracing::warn!(%error, "no connection to the broker; trying again");
                    }
                    failures = failures.saturating_add(1);
                    tokio::select! {
                        () = tokio::time::sleep(pause(failures)) => {}
                        () = self.hurry.notified() => failures = 1,
                    }
                }
            }
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.metrics.connects.add(1);
                if self
                    .client
                    .try_subscribe(topic::ALL_UP, QoS::AtLeastOnce)
                    .is_err()
                {
                    tracing::error!("cannot subscribe: the client's queue is full");
                }
            }
            Event::Incoming(Packet::SubAck(_)) => {
                tracing::info!("connected to the broker");
                self.connected.send_replace(true);
            }
            Event::Incoming(Packet::Publish(publish)) => {
                self.metrics.up_messages.add(1);
                let incoming = Incoming {
                    topic: publish.topic,
                    payload: publish.payload.to_vec(),
                };
                // Waiting here would stop the acknowledgements that make room.
                if self.incoming.try_send(incoming).is_err() {
                    self.metrics.up_dropped.add(1);
                }
            }
            _ => {}
        }
    }
}

/// 50 ms, doubled with each failure, at most [`MAX_PAUSE`]; jittered by a half.
fn pause(failures: u32) -> Duration {
    let exact = Duration::from_millis(50).saturating_mul(1 << failures.min(10));
    let millis = u64::try_from(exact.min(MAX_PAUSE).as_millis()).unwrap_or(0);
    Duration::from_millis(millis / 2 + random::below(millis / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_cap() {
        assert!(pause(1) <= Duration::from_millis(100));
        for failures in [7, 40, u32::MAX] {
            assert!(pause(failures) >= MAX_PAUSE / 2 && pause(failures) <= MAX_PAUSE);
        }
    }
}
