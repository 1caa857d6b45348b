//! The contract: every byte the agent persists passes through [`Journal`].
//!
//! Three kinds of data with three promises. State cells are durable when `save_state` returns.
//! Outbox records are durable after the next `flush`. Chunks promise nothing but never to come
//! back damaged. What each promise leaves after a power cut stands at its method.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::{Digest, RecordKey, Result};

/// What the agent persists. Object safe; every call blocks.
///
/// A value that fails its checksum is never returned: it is skipped, counted and shown by
/// [`Journal::salvage`].
pub trait Journal: Send {
    /// The newest value of a state cell, or none if it was never saved.
    fn load_state(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Replaces a state cell; the value is durable when this returns `Ok`.
    ///
    /// After a power cut, and after an error, the cell holds the old or the new value, never a mix.
    fn save_state(&mut self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Counts one more start of the agent, durably, and gives its number; the first is 1.
    ///
    /// It is above every boot in the outbox even if the counter itself was lost.
    fn begin_boot(&mut self) -> Result<u64>;

    /// Adds an outbox record; durable only after [`Journal::flush`].
    ///
    /// Evicts the oldest records when the quota is exceeded, in a large outbox up to 1/256 of the
    /// quota more than needed. The same key again replaces the record. After a power cut, appends
    /// since the last flush may be gone.
    fn append(&mut self, boot: u64, seq: u64, bytes: &[u8]) -> Result<()>;

    /// Makes all appends and removals so far durable.
    fn flush(&mut self) -> Result<()>;

    /// The oldest records after `after`, oldest first, within both limits.
    ///
    /// The first one is given even if it alone exceeds `limit_bytes`, so that no record can block
    /// those behind it.
    fn oldest(
        &self,
        limit_records: usize,
        limit_bytes: u64,
        after: Option<RecordKey>,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>>;

    /// Removes records by key; returns how many were there.
    ///
    /// After a power cut, removals since the last flush may be undone: the record comes back and
    /// is sent again, which receivers tolerate because its key is the same.
    fn remove(&mut self, keys: &[RecordKey]) -> Result<u64>;

    /// Removes the records of one boot in a range; returns how many were there. As [`Journal::remove`].
    fn remove_range(&mut self, boot: u64, seqs: RangeInclusive<u64>) -> Result<u64>;

    /// How many records the outbox holds; exact after a reopen.
    fn len(&self) -> u64;

    /// Whether the outbox is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Payload bytes of all outbox records; exact after a reopen.
    fn bytes(&self) -> u64;

    /// How many records were ever evicted; persisted together with the eviction.
    fn evicted(&self) -> u64;

    /// Stages one chunk of a bundle. Not flushed: a power cut may lose it, then it is fetched again.
    fn put_chunk(&mut self, digest: &Digest, index: u32, bytes: &[u8]) -> Result<()>;

    /// The indices of all staged chunks that read back whole, ascending.
    fn chunks_present(&self, digest: &Digest) -> Result<Vec<u32>>;

    /// One staged chunk, or none if it is missing or damaged.
    fn get_chunk(&self, digest: &Digest, index: u32) -> Result<Option<Vec<u8>>>;

    /// Forgets all staged chunks of a bundle.
    fn drop_chunks(&mut self, digest: &Digest) -> Result<()>;

    /// Stores one file of a bundle, durable when this returns `Ok`.
    ///
    /// After a power cut the file is the old one, the new one or missing, never a part.
    fn put_file(&mut self, digest: &Digest, name: &str, bytes: &[u8]) -> Result<()>;

    /// One file of a bundle, or none if it is missing or damaged.
    fn open_file(&self, digest: &Digest, name: &str) -> Result<Option<Vec<u8>>>;

    /// Removes a bundle and its staged chunks. After a power cut some of its files may remain.
    fn remove_bundle(&mut self, digest: &Digest) -> Result<()>;

    /// All bundles that have files, ordered by digest.
    fn list_bundles(&self) -> Result<Vec<BundleEntry>>;

    /// What was found damaged since the journal was opened.
    fn salvage(&self) -> Salvage;
}

/// How much the outbox may hold before its oldest records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxQuota {
    /// Most payload bytes; also the limit of a single record.
    pub max_bytes: u64,
    /// Most records.
    pub max_records: u64,
}

impl Default for OutboxQuota {
    /// 32 MiB and 100 000 records: about a week of a busy device's reports.
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
            max_records: 100_000,
        }
    }
}

/// Counts of what was damaged and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salvage {
    /// Outbox records that failed their checksum. They were removed.
    pub corrupt_records: u64,
    /// Copies of state cells that failed their checksum. The other copy was used where it was whole.
    pub corrupt_states: u64,
    /// Chunks and bundle files that failed their checksum.
    pub corrupt_blobs: u64,
    /// Values of a format this version does not know. They were left alone.
    pub unknown_version: u64,
    /// Saves of state of which only one of the two copies could be written.
    pub single_copy_saves: u64,
    /// Outbox records recovered from the raw files of an engine that would not open.
    pub recovered_records: u64,
}

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleEntry {
    /// The bundle.
    pub digest: Digest,
    /// Its files and their stored sizes in bytes, ordered by name.
    pub files: Vec<(String, u64)>,
}

/// What opening the data folder found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Nothing was there before.
    pub fresh: bool,
    /// The engine could not read its files, or read them as empty; here they are kept.
    pub set_aside: Option<PathBuf>,
    /// Why, in the engine's words.
    pub reason: Option<String>,
    /// The engine opened only after its snapshot was dropped; nothing is known to be lost.
    pub rebuilt_index: bool,
    /// The disk is too full for the engine: state and bundles work, the outbox is closed until
    /// there is room.
    pub degraded: Option<String>,
    /// Records in the outbox.
    pub records: u64,
    /// Payload bytes in the outbox.
    pub bytes: u64,
    /// What was damaged.
    pub salvage: Salvage,
}
