//! What the agent says of itself: what runs, what came in, how the board is doing.
//!
//! The same structure goes over the local socket, to `drover-agent status --json` and into
//! the table for people. It is put together on request and never stored.

use serde::{Deserialize, Serialize};
use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// The state of a running agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub agent_version: String,
    /// Process id.
    pub pid: u32,
    /// Time since the start.
    pub uptime_secs: u64,
    /// `fleet` or `local`.
    pub mode: String,
    /// Device id, in a fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Where the agent stands with its fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStatus>,
    /// The source and what came of it.
    pub source: SourceStatus,
    /// The model that runs.
    pub active: Option<ModelStatus>,
    /// The model on trial.
    pub candidate: Option<ModelStatus>,
    /// Memory.
    pub health: Health,
}

/// Where an agent stands with its fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Name of the fleet.
    pub name: String,
    /// Whether the broker is connected.
    pub connected: bool,
    /// Number of this start of the agent.
    pub boot: u64,
    /// Highest assignment accepted.
    pub assignment: u64,
    /// What is being done about it, for people.
    pub update: String,
    /// Records that the server has not acknowledged.
    pub outbox_records: u64,
    /// Messages from the network that were refused.
    pub refused: u64,
    /// Chunks of confidential bundles that could not be decrypted.
    #[serde(default)]
    pub undecryptable: u64,
    /// Version of the newest root that was verified.
    #[serde(default)]
    pub root: u64,
    /// Trusted time, in seconds since 1970; at or behind the true time.
    #[serde(default)]
    pub trusted_unix_s: u64,
    /// End of the device's certificate, in seconds since 1970; 0 while it has none.
    #[serde(default)]
    pub certificate_expires_unix_s: u64,
}

/// A source and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Kind and path.
    pub name: String,
    /// Rows that came in.
    pub rows: u64,
    /// Rows that came while no model ran.
    pub no_model: u64,
    /// Rows that lack a channel of the model that runs.
    pub misfit: u64,
    /// Times that the stream broke off.
    pub gaps: u64,
    /// Whether the source has ended.
    pub ended: bool,
    /// What was last said of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A loaded model and what it has done since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Digest of the bundle in hex; empty for a model that is in no bundle.
    pub digest: String,
    /// Windows answered.
    pub windows: u64,
    /// Of those, anomalous.
    pub anomalous: u64,
    /// Windows left out because a value was missing.
    pub skipped: u64,
    /// Windows that the model failed on.
    pub failed: u64,
    /// Score of the last window.
    pub last_score: Option<f32>,
    /// Median time of the last windows, in microseconds.
    pub latency_us_p50: Option<u32>,
}

/// Memory of the agent and of its board, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Resident memory of the agent.
    pub agent_rss_bytes: u64,
    /// Memory of the board.
    pub memory_total_bytes: u64,
    /// Memory that the board can still give.
    pub memory_available_bytes: u64,
}

impl Health {
    /// Measures now; takes about a millisecond.
    pub fn measure() -> Self {
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        // A board whose system cannot be asked still gives all else of its status.
        let Ok(mut system) = System::new_with_specifics(memory) else {
            return Self::default();
        };
        let agent_rss_bytes = sysinfo::get_current_pid().map_or(0, |pid| {
            system.refresh_processes_specifics(
                ProcessesToUpdate::Some(&[pid]),
                false,
                ProcessRefreshKind::nothing().with_memory(),
            );
            system.process(pid).map_or(0, sysinfo::Process::memory)
        });
        Self {
            agent_rss_bytes,
            memory_total_bytes: system.total_memory(),
            memory_available_bytes: system.available_memory(),
        }
    }
}

/// RFC 3339 in UTC; a time beyond year 9999 as what it is.
fn date(unix_s: u64) -> String {
    let time = i64::try_from(unix_s)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| format!("@{unix_s}"), |t| t.to_string())
}

impl Status {
    /// The state as lines for people.
    pub fn to_table(&self) -> String {
        let mut lines = vec![format!(
            "agent      {} (process {}, up {} s, {} mode)",
            self.agent_version, self.pid, self.uptime_secs, self.mode
        )];
        if let Some(device) = &self.device {
            lines.push(format!("device     {device}"));
        }
        if let Some(fleet) = &self.fleet {
            lines.push(format!(
                "fleet      {}, {}; update {}; {} records wait",
                fleet.name,
                if fleet.connected {
                    "connected"
                } else {
                    "not connected"
                },
                fleet.update,
                fleet.outbox_records
            ));
            let certificate = match fleet.certificate_expires_unix_s {
                0 => "no certificate, it waits for approval".to_owned(),
                end => format!("certificate until {}", date(end)),
            };
            lines.push(format!(
                "trust      root {}; {certificate}; it is {} or later; {} messages refused",
                fleet.root,
                date(fleet.trusted_unix_s),
                fleet.refused
            ));
        }
        let source = &self.source;
        let ended = if source.ended { ", ended" } else { "" };
        lines.push(format!(
            "source     {}: {} rows{ended}, {} without a model, {} misfit, {} gaps",
            source.name, source.rows, source.no_model, source.misfit, source.gaps
        ));
        if !source.note.is_empty() {
            lines.push(format!("           {}", source.note));
        }
        for (role, model) in [("active", &self.active), ("candidate", &self.candidate)] {
            match model {
                Some(model) => lines.extend(model.to_lines(role)),
                None if role == "active" => lines.push("active     no model".into()),
                None => {}
            }
        }
        let health = &self.health;
        lines.push(format!(
            "memory     agent {}, board {} of {} available",
            mebibytes(health.agent_rss_bytes),
            mebibytes(health.memory_available_bytes),
            mebibytes(health.memory_total_bytes)
        ));
        lines.join("\n")
    }
}

impl ModelStatus {
    /// Two lines for people, the first headed by `role`.
    pub fn to_lines(&self, role: &str) -> [String; 2] {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        [
            format!(
                "{role:<10} {} {} {}",
                self.name,
                self.version,
                self.digest.get(..12).unwrap_or("(no bundle)")
            ),
            format!(
                "           {} windows, {} anomalous, {} skipped, {} failed, last score {}, \
                 median {} us",
                self.windows,
                self.anomalous,
                self.skipped,
                self.failed,
                or_none(self.last_score.map(|score| score.to_string())),
                or_none(self.latency_us_p50.map(|us| us.to_string()))
            ),
        ]
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
