//! The agent's own end of the local socket, for `drover-agent status` and to find out
//! whether another agent runs.
//!
//! It blocks, with time limits: a hung agent must not hang the person who asks after it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::message::Answer;
use crate::AgentError;
use crate::status::Status;

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// Whether somebody answers at `path`.
pub fn is_alive(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// A connection to a running agent.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects; none when nobody answers there.
    pub fn connect(path: &Path) -> Option<Self> {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(WAIT)).ok()?;
        stream.set_write_timeout(Some(WAIT)).ok()?;
        Some(Self {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        })
    }

    /// Asks for the agent's state.
    ///
    /// # Errors
    /// [`AgentError::File`] when the agent does not answer in time or in its own words.
    pub fn status(&mut self) -> Result<Status, AgentError> {
        let error = match self.ask("{\"op\":\"status\"}\n") {
            Ok(Answer::Status(status)) => return Ok(*status),
            Ok(_) => std::io::Error::other("it answers something else; are both of one version?"),
            Err(error) => error,
        };
        Err(AgentError::file("ask the agent at", &self.path)(error))
    }

    fn ask(&mut self, line: &str) -> std::io::Result<Answer> {
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        (&mut self.stream).take(ANSWER_MAX).read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(std::io::Error::from)
    }
}
