//! A wire tap before the server's own broker: relays a TCP connection and keeps every byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::error::{Result, io};

/// See the module; ends when dropped.
pub(crate) struct Wiretap {
    addr: SocketAddr,
    target: Arc<OnceLock<u16>>,
    recorded: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Wiretap {
    /// Listens on loopback; connections are closed until there is a target.
    pub(crate) fn start(runtime: &Runtime) -> Result<Self> {
        let what = || "listen on loopback".to_owned();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = io(what, listener)?;
        let addr = io(what, listener.local_addr())?;
        let target = Arc::new(OnceLock::new());
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let (to, record) = (target.clone(), recorded.clone());
        let task = runtime.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                if let Some(port) = to.get() {
                    tokio::spawn(relay(stream, *port, record.clone()));
                }
            }
        });
        Ok(Self {
            addr,
            target,
            recorded,
            task,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Where connections go from now on; the first call counts.
    pub(crate) fn set_target(&self, port: u16) {
        let _ = self.target.set(port);
    }

    /// Every byte of both directions so far.
    pub(crate) fn recorded(&self) -> Vec<u8> {
        let recorded = self.recorded.lock();
        recorded.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(near: TcpStream, port: u16, recorded: Arc<Mutex<Vec<u8>>>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::join!(
        pump(near_in, far_out, &recorded),
        pump(far_in, near_out, &recorded)
    );
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, recorded: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..read).filter(|b| !b.is_empty()) else {
            break;
        };
        recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        if to.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
