//! What the update life cycle trusts, for those beside it: the newest root and the time.
//!
//! The driver alone changes it, after what it shows has been persisted. Whoever judges a
//! certificate or asks for one reads it here, so that the board's wall clock has no say.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use drover_trust::TrustedRoot;

/// See the module. Clones are the same.
#[derive(Clone, Debug)]
pub struct Trust(Arc<RwLock<Held>>);

#[derive(Debug)]
struct Held {
    root: TrustedRoot,
    floor_s: u64,
    since: Instant,
}

impl Trust {
    /// Begins with a root, and a time in seconds since 1970 that has passed for certain.
    #[must_use]
    pub fn new(root: TrustedRoot, floor_s: u64) -> Self {
        let floor_s = floor_s.max(root.root().created_unix_s);
        Self(Arc::new(RwLock::new(Held {
            root,
            floor_s,
            since: Instant::now(),
        })))
    }

    /// The newest root.
    #[must_use]
    pub fn root(&self) -> TrustedRoot {
        self.read(|held| held.root.clone())
    }

    /// Seconds since 1970, never more than the true time.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        self.read(|held| held.floor_s.saturating_add(held.since.elapsed().as_secs()))
    }

    pub(crate) fn set_root(&self, root: TrustedRoot) {
        self.write(|held| held.root = root);
    }

    pub(crate) fn set_time(&self, now_s: u64) {
        self.write(|held| {
            held.floor_s = now_s;
            held.since = Instant::now();
        });
    }

    fn read<T>(&self, read: impl FnOnce(&Held) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, write: impl FnOnce(&mut Held)) {
        write(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use drover_trust::fixture::{CREATED, Keys};

    use super::*;

    #[test]
    fn time_begins_at_the_later_of_root_and_floor() {
        let root = Keys::new("f").trusted();
        let reads = |trust: &Trust, s: u64| (s..s + 60).contains(&trust.now_s());
        assert!(reads(&Trust::new(root.clone(), 5), CREATED));
        let trust = Trust::new(root, CREATED + 900);
        assert!(reads(&trust, CREATED + 900));
        trust.clone().set_time(CREATED + 2000);
        assert!(reads(&trust, CREATED + 2000));
    }
}
