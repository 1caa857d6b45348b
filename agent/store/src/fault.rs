//! A medium in memory that loses power or fills up at a chosen write.
//!
//! Every changing primitive counts as one write. After a cut all calls fail with
//! [`StoreError::Cut`] until [`FaultJournal::restart`], which gives what a disk would still hold.
//! Used by power-cut tests here and in the crates that persist through a [`crate::Journal`].

use crate::medium::Visit;
use crate::{KvOp, Medium, MemMedium, OpenReport, OutboxQuota, Result, Store, StoreError};

/// A journal that fails on demand.
pub type FaultJournal = Store<FaultMedium>;

impl FaultJournal {
    /// An empty journal without a fault.
    #[must_use]
    pub fn new(quota: OutboxQuota) -> Self {
        let (store, _report) = Self::start(FaultMedium::default(), quota, 0)
            .expect("a memory medium without a fault cannot fail");
        store
    }

    /// Cuts the power at the `n`-th write from now; the next one is 1.
    pub fn cut_at(&mut self, n: u64, cut: Cut) {
        let medium = self.medium_mut();
        medium.fault = Some((medium.writes + n.max(1), Fault::Cut(cut)));
    }

    /// Lets the `n`-th write from now and all later ones fail as on a full disk.
    pub fn full_at(&mut self, n: u64) {
        let medium = self.medium_mut();
        medium.fault = Some((medium.writes + n.max(1), Fault::Full));
    }

    /// Takes back a fault that has not cut the power yet.
    pub fn clear_fault(&mut self) {
        self.medium_mut().fault = None;
    }

    /// Writes so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.medium().writes
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.medium().off
    }

    /// Starts again on what survived. Without a cut before, this is a cut of the kind `Lost` now.
    pub fn restart(self) -> Result<(Self, OpenReport)> {
        let (quota, medium) = self.into_parts();
        let mut disk = medium.disk;
        disk.crash(false);
        let restarted = FaultMedium {
            disk,
            ..FaultMedium::default()
        };
        Self::start(restarted, quota, 0)
    }
}

/// What a power cut does to the write it hits and to what was not flushed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The write is lost, and everything unflushed with it.
    Lost,
    /// Half of the write arrived; everything before it survived.
    Torn,
    /// The write arrived with everything before it; only the answer is lost.
    Kept,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut(Cut),
    Full,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct FaultMedium {
    disk: MemMedium,
    writes: u64,
    /// The write it happens at, and what happens.
    fault: Option<(u64, Fault)>,
    off: bool,
}

impl FaultMedium {
    fn powered(&self) -> Result<()> {
        if self.off {
            Err(StoreError::Cut)
        } else {
            Ok(())
        }
    }

    /// Counts a write, performs it, and lets the fault happen.
    fn write(
        &mut self,
        whole: impl FnOnce(&mut MemMedium) -> Result<()>,
        half: impl FnOnce(&mut MemMedium) -> Result<()>,
    ) -> Result<()> {
        self.powered()?;
        self.writes += 1;
        match self.fault {
            Some((at, Fault::Full)) if self.writes >= at => Err(StoreError::Full {
                what: format!("write {}", self.writes),
            }),
            Some((at, Fault::Cut(cut))) if self.writes >= at => {
                self.off = true;
                match cut {
                    Cut::Lost => self.disk.crash(false),
                    Cut::Torn => half(&mut self.disk)?,
                    Cut::Kept => {
                        whole(&mut self.disk)?;
                        self.disk.crash(true);
                    }
                }
                Err(StoreError::Cut)
            }
            _ => whole(&mut self.disk),
        }
    }
}

/// A batch of which every value lost its second half.
fn halved(ops: &[KvOp]) -> Vec<KvOp> {
    ops.iter()
        .map(|op| match op {
            KvOp::Put(key, value) => KvOp::Put(key.clone(), value[..value.len() / 2].to_vec()),
            KvOp::Delete(key) => KvOp::Delete(key.clone()),
        })
        .collect()
}

impl Medium for FaultMedium {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.powered()?;
        self.disk.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.powered()?;
        self.disk.scan(from, to, visit)
    }

    fn apply(&mut self, ops: Vec<KvOp>) -> Result<()> {
        let torn = halved(&ops);
        self.write(
            |disk| disk.apply(ops),
            |disk| {
                disk.apply(torn)?;
                disk.crash(true);
                Ok(())
            },
        )
    }

    fn flush(&mut self) -> Result<()> {
        // Half of a flush: the older half of the batches arrived.
        self.write(MemMedium::flush, |disk| {
            disk.persist(disk.pending() / 2);
            disk.crash(false);
            Ok(())
        })
    }

    fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.write(
            |disk| disk.write_file(path, bytes),
            |disk| {
                disk.write_file(path, &bytes[..bytes.len() / 2])?;
                disk.crash(true);
                Ok(())
            },
        )
    }

    fn sync_file(&mut self, path: &str) -> Result<()> {
        self.write(|disk| disk.sync_file(path), half_synced)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        // The new name arrived, but not what was unflushed before it.
        self.write(
            |disk| disk.rename(from, to),
            |disk| {
                let dir = to.rsplit_once('/').map_or("", |(dir, _)| dir);
                disk.rename(from, to)?;
                disk.sync_dir(dir)?;
                disk.crash(false);
                Ok(())
            },
        )
    }

    fn sync_dir(&mut self, path: &str) -> Result<()> {
        self.write(|disk| disk.sync_dir(path), half_synced)
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        self.write(|disk| disk.remove(path), half_synced)
    }

    fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.powered()?;
        self.disk.read_file(path)
    }

    fn list(&self, path: &str) -> Result<Vec<(String, u64)>> {
        self.powered()?;
        self.disk.list(path)
    }
}

/// The write had no content to tear: it did not happen, what was before it survived.
#[expect(clippy::unnecessary_wraps, reason = "has the shape of a write")]
fn half_synced(disk: &mut MemMedium) -> Result<()> {
    disk.crash(true);
    Ok(())
}
