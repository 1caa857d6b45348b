//! Loading a candidate in a process of its own first, which may die of it.
//!
//! A model comes from the network and its engine runs in the agent's own process: a graph
//! that is signed and yet asks for all memory, or takes for ever to analyse, would take what
//! runs down with it, at each start anew. So a short-lived child, `drover-agent check-model`,
//! loads it before, within limits of memory and time that the kernel holds, and runs the
//! golden vectors. Only what it survives is loaded here. The child gets the bytes over a
//! pipe, opens no file, and inherits no variable; nothing is left of it.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drover_bundle::manifest::MAX_TOTAL_BYTES;
use drover_bundle::{GoldenVectors, Manifest};
use drover_trust::mutation::{Check, is_disabled};
use drover_wire::message::{Digest, FailureCode};
use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};

use super::host::code_of;
use super::{Bundle, Slot};
use crate::ota::LoadFailure;

/// What the agent itself takes of a process's addresses, generously, in bytes.
const OWN_BYTES: u64 = 256 << 20;
/// Longest time for loading and golden vectors.
const TIME: Duration = Duration::from_secs(120);
/// How often the child is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Longest verdict that is read.
const MAX_VERDICT_BYTES: u64 = 4096;
/// Files that the child may have open: its streams and a few of the runtime's own.
const OPEN_FILES: u64 = 16;

/// Where candidates are tried first.
#[derive(Clone, Debug)]
pub struct Checker {
    program: PathBuf,
    memory_bytes: u64,
    time: Duration,
}

impl Checker {
    /// Tries candidates with `program`, which is a `drover-agent`; a model may take
    /// `memory_bytes`.
    #[must_use]
    pub fn new(program: PathBuf, memory_bytes: u64) -> Self {
        Self {
            program,
            memory_bytes: memory_bytes.saturating_add(OWN_BYTES),
            time: TIME,
        }
    }

    /// Tries candidates with the very program that runs, even where its file was replaced.
    #[must_use]
    pub fn of_this_program(memory_bytes: u64) -> Self {
        Self::new("/proc/self/exe".into(), memory_bytes)
    }

    /// Loads a model and runs its golden vectors elsewhere.
    ///
    /// # Errors
    /// [`LoadFailure`], also when the child died or took too long.
    pub fn check(
        &self,
        manifest: &Manifest,
        model: &[u8],
        golden: &GoldenVectors,
    ) -> Result<(), LoadFailure> {
        if is_disabled(Check::ModelBounds) {
            return Ok(());
        }
        let manifest = manifest.encode().map_err(|e| failed(crate::chain(&e)))?;
        let golden = golden.encode().map_err(|e| failed(crate::chain(&e)))?;
        let mut child = self.spawn().map_err(|error| {
            failed(format!(
                "a process to try the model cannot be made: {error}"
            ))
        })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let verdict = std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Some(mut stdin) = stdin {
                    // A child that died reads no more; its end tells why.
                    let parts = [manifest.as_slice(), model, golden.as_slice()];
                    let _ = parts.iter().try_for_each(|part| send(&mut stdin, part));
                }
            });
            let told = scope.spawn(|| {
                let mut text = Vec::new();
                if let Some(stdout) = stdout {
                    let _ = stdout.take(MAX_VERDICT_BYTES).read_to_end(&mut text);
                }
                text
            });
            let ended = self.wait(&mut child);
            let told = told.join().unwrap_or_default();
            ended.map(|status| (status, told))
        })?;
        judge(verdict.0, &verdict.1)
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("check-model")
            .arg("--memory-bytes")
            .arg(self.memory_bytes.to_string())
            .arg("--seconds")
            .arg(self.time.as_secs().to_string())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }

    fn wait(&self, child: &mut Child) -> Result<std::process::ExitStatus, LoadFailure> {
        let deadline = Instant::now() + self.time;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
                // Ended by itself in the very moment, otherwise.
                Ok(None) | Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let secs = self.time.as_secs();
                    return Err(failed(format!("loading it takes longer than {secs} s")));
                }
            }
        }
    }
}

fn send(stream: &mut impl Write, part: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(part.len() as u64).to_le_bytes())?;
    stream.write_all(part)
}

fn judge(status: std::process::ExitStatus, told: &[u8]) -> Result<(), LoadFailure> {
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(told);
    let told = text.split_once(' ').and_then(|(code, detail)| {
        let code = CODES.iter().find(|known| known.name() == code)?;
        Some((*code, detail.trim_end().to_owned()))
    });
    let Some((code, detail)) = told else {
        let how = match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => status.to_string(),
        };
        return Err(failed(format!(
            "loading it takes more memory or time than a model may have here ({how})"
        )));
    };
    Err(LoadFailure { code, detail })
}

/// What a child may say; anything else is its own failure.
const CODES: [FailureCode; 3] = [
    FailureCode::LoadFailed,
    FailureCode::GoldenMismatch,
    FailureCode::Incompatible,
];

fn failed(detail: String) -> LoadFailure {
    LoadFailure {
        code: FailureCode::LoadFailed,
        detail,
    }
}

/// The child's part: takes the model from `input` within the limits, and says on `output` what
/// is wrong with it, if anything is. Whether it is fit.
///
/// # Errors
/// When the limits cannot be set or the streams end early.
pub(crate) fn run(
    memory_bytes: u64,
    seconds: u64,
    input: &mut impl Read,
    output: &mut impl Write,
) -> std::io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let limits = [
        (Resource::As, memory_bytes),
        (Resource::Cpu, seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, OPEN_FILES),
    ];
    for (resource, limit) in limits {
        let limit = Some(limit);
        setrlimit(
            resource,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )?;
    }
    // What runs on the board comes first. A system that does not allow it is no obstacle.
    let _ = nice(10);
    let [manifest, model, golden] = [receive(input)?, receive(input)?, receive(input)?];
    let loaded = Manifest::decode(&manifest)
        .map_err(|error| failed(crate::chain(&error)))
        .and_then(|manifest| {
            let bundle = Bundle {
                manifest,
                digest: Digest::default(),
                model,
                golden,
                baseline: None,
            };
            Slot::load(bundle).map_err(|error| LoadFailure {
                code: code_of(&error),
                detail: crate::chain(&*error),
            })
        });
    if let Err(LoadFailure { code, detail }) = &loaded {
        writeln!(output, "{} {detail}", code.name())?;
    }
    Ok(loaded.is_ok())
}

fn receive(input: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length).min(MAX_TOTAL_BYTES);
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
