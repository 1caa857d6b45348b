//! The node source against the real node's logic behind a Unix socket, with either side
//! going away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drover_agent::config::{self, SourceKind};
use drover_agent::source::{self, Feed};
use drover_node::node::{Event, Identity, Node, Sink};
use drover_node::sensor::{Fault, Sensor};
use tokio::sync::mpsc;

struct Counter(f32);

impl Sensor for Counter {
    const CHANNELS: &'static [&'static str] = &["count", "twice"];

    fn read(&mut self, values: &mut [f32]) -> Result<(), Fault> {
        self.0 += 1.0;
        values.copy_from_slice(&[self.0, self.0 * 2.0]);
        Ok(())
    }
}

struct Wire<'a>(&'a Mutex<UnixStream>);

impl Sink for Wire<'_> {
    fn send(&mut self, frame: &[u8]) {
        // A line that takes nothing loses frames, as a real one does.
        let _ = self.0.lock().unwrap().write_all(frame);
    }
}

fn node() -> Node<Counter> {
    let identity = Identity {
        uid: [1; 8],
        board: "test",
        fw_version: "1",
    };
    Node::new(identity, Counter(0.0))
}

/// Runs a node behind `listener` until `stop`: it outlives its host's connections.
fn run_node(listener: &UnixListener, stop: &AtomicBool) {
    let mut node = node();
    let started = Instant::now();
    let now_us = || u64::try_from(started.elapsed().as_micros()).unwrap();
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::yield_now();
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let wait = Some(Duration::from_millis(1));
        stream.set_read_timeout(wait).unwrap();
        let line = Mutex::new(stream);
        while !stop.load(Ordering::SeqCst) {
            let mut buffer = [0; 256];
            let read = line.lock().unwrap().read(&mut buffer);
            match read {
                Ok(0) => break,
                Ok(count) => {
                    node.on(
                        now_us(),
                        Event::Received(&buffer[..count]),
                        &mut Wire(&line),
                    );
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {}
                Err(_) => break,
            }
            node.on(now_us(), Event::Tick, &mut Wire(&line));
        }
    }
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || run_node(&listener, &seen));
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

fn host(path: &Path) -> mpsc::Receiver<Feed> {
    let settings = config::Source {
        kind: SourceKind::Node,
        path: path.to_owned(),
        period_millis: 10,
        ..config::Source::default()
    };
    let (sender, rows) = mpsc::channel(64);
    source::start(&settings, sender).unwrap();
    rows
}

/// Feeds up to and with the first that `wanted` takes.
fn until(rows: &mut mpsc::Receiver<Feed>, what: &str, wanted: impl Fn(&Feed) -> bool) -> Vec<Feed> {
    let mut heard = Vec::new();
    loop {
        let next = || rows.try_recv().ok();
        let count = heard.len();
        let feed = wait_for(what, || format!("{count} feeds"), next);
        let found = wanted(&feed);
        heard.push(feed);
        if found {
            return heard;
        }
    }
}

fn value(feed: &Feed) -> Option<f32> {
    match feed {
        Feed::Row(row) => Some(row.values[0]),
        _ => None,
    }
}

#[test]
fn a_node_streams_and_either_side_may_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uart.sock");
    // The host is there first, and waits.
    let mut rows = host(&path);
    let waiting = until(&mut rows, "note", |feed| matches!(feed, Feed::Note { .. }));
    let Feed::Note { detail } = &waiting[0] else {
        panic!("{waiting:?}");
    };
    assert!(
        detail.contains("uart.sock") && detail.contains("trying again"),
        "{detail}"
    );

    let first = Running::start(&path);
    let heard = until(&mut rows, "tenth row", |feed| value(feed) == Some(10.0));
    let values: Vec<f32> = heard.iter().filter_map(value).collect();
    assert_eq!(values, (1..=10u8).map(f32::from).collect::<Vec<_>>());
    let Some(Feed::Row(row)) = heard.last() else {
        panic!("{heard:?}");
    };
    assert_eq!(*row.columns, ["count", "twice"]);
    assert_eq!(row.values, [10.0, 20.0]);

    // The node restarts: its counter does, and the stream is broken before it.
    drop(first);
    let second = Running::start(&path);
    let heard = until(&mut rows, "row after the restart", |feed| {
        value(feed) == Some(1.0)
    });
    assert!(
        heard.iter().any(|feed| matches!(feed, Feed::Gap { .. })),
        "no gap in {heard:?}"
    );
    until(&mut rows, "fifth row", |feed| value(feed) == Some(5.0));

    // The host restarts: the node goes on counting under a new session.
    drop(rows);
    let mut rows = host(&path);
    let heard = until(&mut rows, "row of the new host", |feed| {
        value(feed).is_some()
    });
    assert!(value(heard.last().unwrap()) > Some(5.0), "{heard:?}");
    drop(second);
}

/// Waits until `condition` gives a value; panics with `last` after half a minute.
pub fn wait_for<T, S: std::fmt::Debug>(
    what: &str,
    mut last: impl FnMut() -> S,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "no {what}; last: {:?}", last());
        std::thread::yield_now();
    }
}
