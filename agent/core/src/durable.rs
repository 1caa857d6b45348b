//! What survives a power cut, as one value with one version byte in front.
//!
//! The driver replaces it as a whole, atomically. Fields are only ever added under a new
//! version, together with a reader for the old one; the golden bytes in the tests say which.
//!
//! Sequence, catalog mark, floors, epoch floor and time floor never decrease, with one
//! exception: a root that takes a fleet or catalog key away restarts what those keys counted
//! (sequence, catalog mark, time floor), since it may have been an attacker's doing.
//!
//! Refusals are counted here too, but counting one does not make the state worth writing: the
//! counts reach the disk with the next other change. A flood of hostile messages wears no
//! flash, and after a refusal the stored bytes are what they were before. A power cut loses
//! the counts since the last change; the events in the outbox stay.

use std::collections::BTreeMap;

use drover_trust::CatalogMark;
use drover_wire::message::{Digest, FailureCode, Running, Step};
use serde::{Deserialize, Serialize};

mod v1;

/// Format version that this build writes.
const VERSION: u8 = 2;
/// Most bundles remembered as bad; the one that failed longest ago is forgotten first.
const MAX_QUARANTINED: usize = 64;

/// Why stored bytes are not a durable state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurableError {
    /// Written by another version of the agent.
    #[error("stored state has format {0}, this build reads 1 to {VERSION}")]
    Version(u8),
    /// Not a state, or bytes follow it.
    #[error("stored state does not parse")]
    Parse,
}

/// Everything the machine must know after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Highest assignment sequence accepted under the fleet's keys; 0 for none.
    pub sequence: u64,
    /// The assignment of that sequence, as its encoded envelope.
    pub assignment: Option<Vec<u8>>,
    /// What is committed and runs.
    pub active: Option<Slot>,
    /// What was committed before; its files stay as long as it is named here.
    pub previous: Option<Slot>,
    /// What is being made ready to replace it.
    pub candidate: Option<Candidate>,
    /// Why the accepted assignment was given up.
    pub failure: Option<Failure>,
    /// Lowest counter that may run, by model name; raised by commits only.
    pub floors: BTreeMap<String, u64>,
    /// Bundles that failed here.
    pub quarantine: BTreeMap<Digest, Quarantine>,
    /// Newest signed time seen, in seconds since 1970.
    pub time_floor_s: u64,
    /// The newest root that was verified, as its encoded envelope.
    pub root: Option<Vec<u8>>,
    /// The newest catalog that was accepted.
    pub catalog: CatalogMark,
    /// Lowest security epoch that may run; raised by commits only.
    pub epoch_floor: u64,
    /// Refusals so far, by reason.
    pub refused: BTreeMap<FailureCode, u32>,
}

/// A bundle that was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// What it is.
    pub running: Running,
    /// Its security epoch.
    pub epoch: u64,
    /// Sum of the sizes of its files in bytes; 0 where an older agent did not write it down.
    pub total_bytes: u64,
}

/// A bundle on its way to becoming active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which bundle.
    pub digest: Digest,
    /// Model name, as assigned.
    pub name: String,
    /// Counter, as assigned.
    pub counter: u64,
    /// Sum of the sizes of its files in bytes, as assigned.
    pub total_bytes: u64,
    /// Version for people; known once the manifest is.
    pub version: String,
    /// How far it has come.
    pub progress: Progress,
    /// Security epoch, as assigned.
    pub epoch: u64,
}

/// How far a candidate has come, as far as a restart needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Manifest, chunks or files are incomplete.
    Fetching,
    /// All files are stored; it is being loaded.
    Loading,
    /// It runs on live data beside the active model.
    Trial,
}

/// Why an assignment was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which bundle.
    pub digest: Digest,
    /// At which step.
    pub step: Step,
    /// Why, for machines.
    pub code: FailureCode,
    /// Why, for people.
    pub detail: String,
}

/// What is held against a bundle on this device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Attempts that were begun and not passed; counted before each, so that an attempt that
    /// takes the whole device down counts too.
    pub failures: u8,
    /// No further attempt can end differently.
    pub is_final: bool,
    /// Assignment under which it failed last.
    pub sequence: u64,
}

impl Durable {
    /// Version byte and postcard.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("serializing into a Vec cannot fail")
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`DurableError`]; the caller then starts anew and says so, rather than guess.
    pub fn decode(bytes: &[u8]) -> Result<Self, DurableError> {
        let (&version, body) = bytes.split_first().ok_or(DurableError::Parse)?;
        match version {
            1 => parse::<v1::Durable>(body).map(Self::from),
            VERSION => parse(body),
            other => Err(DurableError::Version(other)),
        }
    }

    /// Lowest counter that may run under `name`.
    #[must_use]
    pub fn floor(&self, name: &str) -> u64 {
        self.floors.get(name).copied().unwrap_or(0)
    }

    /// Whether the files of `digest` must stay.
    #[must_use]
    pub fn refers_to(&self, digest: &Digest) -> bool {
        let slots = [&self.active, &self.previous];
        slots
            .into_iter()
            .flatten()
            .any(|slot| slot.running.digest == *digest)
            || self.candidate.as_ref().is_some_and(|c| c.digest == *digest)
    }

    /// What revoked fleet or catalog keys counted starts anew from `time_floor_s`.
    pub(crate) fn restart_trust(&mut self, time_floor_s: u64) {
        self.sequence = 0;
        self.catalog = CatalogMark::default();
        self.time_floor_s = time_floor_s;
        // Dated by the old sequence; what fails from now on is newer than all of it.
        for held in self.quarantine.values_mut() {
            held.sequence = 0;
        }
    }

    /// Attempts held against `digest`.
    pub(crate) fn failures(&self, digest: &Digest) -> u8 {
        self.quarantine.get(digest).map_or(0, |q| q.failures)
    }

    /// The entry of `digest`, made and dated if need be.
    pub(crate) fn quarantine_mut(&mut self, digest: Digest) -> &mut Quarantine {
        if !self.quarantine.contains_key(&digest) && self.quarantine.len() >= MAX_QUARANTINED {
            let oldest = self.quarantine.iter().min_by_key(|(_, q)| q.sequence);
            if let Some(digest) = oldest.map(|(digest, _)| *digest) {
                self.quarantine.remove(&digest);
            }
        }
        let sequence = self.sequence;
        let entry = self.quarantine.entry(digest).or_default();
        entry.sequence = sequence;
        entry
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DurableError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(DurableError::Parse),
    }
}

#[cfg(test)]
mod tests;
