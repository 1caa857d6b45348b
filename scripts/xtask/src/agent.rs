//! One enrolled agent: its process, and what it says of itself over its local socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::poll::{Look, wait_for};
use crate::process::Process;

/// An enrolled agent; its process is killed when dropped.
#[derive(Debug)]
pub struct Agent {
    /// Name for people.
    pub name: String,
    /// Identity.
    pub id: String,
    data: PathBuf,
    program: PathBuf,
    logs: PathBuf,
    args: Vec<String>,
    clock_offset_secs: i64,
    process: Option<Process>,
}

impl Agent {
    /// An agent that is enrolled and does not run yet.
    pub(crate) fn new(
        name: &str,
        id: &str,
        data: PathBuf,
        program: PathBuf,
        logs: PathBuf,
        clock_offset_secs: i64,
    ) -> Self {
        Self {
            name: name.to_owned(),
            id: id.to_owned(),
            data,
            program,
            logs,
            args: Vec::new(),
            clock_offset_secs,
            process: None,
        }
    }

    /// Starts it with more arguments for `drover-agent run`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self, args: Vec<String>) -> anyhow::Result<()> {
        self.args = args;
        self.restart()
    }

    /// Starts it without a source: it only talks to the fleet.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_without_rows(&mut self) -> anyhow::Result<()> {
        self.start(["--source", "none"].map(str::to_owned).into())
    }

    /// Starts it as it was started before.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let data = self.data.display().to_string();
        let args = ["run", "--data", &data]
            .into_iter()
            .chain(self.args.iter().map(String::as_str));
        self.process = Some(Process::start_at(
            &self.name,
            &self.program,
            args,
            &self.logs,
            self.clock_offset_secs,
        )?);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_9(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .context("the agent does not run")?
            .kill_9()
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end, or not cleanly.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let process = self.process.take().context("the agent does not run")?;
        let tail = process.tail();
        let status = process.stop()?;
        ensure!(
            status.success(),
            "{} ended with {status}: {tail}",
            self.name
        );
        Ok(())
    }

    /// Moves it to another fleet by a voucher, while it does not run.
    ///
    /// # Errors
    /// When it refuses, with its reason.
    pub fn transfer(&self, voucher: &str) -> anyhow::Result<()> {
        let output = Command::new(&self.program)
            .args(["transfer", voucher, "--data"])
            .arg(&self.data)
            .output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", self.name, message.trim());
        Ok(())
    }

    /// Runs another build of the agent from now on.
    pub fn use_program(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Path of its local socket.
    pub fn socket(&self) -> PathBuf {
        self.data.join("agent.sock")
    }

    /// What it says of itself, over its local socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&mut self) -> anyhow::Result<Value> {
        if let Some(process) = &mut self.process
            && !process.is_running()
        {
            bail!("{} has ended: {}", self.name, process.tail());
        }
        self.ask(r#"{"op":"status"}"#, 1)?
            .pop()
            .context("no status came")
    }

    /// Sends one line to the local socket and reads `count` answers, as an application does.
    ///
    /// # Errors
    /// When the socket is not there or an answer is no JSON.
    pub fn ask(&self, line: &str, count: usize) -> anyhow::Result<Vec<Value>> {
        let mut socket = UnixStream::connect(self.socket())
            .with_context(|| format!("{} does not listen on its socket", self.name))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        writeln!(socket, "{line}")?;
        BufReader::new(socket)
            .lines()
            .take(count)
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect()
    }

    /// Boot and sequence of an observation that applications on the board see now: what the
    /// server must hold once a clean stop and an empty outbox have followed.
    ///
    /// # Errors
    /// When no observation comes.
    pub fn observed(&self) -> anyhow::Result<(u64, u64)> {
        let seen = self.ask(r#"{"op":"subscribe"}"#, 1)?.pop();
        let seen = seen.context("no observation came")?;
        let number = |key: &str| seen[key].as_u64();
        let pair = number("boot").zip(number("sequence"));
        pair.with_context(|| format!("{}: not an observation: {seen}", self.name))
    }

    /// Waits until `look` finds what it wants in the status.
    ///
    /// # Errors
    /// When it does not come in time, with the last status.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        look: impl Fn(&Value) -> Option<T>,
    ) -> anyhow::Result<T> {
        let what = format!("{}: {what}", self.name);
        wait_for(&what, timeout, || {
            Ok(match self.status() {
                Ok(status) => match look(&status) {
                    Some(found) => Look::Ready(found),
                    None => Look::NotYet(status.to_string()),
                },
                Err(error) => Look::NotYet(error.to_string()),
            })
        })
    }
}

/// Windows that the active model has answered since it was loaded.
pub fn windows(status: &Value) -> u64 {
    status["active"]["windows"].as_u64().unwrap_or(0)
}

/// Records that wait on the board.
pub fn outbox(status: &Value) -> u64 {
    let records = status["fleet"]["outbox_records"].as_u64();
    records.unwrap_or(u64::MAX)
}

/// Whether the agent is connected to its broker.
pub fn is_connected(status: &Value) -> bool {
    status["fleet"]["connected"] == true
}
