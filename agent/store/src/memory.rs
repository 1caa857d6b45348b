//! A medium in memory that knows what a disk would have kept.
//!
//! Every file name and content exists twice: as a running process sees it, and as it would be after
//! a power cut. A name becomes durable by `sync_dir`, a content by `sync_file`, keys by `flush`, as
//! strictly as any file system may take it. [`MemJournal`] is the journal for tests and simulators;
//! a clone of it is an image of the device's disk and memory.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use crate::medium::Visit;
use crate::{KvOp, Medium, OpenReport, OutboxQuota, Result, Store, StoreError};

/// A journal in memory with the full contract, for tests and simulators.
pub type MemJournal = Store<MemMedium>;

impl MemJournal {
    /// An empty journal.
    #[must_use]
    pub fn new(quota: OutboxQuota) -> Self {
        let (store, _report) = Self::start(MemMedium::default(), quota, 0)
            .expect("an empty memory medium cannot fail a read");
        store
    }

    /// What a start of the agent after a power cut finds: everything unflushed is gone.
    pub fn power_cut(self) -> Result<(Self, OpenReport)> {
        let (quota, mut medium) = self.into_parts();
        medium.crash(false);
        Self::start(medium, quota, 0)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MemMedium {
    live: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Batches applied to `live` and not yet to `durable`, oldest first.
    pending: Vec<Vec<KvOp>>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    contents: BTreeMap<u64, Content>,
    next_content: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
}

impl MemMedium {
    /// Cuts the power: what was not made durable is gone, or is there if `keep_unflushed`.
    pub(crate) fn crash(&mut self, keep_unflushed: bool) {
        if keep_unflushed {
            self.persist(self.pending.len());
            self.durable_names.clone_from(&self.names);
            for content in self.contents.values_mut() {
                content.durable.clone_from(&content.live);
            }
        }
        self.pending.clear();
        self.live.clone_from(&self.durable);
        self.names.clone_from(&self.durable_names);
        let used: Vec<u64> = self.names.values().copied().collect();
        self.contents.retain(|id, _| used.contains(id));
        for content in self.contents.values_mut() {
            content.live.clone_from(&content.durable);
        }
    }

    /// Makes the oldest pending batches durable.
    pub(crate) fn persist(&mut self, batches: usize) {
        for ops in self.pending.drain(..batches.min(self.pending.len())) {
            change(&mut self.durable, &ops);
        }
    }

    /// How many batches wait for a flush.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }
}

fn change(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, ops: &[KvOp]) {
    for op in ops {
        match op {
            KvOp::Put(key, value) => {
                map.insert(key.clone(), value.clone());
            }
            KvOp::Delete(key) => {
                map.remove(key);
            }
        }
    }
}

/// Whether `path` is `root` or inside it.
fn inside(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name of `path` directly in `dir`, if it is there.
fn child<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    path.strip_prefix(dir)?
        .strip_prefix('/')
        .filter(|name| !name.contains('/'))
}

fn missing(path: &str) -> StoreError {
    StoreError::Io {
        what: format!("find {path}"),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

impl Medium for MemMedium {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.live.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in self.live.range::<[u8], _>(range) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, ops: Vec<KvOp>) -> Result<()> {
        change(&mut self.live, &ops);
        self.pending.push(ops);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.persist(self.pending.len());
        Ok(())
    }

    fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let id = *self.names.entry(path.to_owned()).or_insert_with(|| {
            self.next_content += 1;
            self.next_content
        });
        self.contents.entry(id).or_default().live = bytes.to_vec();
        Ok(())
    }

    fn sync_file(&mut self, path: &str) -> Result<()> {
        let id = self.names.get(path).ok_or_else(|| missing(path))?;
        let content = self.contents.get_mut(id).ok_or_else(|| missing(path))?;
        content.durable.clone_from(&content.live);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let id = self.names.remove(from).ok_or_else(|| missing(from))?;
        self.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn sync_dir(&mut self, path: &str) -> Result<()> {
        self.durable_names
            .retain(|name, _| child(name, path).is_none());
        let here = self
            .names
            .iter()
            .filter(|(name, _)| child(name, path).is_some())
            .map(|(name, id)| (name.clone(), *id));
        self.durable_names.extend(here);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        self.names.retain(|name, _| !inside(name, path));
        Ok(())
    }

    fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let content = self.names.get(path).and_then(|id| self.contents.get(id));
        Ok(content.map(|content| content.live.clone()))
    }

    fn list(&self, path: &str) -> Result<Vec<(String, u64)>> {
        let mut found = BTreeMap::new();
        for (name, id) in &self.names {
            let Some(rest) = name.strip_prefix(path).and_then(|r| r.strip_prefix('/')) else {
                continue;
            };
            let entry = rest.split('/').next().unwrap_or(rest);
            let len = self
                .contents
                .get(id)
                .map_or(0, |content| content.live.len());
            *found.entry(entry.to_owned()).or_insert(0) += len as u64;
        }
        Ok(found.into_iter().collect())
    }
}
