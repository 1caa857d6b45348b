//! The broker inside this process: crate `mqtt5`, nowhere else named.
//!
//! It listens on loopback only and lets nobody in but the server's own link and what the TLS
//! front hands on. Sessions and queues live in memory only and are bounded: what does not fit
//! is lost, as from any broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use drover_api::BrokerKind;
use drover_wire::limits::MAX_PACKET_BYTES;
use mqtt5::broker::{
    BrokerConfig, MqttBroker, StorageBackendType, StorageConfig, server::BrokerShutdownHandle,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{Boxed, Broker, Endpoint, Gate, Login};
use crate::ServerError;
use crate::error::listen_hint;
use crate::tls::{Front, Listening};

/// Longest wait for the broker to listen or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// The broker inside this process.
pub(crate) struct EmbeddedBroker {
    gate: Arc<Gate>,
    front: Arc<Front>,
    /// Sessions at once at most, the server's own not counted.
    clients: usize,
    running: Mutex<Option<Running>>,
    up: Arc<AtomicBool>,
    addrs: StdMutex<Addrs>,
}

/// First as configured, then as bound: after a restart everybody finds it where it was.
#[derive(Clone, Copy)]
struct Addrs {
    /// Of the front, for devices.
    front: SocketAddr,
    /// Of the broker itself, on loopback.
    broker: SocketAddr,
}

struct Running {
    front: Listening,
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<()>,
}

impl EmbeddedBroker {
    pub(crate) fn new(listen: SocketAddr, gate: Gate, front: Front, clients: usize) -> Self {
        Self {
            clients,
            gate: Arc::new(gate),
            front: Arc::new(front),
            running: Mutex::new(None),
            up: Arc::new(AtomicBool::new(false)),
            addrs: StdMutex::new(Addrs {
                front: listen,
                broker: ([127, 0, 0, 1], 0).into(),
            }),
        }
    }

    fn addrs(&self) -> Addrs {
        *self.addrs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(&self) -> Result<(), ServerError> {
        let mut running = self.running.lock().await;
        if self.is_running() {
            return Ok(());
        }
        let Addrs {
            front,
            broker: addr,
        } = self.addrs();
        // Asked first, because the broker's own error does not say what is wrong.
        drop(
            std::net::TcpListener::bind(addr).map_err(|source| ServerError::Listen {
                what: "the embedded broker",
                addr,
                hint: listen_hint(&source),
                source,
            })?,
        );
        let failed = |e: mqtt5::MqttError| ServerError::Broker(e.to_string());
        let mut broker = MqttBroker::with_config(config(addr, self.clients))
            .await
            .map_err(failed)?
            .with_auth_provider(self.gate.clone());
        let bound = broker.local_addr().unwrap_or(addr);
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let up = self.up.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "the embedded broker failed");
            }
            up.store(false, Ordering::Release);
        });
        let listening = tokio::time::timeout(PATIENCE, ready.wait_for(|ready| *ready))
            .await
            .is_ok_and(|ready| ready.is_ok());
        if !listening {
            task.abort();
            return Err(ServerError::Broker("it does not get ready".into()));
        }
        let front = match self.front.listen(front, bound).await {
            Ok(front) => front,
            Err(error) => {
                shutdown.shutdown();
                task.abort();
                return Err(error);
            }
        };
        let addr = front.addr();
        *self.addrs.lock().unwrap_or_else(PoisonError::into_inner) = Addrs {
            front: addr,
            broker: bound,
        };
        self.up.store(true, Ordering::Release);
        *running = Some(Running {
            front,
            shutdown,
            task,
        });
        tracing::info!(%addr, "the embedded broker listens");
        Ok(())
    }

    async fn close(&self) {
        let mut running = self.running.lock().await;
        if let Some(Running {
            front,
            shutdown,
            mut task,
        }) = running.take()
        {
            drop(front);
            shutdown.shutdown();
            if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
                task.abort();
            }
            self.up.store(false, Ordering::Release);
            tracing::info!("the embedded broker has stopped");
        }
    }
}

impl Drop for EmbeddedBroker {
    /// A server that is dropped, or that fails to start, leaves no broker behind.
    fn drop(&mut self) {
        if let Some(Running { shutdown, task, .. }) = self.running.get_mut().take() {
            shutdown.shutdown();
            task.abort();
        }
    }
}

impl Broker for EmbeddedBroker {
    fn kind(&self) -> BrokerKind {
        BrokerKind::Embedded
    }

    fn start(&self) -> Boxed<'_, Result<(), ServerError>> {
        Box::pin(self.listen())
    }

    fn stop(&self) -> Boxed<'_, Result<(), ServerError>> {
        Box::pin(async {
            self.close().await;
            Ok(())
        })
    }

    fn is_running(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.addrs().front)
    }

    fn endpoint(&self) -> Endpoint {
        let addr = self.addrs().broker;
        Endpoint {
            host: addr.ip().to_string(),
            port: addr.port(),
            tls: None,
        }
    }

    fn login(&self) -> Login {
        self.gate.login()
    }

    fn for_devices(&self) -> (String, u16) {
        let addr = self.addrs().front;
        let host = match addr.ip() {
            ip if ip.is_unspecified() && ip.is_ipv6() => "::1".to_owned(),
            ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
            ip => ip.to_string(),
        };
        (host, addr.port())
    }

    fn cut<'a>(&'a self, device: &'a str) -> Boxed<'a, Result<(), ServerError>> {
        let ended = self.front.sessions().cut(device);
        tracing::info!(device, ended, "sessions were cut");
        Box::pin(async { Ok(()) })
    }

    fn revoked(&self, _: &str) -> Result<(), ServerError> {
        // The front asks the database at each connect.
        Ok(())
    }

    fn sessions(&self) -> Option<usize> {
        Some(self.front.sessions().count())
    }
}

fn config(addr: SocketAddr, clients: usize) -> BrokerConfig {
    let storage = StorageConfig::new()
        .with_backend(StorageBackendType::Memory)
        .with_max_queued_messages_per_client(256)
        .with_max_queued_bytes_per_client(4 * 1024 * 1024);
    BrokerConfig::new()
        .with_bind_address(addr)
        // The server's own link, and those that are being replaced.
        .with_max_clients(clients.saturating_add(16))
        .with_max_packet_size(MAX_PACKET_BYTES)
        .with_maximum_qos(1)
        .with_retain_available(false)
        .with_max_subscriptions_per_client(64)
        .with_session_expiry(Duration::from_secs(60))
        .with_client_channel_capacity(256)
        .with_sys_topics_enabled(false)
        .with_storage(storage)
}
