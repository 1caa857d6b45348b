//! What goes over the local socket: one JSON object per line, in both directions.
//!
//! The README documents these for people who write applications in any language; a field
//! once published keeps its name and meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::status::Status;

/// From an application.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Asks for every result from now on.
    Subscribe,
    /// Asks for the agent's state.
    Status,
    /// Hands over one row of sensor values.
    Push {
        /// The values.
        row: PushedRow,
    },
}

/// One row from an application; `null` is a missing reading.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum PushedRow {
    /// In the order of the active model's channels.
    Values(Vec<Option<f32>>),
    /// By channel name; names that the model does not take are passed over.
    Named(BTreeMap<String, Option<f32>>),
}

/// To an application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// A model ran on a window.
    Observation(Observed),
    /// The agent's state.
    Status(Box<Status>),
    /// The application was too slow and has lost results.
    Dropped {
        /// How many.
        count: u64,
    },
    /// A pushed row was taken.
    Pushed,
    /// A request was refused; the connection stays.
    Error {
        /// Why.
        message: String,
    },
}

/// A model ran on a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Number of this start of the agent; 0 where nothing is recorded.
    pub boot: u64,
    /// Number of the record within the start; with `boot` it names the observation upstream.
    pub sequence: u64,
    /// When, RFC 3339 by the device's clock.
    pub time: String,
    /// Model name.
    pub model: String,
    /// Model version.
    pub version: String,
    /// Number of the window in its stream, from 0.
    pub window: u64,
    /// Number of the window's last row in its stream, from 0.
    pub last_row: u64,
    /// Time of the last row as the recording has it, where `source.time_column` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_time: Option<String>,
    /// Score; null when it is not finite.
    pub score: Option<f32>,
    /// `normal`, `anomalous`, `class` or `none`.
    pub verdict: String,
    /// Name of the class, with verdict `class`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the score was compared with, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// Time that the model took, in microseconds.
    pub latency_us: u32,
    /// The model's output, where `runner.capture_outputs` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<f32>,
}

impl Request {
    /// Reads a line: a request, or a row alone for `push`.
    ///
    /// # Errors
    /// What is wrong with it, for the application.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let parsed = serde_json::from_slice(line).and_then(|mut value: serde_json::Value| {
            if let Some(object) = value.as_object_mut()
                && object.contains_key("row")
            {
                object.entry("op").or_insert_with(|| "push".into());
            }
            serde_json::from_value(value)
        });
        parsed.map_err(|error| format!("{error}; ops are subscribe, status and push"))
    }
}

impl Answer {
    /// The line, its end included.
    pub fn to_line(&self) -> String {
        // Fails only on maps whose keys are no strings, and there are none.
        let mut line = serde_json::to_string(self).expect("answers are plain structs");
        line.push('\n');
        line
    }
}
