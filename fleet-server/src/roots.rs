//! The chain of the fleet's roots: kept, extended, and handed to devices that are behind.
//!
//! Each version lies in its own file of the data folder and is written whole before anybody
//! hears of it; a power cut leaves the old chain or the new one. Nothing here signs: a root
//! proves itself by its predecessor.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use drover_trust::{Envelope, Role, TrustError, TrustedRoot};
use drover_wire::limits::MAX_DOWN_BYTES;
use drover_wire::message::RootChain;

use crate::ServerError;
use crate::data_dir::DataDir;

/// Bytes that a message needs beside its roots, and each root beside its own.
const OVERHEAD: usize = 16;

/// The fleet's roots, from the oldest that this server knows to the newest.
#[derive(Debug)]
pub(crate) struct Roots {
    data: Arc<DataDir>,
    chain: RwLock<Chain>,
}

#[derive(Debug)]
struct Chain {
    older: Vec<Arc<TrustedRoot>>,
    newest: Arc<TrustedRoot>,
}

impl Roots {
    /// Reads the chain in the data folder and the root at `path`, which begins it, is part of
    /// it, or follows it.
    pub(crate) fn open(data: Arc<DataDir>, path: &Path) -> Result<Self, ServerError> {
        let refused = |source| ServerError::KeyContent {
            what: "root",
            path: path.to_path_buf(),
            source,
        };
        let bytes = crate::identity::read(path, "root")?;
        let given = Envelope::decode(&bytes)
            .and_then(TrustedRoot::self_signed)
            .map_err(refused)?;
        let mut older = stored(&data)?;
        let Some(newest) = older.pop() else {
            store(&data, &given)?;
            let newest = Arc::new(given);
            let chain = RwLock::new(Chain { older, newest });
            return Ok(Self { data, chain });
        };
        let roots = Self {
            data,
            chain: RwLock::new(Chain { older, newest }),
        };
        let known = roots.versions();
        let same = known
            .iter()
            .find(|r| r.root().version == given.root().version);
        match same {
            Some(found) if pin(found) == pin(&given) => {}
            Some(_) => return Err(ServerError::RootChain { path: path.into() }),
            None => roots.add(
                roots
                    .check_next(given.envelope().clone())
                    .map_err(refused)?,
            )?,
        }
        Ok(roots)
    }

    /// The newest root.
    pub(crate) fn newest(&self) -> Arc<TrustedRoot> {
        let chain = self.chain.read().unwrap_or_else(PoisonError::into_inner);
        chain.newest.clone()
    }

    /// All roots, the oldest first.
    pub(crate) fn versions(&self) -> Vec<Arc<TrustedRoot>> {
        let chain = self.chain.read().unwrap_or_else(PoisonError::into_inner);
        let newest = std::iter::once(&chain.newest);
        chain.older.iter().chain(newest).cloned().collect()
    }

    /// Encoded successors of the root version `from`, in order: all of them from 0.
    pub(crate) fn chain(&self, from: u64) -> Vec<Vec<u8>> {
        let versions = self.versions();
        let later = versions.iter().filter(|r| r.root().version > from);
        later.filter_map(|r| r.envelope().encode().ok()).collect()
    }

    /// The same in messages that devices accept.
    pub(crate) fn messages(&self, from: u64) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut roots: Vec<Vec<u8>> = Vec::new();
        let mut bytes = OVERHEAD;
        for root in self.chain(from) {
            let needed = root.len() + OVERHEAD;
            if bytes + needed > MAX_DOWN_BYTES && !roots.is_empty() {
                let full = std::mem::take(&mut roots);
                messages.extend(RootChain { roots: full }.encode().ok());
                bytes = OVERHEAD;
            }
            bytes += needed;
            roots.push(root);
        }
        if !roots.is_empty() {
            messages.extend(RootChain { roots }.encode().ok());
        }
        messages
    }

    /// Whether a successor of the version `from` took a fleet or catalog key away, so that
    /// devices count anew what those keys counted.
    pub(crate) fn restarts_after(&self, from: u64) -> bool {
        let versions = self.versions();
        let mut pairs = versions.iter().zip(versions.iter().skip(1));
        pairs.any(|(old, new)| {
            let revokes = |role| old.revokes(role, new);
            new.root().version > from && (revokes(Role::Fleet) || revokes(Role::Catalog))
        })
    }

    /// What `envelope` would be the next of.
    pub(crate) fn check_next(&self, envelope: Envelope) -> Result<TrustedRoot, TrustError> {
        self.newest().advance(envelope)
    }

    /// Stores the next root, which has been checked, and takes it up.
    pub(crate) fn add(&self, next: TrustedRoot) -> Result<(), ServerError> {
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        if next.root().version <= chain.newest.root().version {
            // Somebody else has published it in the meantime.
            return Ok(());
        }
        store(&self.data, &next)?;
        let before = std::mem::replace(&mut chain.newest, Arc::new(next));
        chain.older.push(before);
        Ok(())
    }
}

fn store(data: &DataDir, root: &TrustedRoot) -> Result<(), ServerError> {
    let bytes = root.envelope().encode().map_err(|_| ServerError::Encode)?;
    data.store_root(root.root().version, &bytes)
}

/// What images are pinned to.
pub(crate) fn pin(root: &TrustedRoot) -> [u8; 32] {
    TrustedRoot::pin_of(root.envelope())
}

/// The chain in the data folder; every link is verified again.
fn stored(data: &DataDir) -> Result<Vec<Arc<TrustedRoot>>, ServerError> {
    let damaged = |_| ServerError::Stored { what: "root" };
    let mut chain: Vec<Arc<TrustedRoot>> = Vec::new();
    for bytes in data.roots()? {
        let envelope = Envelope::decode(&bytes).map_err(damaged)?;
        let root = match chain.last() {
            None => TrustedRoot::self_signed(envelope),
            Some(last) => last.advance(envelope),
        };
        chain.push(Arc::new(root.map_err(damaged)?));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_trust::fixture::{Keys, signed_root};

    fn write(path: &Path, keys: &Keys, version: u64) -> Envelope {
        let envelope = signed_root(&keys.root_metadata(version), &[&keys.root]);
        std::fs::write(path, envelope.encode().unwrap()).unwrap();
        envelope
    }

    #[test]
    fn a_chain_grows_by_files_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        let keys = Keys::new("test");
        let open = || {
            Roots::open(
                Arc::new(DataDir::open(&dir.path().join("data")).unwrap()),
                &path,
            )
        };
        write(&path, &keys, 1);
        let roots = open().unwrap();
        for version in 2..=12 {
            let next = signed_root(&keys.root_metadata(version), &[&keys.root]);
            roots.add(roots.check_next(next).unwrap()).unwrap();
        }
        let skipped = signed_root(&keys.root_metadata(14), &[&keys.root]);
        assert!(roots.check_next(skipped).is_err());
        drop(roots);
        let roots = open().unwrap();
        assert_eq!(roots.newest().root().version, 12);
        assert_eq!((roots.chain(0).len(), roots.chain(9).len()), (12, 3));
        assert!(roots.messages(12).is_empty());
        drop(roots);
        // The configured root may be the next one, never another one of the same number.
        write(&path, &keys, 13);
        assert_eq!(open().unwrap().newest().root().version, 13);
        let mut other = keys.root_metadata(5);
        other.created_unix_s += 1;
        let other = signed_root(&other, &[&keys.root]);
        std::fs::write(&path, other.encode().unwrap()).unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.contains("not the one"), "{error}");
    }

    #[test]
    fn long_chains_travel_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        let keys = Keys::new("test");
        write(&path, &keys, 1);
        let data = Arc::new(DataDir::open(&dir.path().join("data")).unwrap());
        let roots = Roots::open(data, &path).unwrap();
        for version in 2..=900 {
            let next = signed_root(&keys.root_metadata(version), &[&keys.root]);
            let next = Arc::new(roots.check_next(next).unwrap());
            let mut chain = roots.chain.write().unwrap();
            let before = std::mem::replace(&mut chain.newest, next);
            chain.older.push(before);
        }
        let messages = roots.messages(1);
        assert!(messages.len() > 1);
        let count: usize = messages
            .iter()
            .map(|m| RootChain::decode(m).unwrap().roots.len())
            .sum();
        assert_eq!(count, 899);
    }
}
