//! Format 1 of the durable state, as agents before roles of trust wrote it.
//!
//! It is only read; the next persist writes the newest format.

use std::collections::BTreeMap;

use drover_trust::CatalogMark;
use drover_wire::message::{Digest, Running};
use serde::Deserialize;

use super::{Failure, Progress, Quarantine, Slot};

#[derive(Deserialize)]
pub(super) struct Durable {
    sequence: u64,
    assignment: Option<Vec<u8>>,
    active: Option<Running>,
    previous: Option<Running>,
    candidate: Option<Candidate>,
    failure: Option<Failure>,
    floors: BTreeMap<String, u64>,
    quarantine: BTreeMap<Digest, Quarantine>,
    time_floor_s: u64,
}

#[derive(Deserialize)]
struct Candidate {
    digest: Digest,
    name: String,
    counter: u64,
    total_bytes: u64,
    version: String,
    progress: Progress,
}

impl From<Durable> for super::Durable {
    fn from(v1: Durable) -> Self {
        let slot = |running| Slot {
            running,
            epoch: 0,
            total_bytes: 0,
        };
        let candidate = |c: Candidate| super::Candidate {
            digest: c.digest,
            name: c.name,
            counter: c.counter,
            total_bytes: c.total_bytes,
            version: c.version,
            progress: c.progress,
            epoch: 0,
        };
        Self {
            sequence: v1.sequence,
            assignment: v1.assignment,
            active: v1.active.map(slot),
            previous: v1.previous.map(slot),
            candidate: v1.candidate.map(candidate),
            failure: v1.failure,
            floors: v1.floors,
            quarantine: v1.quarantine,
            time_floor_s: v1.time_floor_s,
            root: None,
            catalog: CatalogMark::default(),
            epoch_floor: 0,
            refused: BTreeMap::new(),
        }
    }
}
