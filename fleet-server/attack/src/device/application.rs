//! An application on the board: pushes a row every few milliseconds and notes what the model
//! answers.
//!
//! Every row is `x = 1`, so that the score is the weight of whichever model answered.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clock;
use crate::error::{Result, fail, io};

const ROW: &str = "{\"op\":\"push\",\"row\":[1.0]}\n";
const EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer of the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) at: Instant,
    pub(super) weight: f32,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Answer>,
    weights: Vec<f32>,
}

/// See the module; ends when dropped.
#[derive(Debug)]
pub(super) struct Application {
    seen: Arc<Mutex<Seen>>,
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Application {
    pub(super) fn start(socket: PathBuf) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let done = Arc::new(AtomicBool::new(false));
        let pushing = {
            let (socket, done) = (socket.clone(), done.clone());
            std::thread::spawn(move || repeat(&done, || push(&socket, &done)))
        };
        let listening = {
            let (seen, done) = (seen.clone(), done.clone());
            std::thread::spawn(move || repeat(&done, || listen(&socket, &seen, &done)))
        };
        Self {
            seen,
            done,
            threads: vec![pushing, listening],
        }
    }

    pub(super) fn last(&self) -> Option<Answer> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last
    }

    pub(super) fn weights(&self) -> Vec<f32> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.weights.clone()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

/// Connects again whenever the agent hangs up.
fn repeat(done: &AtomicBool, mut act: impl FnMut() -> std::io::Result<()>) {
    while !done.load(Ordering::Acquire) {
        if act().is_err() {
            std::thread::sleep(EVERY);
        }
    }
}

fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    Ok(stream)
}

fn push(socket: &Path, done: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(socket)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut answer = String::new();
    while !done.load(Ordering::Acquire) {
        stream.write_all(ROW.as_bytes())?;
        answer.clear();
        answers.read_line(&mut answer)?;
        std::thread::sleep(EVERY);
    }
    Ok(())
}

fn listen(socket: &Path, seen: &Mutex<Seen>, done: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(socket)?;
    stream.write_all(b"{\"op\":\"subscribe\"}\n")?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while !done.load(Ordering::Acquire) {
        match lines.read_line(&mut line) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Part of a line may be there already; it is read on.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => continue,
            Err(error) => return Err(error),
        }
        let value: Value = serde_json::from_str(&line).unwrap_or_default();
        line.clear();
        let score = value.get("score").and_then(Value::as_f64);
        if let Some(score) = score {
            let weight = score as f32;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.last = Some(Answer {
                at: clock::monotonic(),
                weight,
            });
            if !seen.weights.contains(&weight) {
                seen.weights.push(weight);
            }
        }
    }
    Ok(())
}

/// One question over the local socket.
pub(super) fn ask(socket: &Path, line: &str) -> Result<Value> {
    let act = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{line}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = io(|| format!("ask the agent at {}", socket.display()), act())?;
    serde_json::from_str(&answer).or_else(|_| fail(format!("the agent answers {answer:?}")))
}
