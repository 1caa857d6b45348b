//! Where outcomes go: the record for the fleet, applications on the local socket, standard
//! output.
//!
//! The record comes first: it gives an observation the number under which the others show
//! it. What fails here never stops inference, apart from standard output in local mode,
//! which is what the person asked for.

use std::io::Write;
use std::sync::Arc;

use drover_runtime::{Outcome, Verdict};
use drover_wire::message::{self, Body, Digest};
use tokio::sync::broadcast;

use super::slot::About;
use crate::AgentError;
use crate::local::{Answer, Observed};

/// What observations carry beside the score.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capture {
    /// Raw sensor values.
    pub inputs: bool,
    /// Model output.
    pub outputs: bool,
}

/// The number and time of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// Number of the agent's start.
    pub boot: u64,
    /// Number within the start.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// Takes records for the fleet; must not wait for a network.
pub type Recording = Box<dyn FnMut(Body) -> Numbered + Send>;
/// Takes the ending of a trial: its candidate, and why it failed if it did.
pub type Reporting = Box<dyn FnMut(Digest, Result<(), String>) + Send>;

/// Where outcomes go.
pub struct Sinks {
    /// The record; it numbers what it takes.
    pub record: Recording,
    /// Whether a fleet gets the record: without one, only numbers are of use.
    pub fleet: bool,
    /// Applications on the local socket.
    pub results: broadcast::Sender<Arc<str>>,
    /// One line per outcome, for local mode.
    pub lines: Option<Box<dyn Write + Send>>,
    /// Endings of trials.
    pub report: Reporting,
    /// What observations carry.
    pub capture: Capture,
    /// Device's clock, in milliseconds since 1970.
    pub now_unix_ms: fn() -> u64,
}

impl Sinks {
    pub(super) fn outcome(
        &mut self,
        about: &About,
        outcome: &Outcome,
        source_time: Option<&str>,
    ) -> Result<(), AgentError> {
        let output = || outcome.output.to_f32();
        let numbered = (self.record)(Body::Observation(message::Observation {
            model: about.digest,
            window: outcome.window,
            score: outcome.score,
            decision: verdict(outcome),
            latency_us: outcome.latency_us,
            input: if self.fleet && self.capture.inputs {
                outcome.rows.clone()
            } else {
                Vec::new()
            },
            output: if self.fleet && self.capture.outputs {
                output()
            } else {
                Vec::new()
            },
        }));
        if self.lines.is_none() && self.results.receiver_count() == 0 {
            return Ok(());
        }
        let (verdict, label) = match verdict(outcome) {
            message::Verdict::None => ("none", None),
            message::Verdict::Normal => ("normal", None),
            message::Verdict::Anomalous => ("anomalous", None),
            message::Verdict::Class(class) => ("class", about.labels.get(class as usize)),
        };
        let answer = Answer::Observation(Observed {
            boot: numbered.boot,
            sequence: numbered.sequence,
            time: rfc3339(numbered.unix_ms),
            model: about.name.clone(),
            version: about.version.clone(),
            window: outcome.window,
            last_row: outcome.first_row + about.window_rows.saturating_sub(1),
            source_time: source_time.map(str::to_owned),
            score: Some(outcome.score).filter(|score| score.is_finite()),
            verdict: verdict.to_owned(),
            label: label.cloned(),
            threshold: outcome.threshold,
            latency_us: outcome.latency_us,
            outputs: if self.capture.outputs {
                output()
            } else {
                Vec::new()
            },
        });
        let line = answer.to_line();
        if let Some(lines) = &mut self.lines {
            lines
                .write_all(line.as_bytes())
                .map_err(AgentError::file("write results to", "standard output"))?;
        }
        // An error means that no application listens.
        let _ = self.results.send(line.into());
        Ok(())
    }

    pub(super) fn fleet(&mut self, body: Body) {
        if self.fleet {
            let _ = (self.record)(body);
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), AgentError> {
        match &mut self.lines {
            Some(lines) => lines
                .flush()
                .map_err(AgentError::file("write results to", "standard output")),
            None => Ok(()),
        }
    }
}

fn verdict(outcome: &Outcome) -> message::Verdict {
    match (outcome.verdict, outcome.class) {
        (Verdict::Normal, _) => message::Verdict::Normal,
        (Verdict::Anomalous, _) => message::Verdict::Anomalous,
        (Verdict::None, Some(class)) => message::Verdict::Class(class),
        (Verdict::None, None) => message::Verdict::None,
    }
}

/// Milliseconds since 1970 as RFC 3339.
fn rfc3339(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).map(jiff::Timestamp::from_millisecond);
    match time {
        Ok(Ok(time)) => format!("{time:.3}"),
        // A clock beyond the year 9999.
        _ => String::new(),
    }
}
