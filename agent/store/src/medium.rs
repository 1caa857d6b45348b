//! What a journal is built on: an ordered key-value space and a few files.
//!
//! [`crate::Store`] turns these primitives into the [`crate::Journal`] contract, once for all
//! media. The primitives are small on purpose: each is one point at which the power can be cut,
//! and [`crate::FaultMedium`] cuts at every one of them.
//!
//! Paths are relative, with `/`, made by this crate only.

use std::ops::ControlFlow;

use crate::Result;

/// One change of the key-value space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvOp {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; one that is missing is no error.
    Delete(Vec<u8>),
}

/// A callback over keys and values in order.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The medium was reopened: changes that were not flushed may be gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// Records found in the raw files of an engine that had to be set aside.
    pub recovered_records: u64,
}

/// The primitives under a journal.
pub trait Medium: Send {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Visits `from <= key < to` in ascending order until the callback breaks.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()>;

    /// Applies all changes or none; durable only after [`Medium::flush`].
    fn apply(&mut self, ops: Vec<KvOp>) -> Result<()>;

    /// Makes all changes so far durable.
    fn flush(&mut self) -> Result<()>;

    /// Writes a file in place, making its folders; neither atomic nor durable.
    fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<()>;

    /// Makes the content of a file durable.
    fn sync_file(&mut self, path: &str) -> Result<()>;

    /// Moves a file over another one, atomically; durable after [`Medium::sync_dir`].
    fn rename(&mut self, from: &str, to: &str) -> Result<()>;

    /// Makes the names in a folder durable, and the folder's own name.
    fn sync_dir(&mut self, path: &str) -> Result<()>;

    /// Removes a file or a folder with all in it; one that is missing is no error.
    fn remove(&mut self, path: &str) -> Result<()>;

    /// The content of a file, or none if it is missing.
    fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>>;

    /// Names and sizes in a folder, ordered by name; empty if it is missing.
    fn list(&self, path: &str) -> Result<Vec<(String, u64)>>;

    /// Free bytes where the data lives, if the medium has a limit.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Recovers from an earlier failure before a change; none if there was nothing to do.
    fn heal(&mut self) -> Result<Option<Healed>> {
        Ok(None)
    }
}
