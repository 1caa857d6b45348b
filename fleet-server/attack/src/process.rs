//! Child processes that never outlive the suite, with their output in files of the sandbox.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock::{Look, wait};
use crate::error::{Result, ensure, io};

/// Longest wait for a process to end after it was asked to.
const STOP: Duration = Duration::from_secs(20);

/// A running program; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with its standard output and error in `<name>.out` and `<name>.log`.
    pub(crate) fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        env: &[(String, String)],
        folder: &Path,
    ) -> Result<Self> {
        let open = |extension: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            let file = File::options().create(true).append(true).open(&path);
            io(|| format!("write {}", path.display()), file).map(|f| (f, path))
        };
        let (out_file, out) = open("out")?;
        let (log_file, log) = open("log")?;
        let child = Command::new(program)
            .args(args)
            .envs(env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(out_file)
            .stderr(log_file)
            .spawn();
        let child = io(|| format!("start {}", program.display()), child)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            out,
            log,
        })
    }

    /// What it has written to standard output, earlier processes of this name included.
    pub(crate) fn output(&self) -> String {
        let bytes = std::fs::read(&self.out).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Fails when the process has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        let ended = io(|| format!("watch {}", self.name), self.child.try_wait())?;
        ensure(ended.is_none(), || {
            format!("{} ended by itself: {}", self.name, self.tail())
        })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(mut self) -> Result<()> {
        io(|| format!("kill {}", self.name), self.child.kill())?;
        io(|| format!("await {}", self.name), self.child.wait()).map(drop)
    }

    /// SIGTERM, then waits for the end.
    pub(crate) fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status();
        io(|| format!("ask {} to stop", self.name), asked)?;
        wait(&format!("{} to stop", self.name), STOP, || {
            let ended = io(|| format!("await {}", self.name), self.child.try_wait())?;
            Ok(match ended {
                Some(_) => Look::Ready(()),
                None => Look::NotYet(self.tail()),
            })
        })
    }

    /// The last lines of its log.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(6)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it remains.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory that a process holds now, in bytes; 0 where the system does not say.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most memory that a process has held so far, in bytes; 0 where the system does not say.
pub(crate) fn peak_bytes(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
