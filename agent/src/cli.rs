//! The command line of `drover-agent`.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done,
//! 1 failed, 2 wrong usage, 3 not running (`status` only).

mod check_model;
mod enroll;
mod fleet;
mod infer;
mod run;
mod status;
mod transfer;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::AgentError;
use crate::config::{Config, Override};

/// How long tasks that are under way may take when the agent stops.
const SHUTDOWN: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs signed models on this board and keeps them up to date.
#[derive(Debug, Parser)]
#[command(name = "drover-agent", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a fleet with a claim token
    Enroll(enroll::EnrollArgs),
    /// Run: in the fleet that the data folder is enrolled in, or a model of one's own
    Run(run::RunArgs),
    /// Show what the agent on this board does; exit code 3 when none runs
    Status(status::StatusArgs),
    /// Run a model over a file of inputs, without a server
    Infer(infer::InferArgs),
    /// Move this device to another fleet, by a voucher of its present one
    Transfer(transfer::TransferArgs),
    /// Print the settings that apply, as a settings file
    PrintConfig(Settings),
    #[command(hide = true)]
    CheckModel(check_model::CheckModelArgs),
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where settings come from: defaults, file, DROVER_AGENT_* variables, these flags; the
/// later overrule the earlier.
#[derive(Debug, Default, Args)]
struct Settings {
    /// Settings file [default: /etc/drover/agent.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "DROVER_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Data folder: setting data_folder
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// Any setting, as in --set runner.trial_windows=50
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    fn load(&self, mut flags: Vec<Override>) -> Result<Config, AgentError> {
        for text in &self.set {
            let Some((key, value)) = text.split_once('=') else {
                return Err(AgentError::Config {
                    place: format!("--set {text}"),
                    why: "is not KEY=VALUE".into(),
                });
            };
            flags.push(flag(&format!("--set {key}"), key, value));
        }
        if let Some(folder) = &self.data {
            flags.push(flag("--data", "data_folder", folder));
        }
        Config::load(self.config.as_deref(), std::env::vars(), &flags)
    }
}

fn flag(place: &str, key: &str, value: &str) -> Override {
    Override {
        place: place.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

impl Cli {
    /// Does what was asked for and returns the exit code.
    ///
    /// # Errors
    /// Any [`AgentError`]; nothing half-written stays behind.
    pub fn execute(self) -> Result<u8, AgentError> {
        match self.command {
            Command::Enroll(args) => args.execute(),
            Command::Run(args) => args.execute(),
            Command::Status(args) => args.execute(),
            Command::Infer(args) => args.execute(),
            Command::Transfer(args) => args.execute(),
            Command::CheckModel(args) => args.execute(),
            Command::PrintConfig(settings) => print(&settings.load(Vec::new())?.to_toml()?),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "drover-agent", &mut script);
                print(&String::from_utf8_lossy(&script))
            }
        }
    }
}

/// Writes text to standard output. A reader that went away is no failure.
fn print(text: &str) -> Result<u8, AgentError> {
    use std::io::{ErrorKind, Write as _};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(AgentError::file("write to", "standard output")(error))
        }
        _ => Ok(0),
    }
}

/// Sets up the log; `filter` is as of `tracing_subscriber::EnvFilter`.
fn log_to_stderr(filter: &str) {
    use std::io::IsTerminal as _;
    // A second set-up in one process (a test) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

fn async_runtime() -> Result<tokio::runtime::Runtime, AgentError> {
    tokio::runtime::Builder::new_multi_thread()
        // Inference has a thread of its own; these only move bytes.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(AgentError::file("start", "the async runtime"))
}

/// Returns when somebody asks the process to end.
async fn stop_signal() -> Result<(), AgentError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = || AgentError::file("listen for", "signals");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop");
    Ok(())
}
