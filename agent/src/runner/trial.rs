//! The trial of a candidate on live rows: how many windows it has mastered, and what makes
//! it fail.
//!
//! A trial ends in bounded time. It waits for `trial_timeout_secs` after each row; rows that
//! come but never give a window that can be scored end it too. A silent source passes a
//! candidate only where nothing is active: a first model may be installed before its sensor
//! is, while a model that works is not replaced on no evidence.

use std::time::{Duration, Instant};

use drover_runtime::{Outcome, PipelineError};

use super::latency::Latencies;

/// A candidate may be this many times slower than the active model.
const SLOWER: u32 = 10;
/// Below this a ratio of latencies says nothing, in microseconds.
const LATENCY_FLOOR_US: u32 = 1000;
/// Windows with missing values that a trial bears, per window that it wants.
const SKIPPED_PER_WINDOW: u64 = 20;

/// What a trial asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) windows: u32,
    pub(super) silence: Duration,
}

/// A trial under way.
#[derive(Debug)]
pub(super) struct Trial {
    wanted: Wanted,
    mastered: u32,
    skipped_before: u64,
    heard: Instant,
    /// Reported, and whether for good.
    ended: Option<bool>,
}

/// How a trial ended.
pub(super) type Ending = Result<(), String>;

impl Trial {
    pub(super) fn new(wanted: Wanted, skipped_before: u64, now: Instant) -> Self {
        Self {
            wanted,
            mastered: 0,
            skipped_before,
            heard: now,
            ended: None,
        }
    }

    /// Judges what the candidate made of a row.
    pub(super) fn row(
        &mut self,
        outcomes: &Result<&[Outcome], PipelineError>,
        now: Instant,
    ) -> Option<Ending> {
        self.heard = now;
        match outcomes {
            Ok(outcomes) => {
                for outcome in *outcomes {
                    if !is_finite(outcome) {
                        let detail = format!("window {}: an output is not finite", outcome.window);
                        return self.end(Err(detail));
                    }
                    self.mastered = self.mastered.saturating_add(1);
                }
                None
            }
            Err(error) => self.end(Err(crate::chain(error))),
        }
    }

    /// Judges the trial so far, after the row's windows are counted.
    pub(super) fn judge(
        &mut self,
        candidate: &Latencies,
        active: Option<&Latencies>,
        skipped: u64,
    ) -> Option<Ending> {
        if self.mastered >= self.wanted.windows {
            let mine = candidate.median().unwrap_or(0);
            let theirs = active.and_then(Latencies::median);
            return match theirs {
                Some(theirs) if mine > LATENCY_FLOOR_US.max(theirs.saturating_mul(SLOWER)) => self
                    .end(Err(format!(
                        "a window takes {mine} us, the active model takes {theirs} us"
                    ))),
                _ => self.end(Ok(())),
            };
        }
        let skipped = skipped.saturating_sub(self.skipped_before);
        if skipped > SKIPPED_PER_WINDOW * u64::from(self.wanted.windows) {
            return self.end(Err(format!(
                "values were missing in {skipped} windows, and only {} of {} could be scored",
                self.mastered, self.wanted.windows
            )));
        }
        None
    }

    /// The source does not fit the candidate.
    pub(super) fn misfit(&mut self, why: &PipelineError) -> Option<Ending> {
        self.end(Err(why.to_string()))
    }

    /// Looks at the deadline.
    pub(super) fn tick(&mut self, has_active: bool, now: Instant) -> Option<Ending> {
        if now.duration_since(self.heard) < self.wanted.silence {
            return None;
        }
        self.end(if has_active {
            Err(format!(
                "the source delivered no row for {} s, after {} of {} windows",
                self.wanted.silence.as_secs(),
                self.mastered,
                self.wanted.windows
            ))
        } else {
            Ok(())
        })
    }

    pub(super) fn has_failed(&self) -> bool {
        self.ended == Some(false)
    }

    fn end(&mut self, ending: Ending) -> Option<Ending> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = Some(ending.is_ok());
        Some(ending)
    }
}

fn is_finite(outcome: &Outcome) -> bool {
    outcome.score.is_finite()
        && outcome
            .output
            .to_f32()
            .iter()
            .all(|value| value.is_finite())
}
