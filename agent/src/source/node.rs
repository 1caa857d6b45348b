//! A microcontroller on a serial line, or behind a Unix socket (an emulator, a multiplexer).
//!
//! Frames and their meaning are `drover_wire::node`; this file is the host's end of it:
//! open, greet, ping once a second, and begin anew whenever either side went away. It waits
//! for a line that is not there yet for as long as it takes and says so once.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use drover_wire::node::{
    Decoder, Hello, Level, MAX_FRAME, NodeDown, NodeUp, PROTO_VERSION, Samples, encode,
};
use rustix::termios::{self, OptionalActions, SpecialCodeIndex};

use super::{Columns, Feed, Row, Sender};
use crate::config;

/// Between two attempts to open the line.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for bytes; bounds how late a ping is.
const READ_WAIT: Duration = Duration::from_millis(100);
/// Nodes give a silent host up after five of these.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A node that said nothing at all for this long is reported.
const SILENCE: Duration = Duration::from_secs(10);

/// The host's end of a node's line.
pub struct Link {
    path: PathBuf,
    baud: u32,
    /// None leaves the period to the node.
    period_ms: Option<u32>,
}

/// Why the thread of a link ends: nobody takes its rows.
struct Unwanted;

impl Link {
    /// The link that `settings` describe; nothing is opened yet.
    pub fn new(settings: &config::Source) -> Self {
        Self {
            path: settings.path.clone(),
            baud: settings.baud,
            period_ms: (settings.period_millis > 0).then_some(settings.period_millis),
        }
    }

    /// Delivers rows until nobody receives them.
    pub fn run(&self, out: &Sender) {
        let mut session = Session {
            out,
            period_ms: self.period_ms,
            id: draw(),
            welcomed: None,
            next_seq: 0,
        };
        let mut told = None;
        loop {
            let ended = match open(&self.path, self.baud) {
                Ok(line) => {
                    told = None;
                    match session.serve(line) {
                        Ok(error) => error,
                        Err(Unwanted) => return,
                    }
                }
                Err(error) => error,
            };
            // Once per kind of failure, not twice a second for a week.
            if told != Some(ended.kind()) {
                told = Some(ended.kind());
                let detail = format!(
                    "the node's line {} is not usable: {ended}; trying again",
                    self.path.display()
                );
                if session.tell(Feed::Note { detail }).is_err() {
                    return;
                }
            }
            if out.is_closed() {
                return;
            }
            std::thread::sleep(RETRY_EVERY);
        }
    }
}

/// What is known of the node; outlives the line, because a line that dropped for a moment
/// leaves the node in its session.
struct Session<'a> {
    out: &'a Sender,
    period_ms: Option<u32>,
    id: u32,
    /// Columns of the node that was welcomed last.
    welcomed: Option<Columns>,
    next_seq: u32,
}

impl Session<'_> {
    /// Talks over `line` until it breaks, and returns why it did.
    fn serve(&mut self, mut line: Box<dyn Line>) -> Result<io::Error, Unwanted> {
        let mut decoder = Decoder::<NodeUp>::new();
        let mut buffer = [0; 4096];
        let mut heard = Instant::now();
        let mut silent = false;
        let mut next_ping = Instant::now();
        // Noise before the first frame must not be taken for a part of it.
        if let Err(error) = line.write_all(&[0]) {
            return Ok(error);
        }
        loop {
            if self.out.is_closed() {
                return Err(Unwanted);
            }
            let now = Instant::now();
            if now >= next_ping {
                next_ping = now + PING_EVERY;
                let ping = NodeDown::Ping {
                    session: self.id,
                    nonce: draw(),
                };
                if let Err(error) = send(&mut *line, &ping) {
                    return Ok(error);
                }
            }
            match line.read_some(&mut buffer) {
                Ok(0) => {}
                Ok(count) => {
                    let mut input = buffer.get(..count).unwrap_or_default();
                    while let Some(message) = decoder.pull(&mut input) {
                        heard = Instant::now();
                        silent = false;
                        if let Err(error) = self.hear(message, &mut *line)? {
                            return Ok(error);
                        }
                    }
                }
                Err(error) => return Ok(error),
            }
            if !silent && heard.elapsed() > SILENCE {
                silent = true;
                let detail = format!("the node has said nothing for {} s", SILENCE.as_secs());
                self.tell(Feed::Note { detail })?;
            }
        }
    }

    fn hear(
        &mut self,
        message: NodeUp,
        line: &mut dyn Line,
    ) -> Result<Result<(), io::Error>, Unwanted> {
        match message {
            NodeUp::Hello(hello) if hello.proto_version != PROTO_VERSION => {
                let detail = format!(
                    "the node {} speaks version {}, this agent {PROTO_VERSION}; update the older \
                     of the two",
                    hello.board, hello.proto_version
                );
                tracing::warn!("{detail}");
                Ok(Ok(()))
            }
            NodeUp::Hello(hello) => self.welcome(&hello, line),
            NodeUp::Samples(samples) => self.take(samples).map(Ok),
            NodeUp::Log(log) => {
                match log.level {
                    Level::Info => tracing::info!("node: {}", log.text),
                    Level::Warn | Level::Error => tracing::warn!("node: {}", log.text),
                }
                Ok(Ok(()))
            }
            NodeUp::Pong(pong) => Ok(match self.period_ms {
                Some(period_ms) if pong.period_ms != period_ms => {
                    send(line, &NodeDown::Config { period_ms })
                }
                _ => Ok(()),
            }),
        }
    }

    fn welcome(
        &mut self,
        hello: &Hello,
        line: &mut dyn Line,
    ) -> Result<Result<(), io::Error>, Unwanted> {
        let columns: Columns = hello
            .channels
            .iter()
            .map(|c| c.as_str().to_owned())
            .collect();
        let detail = format!(
            "node {} (firmware {}) measures {}",
            hello.board,
            hello.fw_version,
            columns.join(", ")
        );
        // The first greeting continues nothing, and one without samples since the last only
        // shows that the welcome was lost; every other one breaks a stream off.
        if self.welcomed.is_none() {
            self.tell(Feed::Note { detail })?;
        } else if self.next_seq > 0 {
            let detail = format!("{detail}, after it or its line started anew");
            self.tell(Feed::Gap { detail })?;
        }
        // A greeting that crossed the welcome gets the same one again: with another session
        // the node would count anew while its first sample is under way.
        if self.welcomed.is_none() || self.next_seq > 0 {
            self.id = draw();
        }
        self.welcomed = Some(columns);
        self.next_seq = 0;
        let welcome = NodeDown::Welcome {
            proto_version: PROTO_VERSION,
            session: self.id,
        };
        let config = self
            .period_ms
            .map(|period_ms| NodeDown::Config { period_ms });
        Ok(send(line, &welcome).and_then(|()| config.map_or(Ok(()), |c| send(line, &c))))
    }

    fn take(&mut self, samples: Samples) -> Result<(), Unwanted> {
        // Samples of a session that this process never opened: the ping brings the greeting.
        let Some(columns) = &self.welcomed else {
            return Ok(());
        };
        if samples.values.len() != columns.len() {
            return Ok(());
        }
        let columns = Arc::clone(columns);
        if samples.seq != self.next_seq {
            let lost = samples.seq.wrapping_sub(self.next_seq);
            // A sequence that stepped back is from before the welcome.
            if lost > u32::MAX / 2 {
                return Ok(());
            }
            let detail = format!("{lost} samples of the node were lost on the line");
            self.tell(Feed::Gap { detail })?;
        }
        self.next_seq = samples.seq.wrapping_add(1);
        self.tell(Feed::Row(Row {
            columns,
            values: samples.values.to_vec(),
            time: None,
        }))
    }

    fn tell(&self, feed: Feed) -> Result<(), Unwanted> {
        self.out.blocking_send(feed).map_err(|_| Unwanted)
    }
}

/// A line that never waits long.
trait Line: Write {
    /// Reads what is there, 0 bytes after [`READ_WAIT`] without any; the end is an error.
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Line for UnixStream {
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read(buffer) {
            Ok(0) => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the other end closed it",
            )),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            other => other,
        }
    }
}

/// A terminal device in raw mode, whose reads return nothing after [`READ_WAIT`].
struct Serial(File);

impl Write for Serial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Line for Serial {
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            // Silence and a device that was pulled both read as nothing: only the latter is
            // no terminal any more.
            Ok(0) => termios::tcgetattr(&self.0)
                .map(|_| 0)
                .map_err(io::Error::from),
            other => other,
        }
    }
}

fn open(path: &Path, baud: u32) -> io::Result<Box<dyn Line>> {
    if std::fs::metadata(path)?.file_type().is_socket() {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(READ_WAIT))?;
        // A peer that reads nothing for this long is as good as gone.
        stream.set_write_timeout(Some(PING_EVERY))?;
        return Ok(Box::new(stream));
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut attributes = termios::tcgetattr(&file)?;
    attributes.make_raw();
    attributes.set_speed(baud)?;
    attributes.special_codes[SpecialCodeIndex::VMIN] = 0;
    // In tenths of a second.
    attributes.special_codes[SpecialCodeIndex::VTIME] = 1;
    termios::tcsetattr(&file, OptionalActions::Now, &attributes)?;
    Ok(Box::new(Serial(file)))
}

fn send(line: &mut dyn Line, message: &NodeDown) -> io::Result<()> {
    let mut buffer = [0; MAX_FRAME];
    let frame = encode(message, &mut buffer).map_err(io::Error::other)?;
    line.write_all(frame)
}

/// A number that differs from run to run; nothing secret hangs on it.
fn draw() -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "half of a hash is as random"
    )]
    let number = RandomState::new().build_hasher().finish() as u32;
    number
}
