//! The agent's settings: one struct, with its defaults and its rules.
//!
//! Units are in the names, every key has a default, and unknown keys are refused. Where the
//! values come from is `config/load.rs`; nothing here looks at the device.

mod fleet;
mod load;
mod speed;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use fleet::{Link, Store, Update};
pub use load::{DEFAULT_FILE, Override};
pub use speed::Speed;

use crate::AgentError;

/// All settings of `drover-agent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where identity, models and records are kept.
    pub data_folder: PathBuf,
    /// Unix socket for applications on the board; empty means `agent.sock` in the data folder.
    pub local_socket: PathBuf,
    /// Filter of the log on standard error, as in `info` or `drover_agent=debug`.
    pub log: String,
    /// Where sensor rows come from.
    pub source: Source,
    /// How models run.
    pub runner: Runner,
    /// How the agent talks to its fleet.
    pub link: Link,
    /// How updates are fetched and reported.
    pub update: Update,
    /// What is kept on the disk.
    pub store: Store,
}

/// Where sensor rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// Which kind of source.
    pub kind: SourceKind,
    /// CSV file, or Unix socket or serial device of a node.
    pub path: PathBuf,
    /// Field separator of a CSV file; `auto` takes `;` or `,`, whichever its header has more of.
    pub delimiter: String,
    /// CSV column whose text is shown with each outcome; empty for none.
    pub time_column: String,
    /// How fast a CSV file is replayed: `real-time`, `max`, or a factor.
    pub speed: Speed,
    /// Rows per second of a CSV file at real time.
    pub rate_hz: f64,
    /// Whether a CSV file starts over at its end.
    #[serde(rename = "loop")]
    pub repeat: bool,
    /// Sampling period asked of a node; 0 leaves it to the node.
    pub period_millis: u32,
    /// Speed of a node's serial line.
    pub baud: u32,
}

/// Kinds of [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// No rows.
    None,
    /// A recording.
    Csv,
    /// A microcontroller on a serial line.
    Node,
    /// Applications push rows over the local socket.
    Socket,
}

/// How models run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runner {
    /// Rows that wait for the model at most; a live source waits when they are used up.
    pub queue_rows: usize,
    /// Windows that a candidate must master on live rows.
    pub trial_windows: u32,
    /// How long a trial waits for the source to deliver a row.
    pub trial_timeout_secs: u64,
    /// Windows after which a drift profile is closed.
    pub profile_windows: u64,
    /// Time after which a drift profile is closed, however few its windows.
    pub profile_secs: u64,
    /// Whether observations carry the raw sensor values.
    pub capture_inputs: bool,
    /// Whether observations carry the model's output.
    pub capture_outputs: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_folder: "/var/lib/drover-agent".into(),
            local_socket: PathBuf::new(),
            log: "info".into(),
            source: Source::default(),
            runner: Runner::default(),
            link: Link::default(),
            update: Update::default(),
            store: Store::default(),
        }
    }
}

impl Default for Source {
    fn default() -> Self {
        Self {
            kind: SourceKind::None,
            path: PathBuf::new(),
            delimiter: "auto".into(),
            time_column: String::new(),
            speed: Speed::Factor(1.0),
            rate_hz: 1.0,
            repeat: false,
            period_millis: 0,
            baud: 115_200,
        }
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            queue_rows: 1024,
            trial_windows: 20,
            trial_timeout_secs: 300,
            profile_windows: 500,
            profile_secs: 3600,
            capture_inputs: false,
            capture_outputs: false,
        }
    }
}

impl Config {
    /// The Unix socket for applications.
    pub fn socket_path(&self) -> PathBuf {
        if self.local_socket.as_os_str().is_empty() {
            self.data_folder.join("agent.sock")
        } else {
            self.local_socket.clone()
        }
    }

    fn check(&self) -> Result<(), AgentError> {
        let refuse = |key: &str, why: &str| {
            Err(AgentError::Config {
                place: format!("setting {key}"),
                why: why.into(),
            })
        };
        let source = &self.source;
        if !(source.rate_hz.is_finite() && source.rate_hz > 0.0) {
            return refuse("source.rate_hz", "must be above zero");
        }
        if source.delimiter != "auto" && source.delimiter.len() != 1 {
            return refuse(
                "source.delimiter",
                "must be \"auto\" or one ASCII character",
            );
        }
        let needs_path = matches!(source.kind, SourceKind::Csv | SourceKind::Node);
        if needs_path && source.path.as_os_str().is_empty() {
            return refuse("source.path", "this kind of source needs a path");
        }
        if self.runner.queue_rows == 0 {
            return refuse("runner.queue_rows", "must be at least 1");
        }
        if self.runner.trial_windows == 0 {
            return refuse("runner.trial_windows", "must be at least 1");
        }
        if self.runner.profile_windows == 0 || self.runner.profile_secs == 0 {
            return refuse(
                "runner.profile_windows",
                "and profile_secs must be at least 1",
            );
        }
        Ok(())
    }
}
