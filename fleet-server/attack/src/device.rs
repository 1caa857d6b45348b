//! The real agent: its process, and an application on its board that feeds it rows and notes
//! every answer.

mod application;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::clock::{Look, wait};
use crate::error::{Result, ensure, fail, io};
use crate::process::{Process, peak_bytes, resident_bytes};
use crate::server::write;
use application::Application;

/// Longest wait for an agent to come up.
const READY: Duration = Duration::from_secs(20);

/// An enrolled agent.
#[derive(Debug)]
pub(crate) struct Device {
    /// Identity in the fleet.
    pub(crate) id: String,
    name: String,
    program: PathBuf,
    folder: PathBuf,
    env: Vec<(String, String)>,
    settings: Vec<String>,
    process: Option<Process>,
    application: Option<Application>,
}

/// What lies on a device's disk and must not change by an attack, as hashes of files: its
/// bundles and chunks, and the cells of its durable state but for the count of starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    bundles: Vec<(PathBuf, [u8; 32])>,
    state: Vec<(PathBuf, [u8; 32])>,
}

impl Device {
    /// Enrols an agent whose data lie in `<folder>/<name>`.
    pub(crate) fn enrol(
        program: &Path,
        folder: &Path,
        name: &str,
        server: &str,
        token: &str,
    ) -> Result<Self> {
        let device = Self::at(program, folder, name, String::new());
        let token_file = folder.join(format!("{name}.token"));
        write(&token_file, token.as_bytes())?;
        let output = Command::new(program)
            .args(["enroll", "--server", server, "--token-file"])
            .arg(&token_file)
            .arg("--data")
            .arg(device.data())
            .args(["--json", "--name", name])
            .output();
        let output = io(|| format!("start {}", program.display()), output)?;
        ensure(output.status.success(), || {
            let text = String::from_utf8_lossy(&output.stderr);
            format!("{name} cannot enrol: {}", text.trim())
        })?;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match answer.get("device").and_then(Value::as_str) {
            Some(id) => Ok(Self {
                id: id.to_owned(),
                ..device
            }),
            None => fail(format!("the enrolment of {name} names no device: {answer}")),
        }
    }

    /// An agent that is enrolled already.
    pub(crate) fn at(program: &Path, folder: &Path, name: &str, id: String) -> Self {
        Self {
            id,
            name: name.to_owned(),
            program: program.to_owned(),
            folder: folder.to_owned(),
            env: Vec::new(),
            settings: Vec::new(),
            process: None,
            application: None,
        }
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// A variable of its environment, from the next start on.
    pub(crate) fn set_env(&mut self, key: &str, value: &str) {
        self.env.retain(|(k, _)| k != key);
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// A setting, as `update.attempt_millis=5`, from the next start on.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// The settings that every row begins with, from the next start on.
    pub(crate) fn reset_settings(&mut self) {
        self.settings.clear();
    }

    /// Starts it, and an application that feeds it.
    pub(crate) fn start(&mut self) -> Result<()> {
        let mut args = vec!["run".to_owned(), "--data".to_owned()];
        args.push(self.data().display().to_string());
        args.extend(["--source", "socket"].map(str::to_owned));
        for setting in QUICK
            .iter()
            .copied()
            .chain(self.settings.iter().map(String::as_str))
        {
            args.extend(["--set".to_owned(), setting.to_owned()]);
        }
        let process = Process::start(&self.name, &self.program, &args, &self.env, &self.folder)?;
        self.process = Some(process);
        let socket = self.data().join("agent.sock");
        wait("the agent's local socket", READY, || {
            self.check_running()?;
            Ok(match application::ask(&socket, r#"{"op":"status"}"#) {
                Ok(_) => Look::Ready(()),
                Err(error) => Look::NotYet(error.to_string()),
            })
        })?;
        self.application = Some(Application::start(socket));
        Ok(())
    }

    /// Fails when the agent has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => fail(format!("{} does not run", self.name)),
        }
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.application = None;
        self.process.take().map_or(Ok(()), Process::stop)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.application = None;
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// The process's memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let pid = self.process.as_ref().map(Process::pid);
        pid.map_or(0, resident_bytes)
    }

    /// The most memory that the process has held so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let pid = self.process.as_ref().map(Process::pid);
        pid.map_or(0, peak_bytes)
    }

    /// What the agent says of itself.
    pub(crate) fn status(&self) -> Result<Value> {
        application::ask(&self.data().join("agent.sock"), r#"{"op":"status"}"#)
    }

    /// Waits until a value of the status is what is wanted.
    pub(crate) fn wait_status<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut pick: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        wait(what, patience, || {
            self.check_running()?;
            Ok(match self.status() {
                Ok(status) => match pick(&status) {
                    Some(found) => Look::Ready(found),
                    None => Look::NotYet(status.to_string()),
                },
                Err(error) => Look::NotYet(error.to_string()),
            })
        })
    }

    /// Waits until the model that answers `weight * x` answers.
    pub(crate) fn serves_within(&mut self, weight: f32, patience: Duration) -> Result<()> {
        let what = format!("answers of the model with weight {weight}");
        let since = crate::clock::monotonic();
        wait(&what, patience, || {
            self.check_running()?;
            let Some(application) = &self.application else {
                return fail("no application feeds the agent");
            };
            let last = application.last();
            Ok(match last {
                Some(answer) if answer.at >= since && answer.weight == weight => Look::Ready(()),
                other => Look::NotYet(format!("{other:?}")),
            })
        })
    }

    /// Weights of all models that have answered since the start.
    pub(crate) fn answered(&self) -> Vec<f32> {
        self.application
            .as_ref()
            .map(Application::weights)
            .unwrap_or_default()
    }

    /// What must not change on its disk.
    pub(crate) fn stored(&self) -> Result<Stored> {
        let mut bundles = Vec::new();
        for folder in ["bundles", "chunks"] {
            collect(&self.data().join(folder), &mut bundles)?;
        }
        let mut state = Vec::new();
        collect(&self.data().join("state"), &mut state)?;
        state.retain(|(path, _)| path.ends_with("machine"));
        ensure(!state.is_empty(), || {
            format!("no durable state lies in {}", self.data().display())
        })?;
        bundles.sort();
        Ok(Stored { bundles, state })
    }

    /// Where it stands with its update, and the end of its log.
    pub(crate) fn story(&self) -> String {
        let status = self.status().unwrap_or_default();
        let fleet = status.get("fleet").cloned().unwrap_or_default();
        format!("{fleet} {}", self.log())
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }
}

impl Stored {
    /// Fails unless bundles, chunks and durable state are byte for byte what they were.
    pub(crate) fn check_same(&self, after: &Self) -> Result<()> {
        self.check_same_bundles(after)?;
        ensure(self.state == after.state, || {
            "the durable state on the disk changed".to_owned()
        })
    }

    /// Fails unless every file that was there is byte for byte what it was; others may have
    /// come.
    pub(crate) fn check_kept(&self, after: &Self) -> Result<()> {
        let lost = self
            .bundles
            .iter()
            .find(|file| !after.bundles.contains(file));
        match lost {
            None => Ok(()),
            Some((path, _)) => fail(format!("{} is gone or was changed", path.display())),
        }
    }

    /// Fails unless bundles and chunks are byte for byte what they were.
    pub(crate) fn check_same_bundles(&self, after: &Self) -> Result<()> {
        ensure(self.bundles == after.bundles, || {
            let names = |files: &[(PathBuf, [u8; 32])]| {
                let names = files.iter().map(|(path, _)| path.display().to_string());
                names.collect::<Vec<_>>().join(" ")
            };
            let (before, after) = (names(&self.bundles), names(&after.bundles));
            format!("the files of bundles were {before} and are {after}")
        })
    }
}

/// Settings that make a row a matter of seconds.
const QUICK: [&str; 10] = [
    "update.request_base_millis=150",
    "update.request_cap_millis=400",
    "update.attempt_millis=200",
    "update.resend_base_millis=200",
    "update.resend_cap_millis=500",
    "link.reconnect_base_millis=40",
    "link.reconnect_cap_millis=300",
    "runner.trial_windows=7",
    "runner.trial_timeout_secs=5",
    "store.flush_every_millis=100",
];

fn collect(folder: &Path, files: &mut Vec<(PathBuf, [u8; 32])>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            // Temporary files come and go.
            let Some(bytes) = io(|| format!("read {}", path.display()), read(&path))? else {
                continue;
            };
            files.push((path, Sha256::digest(bytes).into()));
        }
    }
    Ok(())
}

/// The content of a file; none when it is gone.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
