//! The journal over any medium: counters, checksums, quota and the order of writes.
//!
//! Nothing here is specific to sled or to memory. A power cut between any two primitives of the
//! medium leaves what the methods of [`Journal`] promise; `tests/power_cut.rs` proves it by cutting
//! at every one of them. Counters are recounted at every start, so they cannot drift.

mod blob;
mod outbox;
mod state;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::envelope::Damage;
use crate::key::Digest;
use crate::{
    BundleEntry, Journal, Medium, OpenReport, OutboxQuota, RecordKey, Result, Salvage, StoreError,
};

/// A [`Journal`] over a [`Medium`].
#[derive(Clone, Debug)]
pub struct Store<M> {
    medium: M,
    quota: OutboxQuota,
    /// Appends, chunks and files must leave this much free; state cells may use it.
    min_free_bytes: u64,
    records: u64,
    bytes: u64,
    evicted: u64,
    newest: Option<RecordKey>,
    salvage: Cell<Salvage>,
    /// Places already counted in `salvage`, so that reading one twice counts it once.
    counted: RefCell<BTreeSet<Vec<u8>>>,
    /// Chunks whose checksum was verified in this process.
    chunks: RefCell<BTreeMap<Digest, BTreeSet<u32>>>,
}

/// Which counter a damaged place belongs to.
#[derive(Clone, Copy)]
enum Kind {
    Record,
    State,
    Blob,
}

impl<M: Medium> Store<M> {
    /// Starts on what the medium holds: removes leftovers and damaged records, and counts the rest.
    pub fn start(medium: M, quota: OutboxQuota, min_free_bytes: u64) -> Result<(Self, OpenReport)> {
        let mut store = Self {
            medium,
            quota,
            min_free_bytes,
            records: 0,
            bytes: 0,
            evicted: 0,
            newest: None,
            salvage: Cell::default(),
            counted: RefCell::default(),
            chunks: RefCell::default(),
        };
        store.clear_leftovers()?;
        let degraded = match store.recount() {
            Ok(()) => None,
            // State cells and bundles need no engine; the outbox comes with the first heal.
            Err(error @ StoreError::Closed { .. }) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let report = OpenReport {
            records: store.records,
            bytes: store.bytes,
            salvage: store.salvage.get(),
            degraded,
            ..OpenReport::default()
        };
        Ok((store, report))
    }

    /// The medium below.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    pub(crate) fn medium_mut(&mut self) -> &mut M {
        &mut self.medium
    }

    pub(crate) fn into_parts(self) -> (OutboxQuota, M) {
        (self.quota, self.medium)
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Salvage)) {
        let mut salvage = self.salvage.get();
        change(&mut salvage);
        self.salvage.set(salvage);
    }

    /// Counts a damaged place once.
    fn damaged(&self, kind: Kind, place: &[u8], damage: Damage) {
        if !self.counted.borrow_mut().insert(place.to_vec()) {
            return;
        }
        self.note(|salvage| match (damage, kind) {
            (Damage::UnknownVersion, _) => salvage.unknown_version += 1,
            (Damage::Corrupt, Kind::Record) => salvage.corrupt_records += 1,
            (Damage::Corrupt, Kind::State) => salvage.corrupt_states += 1,
            (Damage::Corrupt, Kind::Blob) => salvage.corrupt_blobs += 1,
        });
    }

    /// Brings a failed medium back before the next change.
    fn heal(&mut self) -> Result<()> {
        if let Some(healed) = self.medium.heal()? {
            self.note(|salvage| salvage.recovered_records += healed.recovered_records);
            self.recount()?;
        }
        Ok(())
    }

    /// Refuses data that would eat the reserve.
    fn check_room(&self, what: &str, bytes: usize) -> Result<()> {
        let needed = self.min_free_bytes.saturating_add(bytes as u64);
        match self.medium.free_bytes() {
            Some(free) if free < needed => Err(StoreError::Full {
                what: format!(
                    "{what}: {free} bytes are free and {} are kept for the agent's state",
                    self.min_free_bytes
                ),
            }),
            _ => Ok(()),
        }
    }
}

fn check_size(what: &'static str, bytes: usize, limit: u64) -> Result<()> {
    if bytes as u64 > limit {
        return Err(StoreError::TooLarge {
            what,
            bytes: bytes as u64,
            limit,
        });
    }
    Ok(())
}

impl<M: Medium> Journal for Store<M> {
    fn load_state(&self, name: &str) -> Result<Option<Vec<u8>>> {
        crate::key::check_name(name)?;
        self.load_cell(name)
    }

    fn save_state(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        crate::key::check_name(name)?;
        // The file of the cell needs no engine, so a failed one is no reason to refuse.
        let _ = self.heal();
        self.save_cell(name, bytes)
    }

    fn begin_boot(&mut self) -> Result<u64> {
        let _ = self.heal();
        self.count_boot()
    }

    fn append(&mut self, boot: u64, seq: u64, bytes: &[u8]) -> Result<()> {
        self.heal()?;
        self.append_record(RecordKey { boot, seq }, bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.heal()?;
        self.medium.flush()
    }

    fn oldest(
        &self,
        limit_records: usize,
        limit_bytes: u64,
        after: Option<RecordKey>,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>> {
        self.oldest_records(limit_records, limit_bytes, after)
    }

    fn remove(&mut self, keys: &[RecordKey]) -> Result<u64> {
        self.heal()?;
        self.remove_keys(keys)
    }

    fn remove_range(&mut self, boot: u64, seqs: RangeInclusive<u64>) -> Result<u64> {
        self.heal()?;
        self.remove_seqs(boot, seqs)
    }

    fn len(&self) -> u64 {
        self.records
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn evicted(&self) -> u64 {
        self.evicted
    }

    fn put_chunk(&mut self, digest: &Digest, index: u32, bytes: &[u8]) -> Result<()> {
        self.stage_chunk(digest, index, bytes)
    }

    fn chunks_present(&self, digest: &Digest) -> Result<Vec<u32>> {
        self.verified_chunks(digest)
    }

    fn get_chunk(&self, digest: &Digest, index: u32) -> Result<Option<Vec<u8>>> {
        self.read_chunk(digest, index)
    }

    fn drop_chunks(&mut self, digest: &Digest) -> Result<()> {
        self.forget_chunks(digest)
    }

    fn put_file(&mut self, digest: &Digest, name: &str, bytes: &[u8]) -> Result<()> {
        crate::key::check_name(name)?;
        self.write_bundle_file(digest, name, bytes)
    }

    fn open_file(&self, digest: &Digest, name: &str) -> Result<Option<Vec<u8>>> {
        crate::key::check_name(name)?;
        self.read_bundle_file(digest, name)
    }

    fn remove_bundle(&mut self, digest: &Digest) -> Result<()> {
        self.delete_bundle(digest)
    }

    fn list_bundles(&self) -> Result<Vec<BundleEntry>> {
        self.bundle_entries()
    }

    fn salvage(&self) -> Salvage {
        self.salvage.get()
    }
}
