//! The listener before the embedded broker: TLS with a device's certificate, then MQTT.
//!
//! A connection becomes a session of the broker when its certificate is the authority's and
//! not revoked, when its first packet is a CONNECT whose client id is the certificate's
//! device, and when that device takes part. Then bytes are copied both ways, and the broker,
//! which listens on loopback only, sees credentials that are drawn at each start and that
//! nobody else has. Nothing waits for a slow stranger: each connection is a task of its own,
//! with [`PATIENCE`] until it is a session, and those over the cap are closed at once.

mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::TlsIdentity;
use super::connect::Connect;
use crate::ServerError;
use crate::error::listen_hint;
use crate::metrics::Metrics;
use crate::rate::Rate;
use crate::store::{Admission, Kind, NewEvent, Store};

use session::Session;
pub(crate) use session::Sessions;

/// Longest time from a connection to its session: handshake and first packet.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one direction may go on when the other has ended.
const GRACE: Duration = Duration::from_secs(5);

/// How much the front takes on at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrontLimits {
    /// Connections, sessions and strangers together.
    pub(crate) connections: usize,
    /// Handshakes being computed; more wait for their turn.
    pub(crate) handshakes: usize,
}

/// What the front needs, whether it listens or not.
pub(crate) struct Front {
    tls: Arc<ServerConfig>,
    store: Store,
    metrics: Arc<Metrics>,
    sessions: Sessions,
    connections: Arc<Semaphore>,
    handshakes: Semaphore,
    /// What the broker takes as proof that a session came through here.
    password: String,
    noted: Rate,
}

/// A front that listens; dropping it ends it and all its sessions.
pub(crate) struct Listening {
    addr: SocketAddr,
    task: JoinHandle<()>,
    sessions: Sessions,
}

impl Listening {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        self.sessions.cut_all();
    }
}

impl Front {
    pub(crate) fn new(
        tls: Arc<ServerConfig>,
        store: Store,
        metrics: Arc<Metrics>,
        limits: FrontLimits,
        password: String,
    ) -> Self {
        Self {
            tls,
            store,
            metrics,
            sessions: Sessions::default(),
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Semaphore::new(limits.handshakes),
            password,
            noted: Rate::new(1, Duration::from_secs(60)),
        }
    }

    /// Sessions that live now.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Listens on `addr` for the broker at `broker`.
    pub(crate) async fn listen(
        self: &Arc<Self>,
        addr: SocketAddr,
        broker: SocketAddr,
    ) -> Result<Listening, ServerError> {
        let failed = |source| ServerError::Listen {
            what: "the embedded broker",
            addr,
            hint: listen_hint(&source),
            source,
        };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(self.clone().run(listener, broker));
        Ok(Listening {
            addr,
            task,
            sessions: self.sessions.clone(),
        })
    }

    async fn run(self: Arc<Self>, listener: TcpListener, broker: SocketAddr) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, most likely: what ends makes room.
                    tracing::warn!(%error, "a device's connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match self.connections.clone().try_acquire_owned() {
                Ok(permit) => drop(tokio::spawn(self.clone().serve(stream, broker, permit))),
                Err(_) => self.metrics.over_cap.add(1),
            }
        }
    }

    async fn serve(self: Arc<Self>, tcp: TcpStream, broker: SocketAddr, _: OwnedSemaphorePermit) {
        match tokio::time::timeout(PATIENCE, self.admit(tcp)).await {
            Ok(Some((stream, connect, session))) => {
                self.metrics.sessions.add(1);
                self.relay(stream, &connect, session, broker).await;
            }
            Ok(None) | Err(_) => self.metrics.front_refused.add(1),
        }
    }

    async fn admit(&self, tcp: TcpStream) -> Option<(TlsStream<TcpStream>, Connect, Session)> {
        // Small packets go out at once; a socket that does not take the option still works.
        let _ = tcp.set_nodelay(true);
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp);
        let hello = hello.await.ok()?;
        let mut stream = {
            let _turn = self.handshakes.acquire().await.ok()?;
            match hello.into_stream(self.tls.clone()).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a TLS handshake with a device failed");
                    return None;
                }
            }
        };
        let connect = Connect::read(&mut stream).await?;
        match self.identify(&stream, &connect).await {
            Some(session) => Some((stream, connect, session)),
            None => {
                // Whoever is refused may be gone already.
                let _ = stream.write_all(connect.refusal()).await;
                let _ = stream.shutdown().await;
                None
            }
        }
    }

    async fn identify(&self, stream: &TlsStream<TcpStream>, connect: &Connect) -> Option<Session> {
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        let unanswered = |error: ServerError| {
            tracing::error!(%error, "device cannot connect: the database does not answer");
        };
        let identity = TlsIdentity::of(&self.store, certificate)
            .await
            .map_err(unanswered)
            .ok()?;
        let Some(identity) = identity.filter(|i| i.kind == Kind::Device) else {
            tracing::debug!(client = connect.client_id, "certificate revoked or unknown");
            return None;
        };
        let device = identity.subject;
        if device != connect.client_id {
            self.note_mismatch(&device, &connect.client_id).await;
            return None;
        }
        // Entered before it is asked, so that a revocation in between cuts it.
        let session = self.sessions.enter(&device);
        match self
            .store
            .admission(&device)
            .await
            .map_err(unanswered)
            .ok()?
        {
            Admission::Welcome => Some(session),
            refused => {
                tracing::debug!(device, why = refused.why(), "device may not connect");
                None
            }
        }
    }

    /// A device that asks to be somebody else is an attack, or a fault that looks like one.
    async fn note_mismatch(&self, device: &str, wanted: &str) {
        if !self.noted.allows(device) {
            return;
        }
        let shown: String = wanted
            .chars()
            .filter(|c| !c.is_control())
            .take(64)
            .collect();
        let detail = format!("its certificate was shown with the client id {shown:?}");
        let event = NewEvent::of(
            device,
            drover_api::Severity::Security,
            "identity-mismatch",
            detail,
        );
        if let Err(error) = self.store.add_event(&event).await {
            tracing::error!(%error, "an event is lost");
        }
    }

    async fn relay(
        &self,
        stream: TlsStream<TcpStream>,
        connect: &Connect,
        session: Session,
        broker: SocketAddr,
    ) {
        let Some(packet) = connect.write_as(&connect.client_id, &self.password) else {
            return;
        };
        let Ok(mut inner) = TcpStream::connect(broker).await else {
            tracing::debug!("the broker does not listen");
            return;
        };
        let _ = inner.set_nodelay(true);
        if inner.write_all(&packet).await.is_err() {
            return;
        }
        let (mut from_device, mut to_device) = tokio::io::split(stream);
        let (mut from_broker, mut to_broker) = inner.split();
        // Errors mean that a side is gone, which ends the session as its end does.
        let up = async {
            let _ = copy(&mut from_device, &mut to_broker).await;
            let _ = to_broker.shutdown().await;
        };
        let down = async {
            let _ = copy(&mut from_broker, &mut to_device).await;
            let _ = to_device.shutdown().await;
        };
        tokio::pin!(up, down);
        let whole = async {
            // What is under way in the other direction still arrives.
            tokio::select! {
                () = &mut up => drop(tokio::time::timeout(GRACE, down).await),
                () = &mut down => drop(tokio::time::timeout(GRACE, up).await),
            }
        };
        tokio::select! {
            () = whole => {}
            () = session.cut() => {}
        }
    }
}
