//! What runs and what is on trial, fed row by row.
//!
//! The candidate of a trial sees the same rows as the active model, in the same call, so
//! that it takes over at a row's border without having missed one. Its outcomes go nowhere
//! until then. No clock is read here but the sinks'; time comes in with the calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use drover_wire::message::{Body, Digest, Event};

use super::sink::Sinks;
use super::slot::{Slot, Taken, Tally};
use super::trial::{Ending, Trial, Wanted};
use super::watch::{Period, Watch};
use crate::source::{Columns, Feed, Row};
use crate::status::{ModelStatus, SourceStatus};
use crate::{AgentError, config};

/// Broken streams are told the fleet at most this often; the counters have them all.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Bounds of trials and profiles.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    trial: Wanted,
    profile: Period,
    /// A source that does not fit ends the stream instead of being counted.
    strict: bool,
}

impl Rules {
    /// As the settings say. With `strict`, a source that does not fit the model is an error
    /// and not a state to wait in.
    pub fn new(settings: &config::Runner, strict: bool) -> Self {
        Self {
            trial: Wanted {
                windows: settings.trial_windows,
                silence: Duration::from_secs(settings.trial_timeout_secs),
            },
            profile: Period {
                windows: settings.profile_windows,
                time: Duration::from_secs(settings.profile_secs),
            },
            strict,
        }
    }
}

/// What runs and what is on trial.
pub struct Stage {
    rules: Rules,
    sinks: Sinks,
    active: Option<Active>,
    candidate: Option<Candidate>,
    source: SourceStatus,
    columns: Option<Columns>,
    told_gap: Option<Instant>,
}

struct Active {
    slot: Slot,
    tally: Tally,
    watch: Option<Watch>,
}

struct Candidate {
    slot: Slot,
    tally: Tally,
    trial: Option<Trial>,
}

/// The state of a stage, for [`crate::status::Status`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What came in.
    pub source: SourceStatus,
    /// What runs.
    pub active: Option<ModelStatus>,
    /// What is on trial.
    pub candidate: Option<ModelStatus>,
}

impl Stage {
    /// A stage on which nothing runs; `source` is its name for people.
    pub fn new(rules: Rules, sinks: Sinks, source: String) -> Self {
        Self {
            rules,
            sinks,
            active: None,
            candidate: None,
            source: SourceStatus {
                name: source,
                ..SourceStatus::default()
            },
            columns: None,
            told_gap: None,
        }
    }

    /// Runs `slot` from the next row on, instead of what ran.
    pub fn run(&mut self, slot: Slot, now: Instant) {
        self.take_over(slot, Tally::default(), now);
    }

    /// Keeps `slot` as the candidate, instead of the one there was.
    pub fn stand_by(&mut self, slot: Slot) {
        self.candidate = Some(Candidate {
            slot,
            tally: Tally::default(),
            trial: None,
        });
    }

    /// Begins the candidate's trial, if it is `digest`; a trial under way goes on.
    pub fn start_trial(&mut self, digest: &Digest, now: Instant) {
        let wanted = self.rules.trial;
        match &mut self.candidate {
            Some(candidate) if candidate.slot.about.digest == *digest => {
                let skipped = candidate.slot.pipeline.counts().skipped;
                candidate
                    .trial
                    .get_or_insert_with(|| Trial::new(wanted, skipped, now));
            }
            _ => (self.sinks.report)(*digest, Err("the candidate is not loaded".to_owned())),
        }
    }

    /// Makes the candidate `digest` the active model, from the next row on; what it is
    /// already stays as it is.
    pub fn activate(&mut self, digest: &Digest, now: Instant) {
        match self.candidate.take() {
            Some(candidate) if candidate.slot.about.digest == *digest => {
                self.take_over(candidate.slot, candidate.tally, now);
            }
            other => self.candidate = other,
        }
    }

    /// Runs nothing any more.
    pub fn deactivate(&mut self, now: Instant) {
        self.close_profile(now);
        self.active = None;
    }

    /// Gives the candidate up.
    pub fn drop_candidate(&mut self) {
        self.candidate = None;
    }

    /// Which bundle runs.
    pub fn active_digest(&self) -> Option<Digest> {
        self.active.as_ref().map(|active| active.slot.about.digest)
    }

    /// Channels of the model that runs, in its order.
    pub fn active_channels(&self) -> Option<Columns> {
        self.active
            .as_ref()
            .map(|active| Arc::clone(active.slot.channels()))
    }

    /// Columns of the source, once a row has come.
    pub fn columns(&self) -> Option<Columns> {
        self.columns.clone()
    }

    /// What the state is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            source: self.source.clone(),
            active: self.active.as_ref().map(|a| a.slot.status(&a.tally)),
            candidate: self.candidate.as_ref().map(|c| c.slot.status(&c.tally)),
        }
    }

    /// Takes what the source says; false when the source has ended.
    ///
    /// # Errors
    /// When the source failed, when results cannot be written in local mode, or, under
    /// strict rules, when the source does not fit the model. The stage goes on if it is fed
    /// on.
    pub fn feed(&mut self, feed: Feed, now: Instant) -> Result<bool, AgentError> {
        match feed {
            Feed::Row(row) => self.row(&row, now).map(|()| true),
            Feed::Gap { detail } => {
                self.gap(detail, now)?;
                Ok(true)
            }
            Feed::Note { detail } => {
                self.tell(detail);
                Ok(true)
            }
            Feed::Ended { rows } => {
                self.source.ended = true;
                self.tell(format!("the recording ended after {rows} rows"));
                self.finish(now).map(|()| false)
            }
            Feed::Failed(error) => {
                self.source.ended = true;
                self.finish(now)?;
                let error = Arc::try_unwrap(error)
                    .unwrap_or_else(|shared| AgentError::Usage(crate::chain(&*shared)));
                self.tell(crate::chain(&error));
                Err(error)
            }
        }
    }

    /// Looks at what is due by time alone.
    pub fn tick(&mut self, now: Instant) {
        let has_active = self.active.is_some();
        if let Some(candidate) = &mut self.candidate
            && let Some(trial) = &mut candidate.trial
            && let Some(ending) = trial.tick(has_active, now)
        {
            (self.sinks.report)(candidate.slot.about.digest, ending);
        }
        self.close_due_profile(now);
    }

    /// Writes out what is under way; the agent goes down.
    pub fn close(&mut self, now: Instant) {
        self.close_profile(now);
        if let Err(error) = self.sinks.flush() {
            tracing::error!("{}", crate::chain(&error));
        }
    }

    fn row(&mut self, row: &Row, now: Instant) -> Result<(), AgentError> {
        self.source.rows += 1;
        let same = self
            .columns
            .as_ref()
            .is_some_and(|c| Arc::ptr_eq(c, &row.columns));
        if !same {
            self.columns = Some(Arc::clone(&row.columns));
        }
        let lost = self
            .active
            .as_ref()
            .and_then(|active| active.slot.lost_before(row));
        let result = match lost {
            Some(lost) => self.row_to_active(&lost, now),
            None => Ok(()),
        };
        let result = result.and_then(|()| self.row_to_active(row, now));
        self.row_to_candidate(row, now);
        result
    }

    fn gap(&mut self, detail: String, now: Instant) -> Result<(), AgentError> {
        self.source.gaps += 1;
        let due = |at: Instant| now.duration_since(at) > TELL_EVERY;
        if self.told_gap.is_none_or(due) {
            self.told_gap = Some(now);
            self.tell(detail);
        } else {
            self.source.note = detail;
        }
        let lost = |slot: &Slot| slot.lost_row();
        if let Some(row) = self.candidate.as_ref().and_then(|c| lost(&c.slot)) {
            self.row_to_candidate(&row, now);
        }
        match self.active.as_ref().and_then(|a| lost(&a.slot)) {
            Some(row) => self.row_to_active(&row, now),
            None => Ok(()),
        }
    }

    fn row_to_active(&mut self, row: &Row, now: Instant) -> Result<(), AgentError> {
        let Some(active) = &mut self.active else {
            self.source.no_model += 1;
            return Ok(());
        };
        let about = Arc::clone(&active.slot.about);
        match active.slot.take(row) {
            Taken::Row(picked, outcomes) => {
                if let Some(watch) = &mut active.watch {
                    watch.row(picked);
                }
                match outcomes {
                    Ok(outcomes) => {
                        for outcome in outcomes {
                            active.tally.count(outcome);
                            if let Some(watch) = &mut active.watch {
                                watch.window(outcome.score);
                            }
                            self.sinks.outcome(&about, outcome, row.time.as_deref())?;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(
                            "{} {}: {}",
                            about.name,
                            about.version,
                            crate::chain(&error)
                        );
                    }
                }
                self.close_due_profile(now);
                Ok(())
            }
            Taken::Misfit { why, first } => {
                self.source.misfit += 1;
                if !first {
                    return Ok(());
                }
                let model = format!("{} {}", about.name, about.version);
                if self.rules.strict {
                    return Err(AgentError::Misfit { model, source: why });
                }
                self.tell(format!("the source does not fit the model {model}: {why}"));
                Ok(())
            }
        }
    }

    fn row_to_candidate(&mut self, row: &Row, now: Instant) {
        let Some(Candidate {
            slot,
            tally,
            trial: Some(trial),
        }) = &mut self.candidate
        else {
            return;
        };
        if trial.has_failed() {
            return;
        }
        let ending = match slot.take(row) {
            Taken::Row(_, outcomes) => {
                for outcome in outcomes.iter().copied().flatten() {
                    tally.count(outcome);
                }
                trial.row(&outcomes, now)
            }
            Taken::Misfit { why, .. } => trial.misfit(&why),
        };
        let ending = ending.or_else(|| {
            let active = self.active.as_ref().map(|active| &active.tally.latencies);
            trial.judge(&tally.latencies, active, slot.pipeline.counts().skipped)
        });
        if let Some(ending) = ending {
            let ending: Ending = ending;
            (self.sinks.report)(slot.about.digest, ending);
        }
    }

    /// The end of a stream gives out what its calibration held back.
    fn finish(&mut self, now: Instant) -> Result<(), AgentError> {
        if let Some(active) = &mut self.active {
            match active.slot.pipeline.finish() {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        active.tally.count(outcome);
                        if let Some(watch) = &mut active.watch {
                            watch.window(outcome.score);
                        }
                        self.sinks.outcome(&active.slot.about, outcome, None)?;
                    }
                }
                Err(error) => tracing::warn!("{}", crate::chain(&error)),
            }
        }
        self.close_profile(now);
        self.sinks.flush()
    }

    fn take_over(&mut self, slot: Slot, tally: Tally, now: Instant) {
        self.close_profile(now);
        let watch = slot.watch(now, (self.sinks.now_unix_ms)());
        tracing::info!("{} runs", slot.title());
        self.active = Some(Active { slot, tally, watch });
    }

    fn close_due_profile(&mut self, now: Instant) {
        let period = self.rules.profile;
        let unix_ms = self.sinks.now_unix_ms;
        let watch = self
            .active
            .as_mut()
            .and_then(|active| active.watch.as_mut());
        let profile = watch.and_then(|watch| watch.due(period, now, unix_ms));
        self.record_profile(profile);
    }

    fn close_profile(&mut self, now: Instant) {
        let unix_ms = (self.sinks.now_unix_ms)();
        let watch = self
            .active
            .as_mut()
            .and_then(|active| active.watch.as_mut());
        let profile = watch.and_then(|watch| watch.close(now, unix_ms));
        self.record_profile(profile);
    }

    fn record_profile(&mut self, profile: Option<drover_sketch::Profile>) {
        match profile.map(|profile| profile.encode()) {
            Some(Ok(bytes)) => self.sinks.fleet(Body::Profile(bytes)),
            Some(Err(error)) => tracing::warn!("a drift profile is lost: {error}"),
            None => {}
        }
    }

    fn tell(&mut self, detail: String) {
        tracing::info!("source: {detail}");
        self.source.note.clone_from(&detail);
        self.sinks.fleet(Body::Event(Event::Source { detail }));
    }
}
