//! What survives a power cut, as one value with one version byte in front.
//!
//! The driver replaces it as a whole, atomically. Fields are only ever added under a new
//! version, together with a reader for the old one; the golden bytes below say which.

use std::collections::BTreeMap;

use drover_wire::message::{Digest, FailureCode, Running, Step};
use serde::{Deserialize, Serialize};

/// Format version that this build writes.
const VERSION: u8 = 1;
/// Most bundles remembered as bad; the one that failed longest ago is forgotten first.
const MAX_QUARANTINED: usize = 64;

/// Why stored bytes are not a durable state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurableError {
    /// Written by another version of the agent.
    #[error("stored state has format {0}, this build reads format {VERSION}")]
    Version(u8),
    /// Not a state, or bytes follow it.
    #[error("stored state does not parse")]
    Parse,
}

/// Everything the machine must know after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Highest assignment sequence accepted; never decreases.
    pub sequence: u64,
    /// The assignment of that sequence, as its encoded envelope.
    pub assignment: Option<Vec<u8>>,
    /// What is committed and runs.
    pub active: Option<Running>,
    /// What was committed before; its files stay as long as it is named here.
    pub previous: Option<Running>,
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
        if version != VERSION {
            return Err(DurableError::Version(version));
        }
        match postcard::take_from_bytes(body) {
            Ok((durable, [])) => Ok(durable),
            _ => Err(DurableError::Parse),
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
        slots.into_iter().flatten().any(|r| r.digest == *digest)
            || self.candidate.as_ref().is_some_and(|c| c.digest == *digest)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Durable {
        let running = |n: u8| Running {
            name: "p".into(),
            version: "1".into(),
            digest: [n; 32],
            counter: u64::from(n),
        };
        Durable {
            sequence: 300,
            assignment: Some(vec![9, 8]),
            active: Some(running(1)),
            previous: None,
            candidate: Some(Candidate {
                digest: [2; 32],
                name: "p".into(),
                counter: 2,
                total_bytes: 10,
                version: "2".into(),
                progress: Progress::Trial,
            }),
            failure: Some(Failure {
                digest: [3; 32],
                step: Step::Load,
                code: FailureCode::GoldenMismatch,
                detail: "x".into(),
            }),
            floors: BTreeMap::from([("p".into(), 1)]),
            quarantine: BTreeMap::from([(
                [3; 32],
                Quarantine {
                    failures: 1,
                    is_final: true,
                    sequence: 299,
                },
            )]),
            time_floor_s: 1_700_000_000,
        }
    }

    /// Golden bytes of format 1; never to be edited.
    #[test]
    fn version_1_bytes() {
        let d = |n: u8| vec![n; 32];
        let wanted = [
            vec![1, 0xac, 2, 1, 2, 9, 8], // version, sequence, assignment
            vec![1, 1, b'p', 1, b'1'],
            d(1),
            vec![1], // active
            vec![0], // previous
            vec![1],
            d(2),
            vec![1, b'p', 2, 10, 1, b'2', 2], // candidate
            vec![1],
            d(3),
            vec![2, 5, 1, b'x'], // failure
            vec![1, 1, b'p', 1], // floors
            vec![1],
            d(3),
            vec![1, 1, 0xab, 2],             // quarantine
            vec![0x80, 0xe2, 0xcf, 0xaa, 6], // time floor
        ]
        .concat();
        assert_eq!(sample().encode(), wanted);
        assert_eq!(Durable::decode(&wanted), Ok(sample()));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut bytes = sample().encode();
        bytes.push(0);
        assert_eq!(Durable::decode(&bytes), Err(DurableError::Parse));
        bytes[0] = 2;
        assert_eq!(Durable::decode(&bytes), Err(DurableError::Version(2)));
        assert_eq!(Durable::decode(&[]), Err(DurableError::Parse));
    }

    #[test]
    fn quarantine_forgets_the_oldest() {
        let mut durable = Durable::default();
        for n in 0..=MAX_QUARANTINED {
            durable.sequence = n as u64 + 1;
            durable.quarantine_mut([n as u8; 32]).failures = 1;
        }
        assert_eq!(durable.quarantine.len(), MAX_QUARANTINED);
        assert_eq!(durable.failures(&[0; 32]), 0);
        assert_eq!(durable.failures(&[1; 32]), 1);
    }
}
