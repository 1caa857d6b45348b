//! Child processes that never outlive their owner, with their output in a file.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::poll::{Look, wait_for};

/// By how much agent and server take the wall clock to be off.
pub const CLOCK_VARIABLE: &str = "DROVER_CLOCK_OFFSET_SECS";

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its standard output and error are appended to `<name>.out` and
    /// `<name>.log` in `logs`.
    ///
    /// # Errors
    /// When a file cannot be made or the program cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_at(name, program, args, logs, 0)
    }

    /// The same on a wall clock that is off by so many seconds.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_at<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        logs: &Path,
        clock_offset_secs: i64,
    ) -> anyhow::Result<Self> {
        let open = |extension: &str| {
            let path = logs.join(format!("{name}.{extension}"));
            let file = File::options().create(true).append(true).open(&path);
            file.map(|f| (f, path))
        };
        let (out_file, out) = open("out")?;
        let (log_file, log) = open("log")?;
        let child = Command::new(program)
            .args(args)
            .env(CLOCK_VARIABLE, clock_offset_secs.to_string())
            .stdin(Stdio::null())
            .stdout(out_file)
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            out,
            log,
        })
    }

    /// What it has written to standard output so far, earlier processes of this name included.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn output(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.out)?).into_owned())
    }

    /// Waits until `look` finds what it wants in the standard output; fails at once when the
    /// program has ended.
    ///
    /// # Errors
    /// With the end of the program's log.
    pub fn wait_for_output<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        look: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        wait_for(what, timeout, || {
            let output = self.output()?;
            if let Some(found) = look(&output) {
                return Ok(Look::Ready(found));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}): {}", self.name, self.tail());
            }
            Ok(Look::NotYet(self.tail()))
        })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no chance to tidy up.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill_9(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it does not end within 20 seconds.
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()?;
        wait_for(
            &format!("{} to stop", self.name),
            Duration::from_secs(20),
            || {
                Ok(match self.child.try_wait()? {
                    Some(status) => Look::Ready(status),
                    None => Look::NotYet(self.tail()),
                })
            },
        )
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it remains.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
