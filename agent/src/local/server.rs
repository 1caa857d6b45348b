//! Serves the local socket.
//!
//! The socket is made under another name and then renamed into place, so that it is never
//! there without its mode, and so that one left over by a killed agent is replaced. Two
//! tasks per application, one for each direction.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use super::message::{Answer, PushedRow, Request};
use crate::AgentError;
use crate::source::{Columns, Feed, Row, Sender};
use crate::status::Status;

/// Longest line of an application, in bytes.
const LINE_MAX: u64 = 64 * 1024;
/// Requests of one application that wait for their answer.
const REQUESTS: usize = 8;
/// Owner and group may read and write: an application joins the agent's group.
const MODE: u32 = 0o660;

/// What the server hands out and takes in.
pub struct Desk {
    /// Results as lines; each application reads from where it joined.
    pub results: broadcast::Sender<Arc<str>>,
    /// The agent's state.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// Where pushed rows go.
    pub rows: RowSink,
}

/// Where rows go that applications push.
pub enum RowSink {
    /// To the runner.
    Runner {
        /// The queue.
        rows: Sender,
        /// Channels of the model that runs.
        channels: Box<dyn Fn() -> Option<Columns> + Send + Sync>,
    },
    /// Nowhere: the agent has another source, this one.
    Other(String),
}

/// A socket that is bound and not yet served.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket at `path`.
    ///
    /// # Errors
    /// [`AgentError::AlreadyRunning`] when another agent answers there, [`AgentError::File`]
    /// when the place cannot be used.
    pub fn bind(path: &Path) -> Result<Self, AgentError> {
        if super::is_alive(path) {
            return Err(AgentError::AlreadyRunning {
                path: path.to_owned(),
            });
        }
        let failed = || AgentError::file("make the local socket", path);
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let draft = path.with_file_name(name);
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&draft).map_err(failed())?;
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(MODE))
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(failed())?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves applications until the task is dropped.
    pub async fn serve(self, desk: Arc<Desk>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(attend(stream, Arc::clone(&desk)));
                }
                Err(error) => {
                    // Out of file handles, most likely: others must close theirs first.
                    tracing::warn!("the local socket takes no connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that stays behind is replaced by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn attend(stream: UnixStream, desk: Arc<Desk>) {
    let (read, write) = stream.into_split();
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let reader = tokio::spawn(read_requests(read, requests));
    // An error is an application that went away.
    let _ = answer_requests(write, inbox, &desk).await;
    reader.abort();
}

async fn read_requests(read: OwnedReadHalf, requests: mpsc::Sender<Result<Request, String>>) {
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    // The rest of a line that is refused already.
    let mut skipping = false;
    loop {
        line.clear();
        match (&mut read)
            .take(LINE_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let too_long = !line.ends_with(b"\n") && line.len() as u64 == LINE_MAX;
        if std::mem::replace(&mut skipping, too_long) {
            continue;
        }
        let request = if too_long {
            Err(format!("a line is longer than {LINE_MAX} bytes"))
        } else {
            Request::parse(&line)
        };
        if requests.send(request).await.is_err() {
            return;
        }
    }
}

async fn answer_requests(
    mut write: OwnedWriteHalf,
    mut inbox: mpsc::Receiver<Result<Request, String>>,
    desk: &Desk,
) -> io::Result<()> {
    let mut results: Option<broadcast::Receiver<Arc<str>>> = None;
    let mut open = true;
    while open || results.is_some() {
        tokio::select! {
            request = inbox.recv(), if open => {
                let answer = match request {
                    Some(Ok(Request::Subscribe)) => {
                        results.get_or_insert_with(|| desk.results.subscribe());
                        continue;
                    }
                    Some(Ok(Request::Status)) => Answer::Status(Box::new((desk.status)())),
                    Some(Ok(Request::Push { row })) => push(desk, row).await,
                    Some(Err(message)) => Answer::Error { message },
                    // A subscriber may close its sending side and keep listening.
                    None => {
                        open = false;
                        continue;
                    }
                };
                write.write_all(answer.to_line().as_bytes()).await?;
            }
            result = next(&mut results) => match result {
                Ok(line) => write.write_all(line.as_bytes()).await?,
                Err(RecvError::Lagged(count)) => {
                    write.write_all(Answer::Dropped { count }.to_line().as_bytes()).await?;
                }
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
    Ok(())
}

/// The next result of a subscriber; never, for the others.
async fn next(results: &mut Option<broadcast::Receiver<Arc<str>>>) -> Result<Arc<str>, RecvError> {
    match results {
        Some(results) => results.recv().await,
        None => std::future::pending().await,
    }
}

async fn push(desk: &Desk, row: PushedRow) -> Answer {
    let (rows, channels) = match &desk.rows {
        RowSink::Runner { rows, channels } => (rows, channels),
        RowSink::Other(source) => {
            let message = format!(
                "this agent reads its rows from {source}; set source.kind = \"socket\" to push"
            );
            return Answer::Error { message };
        }
    };
    let (columns, values): (Columns, Vec<f32>) = match row {
        PushedRow::Named(named) => {
            let wanted = channels();
            let missing: Vec<&str> = wanted
                .iter()
                .flat_map(|columns| columns.iter())
                .filter(|name| !named.contains_key(*name))
                .map(String::as_str)
                .collect();
            if !missing.is_empty() {
                let message = format!("the row lacks {}", missing.join(", "));
                return Answer::Error { message };
            }
            let (names, values): (Vec<_>, Vec<_>) = named.into_iter().unzip();
            (names.into(), values.into_iter().map(reading).collect())
        }
        PushedRow::Values(values) => match channels() {
            Some(columns) if columns.len() == values.len() => {
                (columns, values.into_iter().map(reading).collect())
            }
            Some(columns) => {
                let message = format!(
                    "the row has {} values, the model takes {}: {}",
                    values.len(),
                    columns.len(),
                    columns.join(", ")
                );
                return Answer::Error { message };
            }
            None => {
                let message = "no model runs, so that a list of values has no meaning; push an \
                               object of channel names and values"
                    .to_owned();
                return Answer::Error { message };
            }
        },
    };
    let row = Row {
        columns,
        values,
        time: None,
    };
    match rows.send(Feed::Row(row)).await {
        Ok(()) => Answer::Pushed,
        Err(_) => Answer::Error {
            message: "the agent is going down".to_owned(),
        },
    }
}

fn reading(value: Option<f32>) -> f32 {
    value.unwrap_or(f32::NAN)
}
