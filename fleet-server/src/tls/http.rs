//! The listener of the REST interface: HTTPS, or plain HTTP behind somebody else's TLS.
//!
//! A handshake is a task of its own with a time-out, and never delays the next connection. A
//! client may show a certificate of the fleet's authority; a bad one ends the connection, none
//! leaves the question to the gate.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::TlsIdentity;
use crate::http::Refusal;
use crate::metrics::Metrics;
use crate::state::Core;
use crate::store::Store;

/// Longest handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that have been accepted and wait to be served.
const QUEUE: usize = 64;

/// Who is at the other end of a request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    certificate: Option<TlsIdentity>,
}

/// Subject of the certificate that the client has shown, such as `operator:ann`; an extension
/// of requests that come over TLS with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerCertificate(pub(crate) String);

/// Puts [`PeerCertificate`] where handlers find it, unless it was revoked since the handshake.
pub(crate) async fn peer_certificate(
    State(core): State<Arc<Core>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let info = request.extensions().get::<ConnectInfo<Peer>>();
    if let Some(identity) = info.and_then(|ConnectInfo(peer)| peer.certificate.clone())
        && identity.is_valid(&core.store).await?
    {
        let certificate = PeerCertificate(identity.subject);
        request.extensions_mut().insert(certificate);
    }
    Ok(next.run(request).await)
}

/// The listener that axum serves.
pub(crate) struct HttpListener {
    local: SocketAddr,
    ready: mpsc::Receiver<(HttpStream, Peer)>,
    task: JoinHandle<()>,
}

impl Drop for HttpListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What each connection is put through.
struct Door {
    tls: Option<Arc<ServerConfig>>,
    store: Store,
    metrics: Arc<Metrics>,
}

impl HttpListener {
    /// Serves `listener`, without TLS when none is given, at most `connections` at once.
    pub(crate) fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        store: Store,
        metrics: Arc<Metrics>,
        connections: usize,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(QUEUE);
        let door = Arc::new(Door {
            tls,
            store,
            metrics,
        });
        let cap = Arc::new(Semaphore::new(connections));
        let task = tokio::spawn(door.run(listener, cap, sender));
        Ok(Self { local, ready, task })
    }
}

impl Door {
    async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        cap: Arc<Semaphore>,
        sender: mpsc::Sender<(HttpStream, Peer)>,
    ) {
        // Handshakes end with the listener.
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            let (tcp, addr) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = cap.clone().try_acquire_owned() else {
                self.metrics.over_cap.add(1);
                continue;
            };
            let (door, sender) = (self.clone(), sender.clone());
            handshakes.spawn(async move {
                let shaken = tokio::time::timeout(PATIENCE, door.admit(tcp, addr));
                if let Ok(Some((stream, peer))) = shaken.await {
                    let stream = HttpStream {
                        stream,
                        _permit: permit,
                    };
                    // The server is gone otherwise, and so is the connection.
                    let _ = sender.send((stream, peer)).await;
                }
            });
        }
    }

    async fn admit(&self, tcp: TcpStream, addr: SocketAddr) -> Option<(Stream, Peer)> {
        let _ = tcp.set_nodelay(true);
        let mut peer = Peer {
            addr,
            certificate: None,
        };
        let Some(tls) = &self.tls else {
            return Some((Stream::Plain(tcp), peer));
        };
        let stream = match TlsAcceptor::from(tls.clone()).accept(tcp).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, %addr, "a TLS handshake failed");
                return None;
            }
        };
        if let Some(certificate) = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
        {
            // Revoked, never recorded, or nobody can say: none of them is let in.
            peer.certificate = match TlsIdentity::of(&self.store, certificate).await {
                Ok(Some(identity)) => Some(identity),
                Ok(None) => return None,
                Err(error) => {
                    tracing::error!(%error, "a client's certificate cannot be looked up");
                    return None;
                }
            };
        }
        Some((Stream::Tls(Box::new(stream)), peer))
    }
}

impl Listener for HttpListener {
    type Io = HttpStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (HttpStream, Peer) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The task that accepts never ends before this listener does.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer {
            addr: self.local,
            certificate: None,
        })
    }
}

impl Connected<IncomingStream<'_, HttpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, HttpListener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A connection, which counts against the cap while it lives.
pub(crate) struct HttpStream {
    stream: Stream,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! forward {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match &mut $self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for HttpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown(cx))
    }
}
