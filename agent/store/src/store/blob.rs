//! Chunks and bundle files, as plain files in folders named by digest.
//!
//! They stay out of the engine: values of 128 KiB cost it several times their size on disk
//! (README, measured). A chunk is written in place without a sync; a power cut may tear or lose it,
//! the checksum notices, and it is fetched again. A bundle file is replaced whole: temporary, sync,
//! rename, sync of the folder; a cut leaves the old one, the new one, or a temporary that the next
//! start removes.

use std::collections::BTreeSet;

use super::state::STATE_DIR;
use super::{Kind, Store, check_size};
use crate::envelope;
use crate::key::{check_name, digest_name, parse_digest_name};
use crate::{BundleEntry, Digest, Medium, Result};

const CHUNKS_DIR: &str = "chunks";
const BUNDLES_DIR: &str = "bundles";
const TEMPORARY: &str = ".tmp-";
/// Largest chunk; the wire cuts at 128 KiB.
const CHUNK_MAX: u64 = 1 << 20;
/// Largest bundle file; it passes through memory in one piece.
const FILE_MAX: u64 = 1 << 30;

fn chunk_dir(digest: &Digest) -> String {
    format!("{CHUNKS_DIR}/{}", digest_name(digest))
}

fn chunk_path(digest: &Digest, index: u32) -> String {
    format!("{CHUNKS_DIR}/{}/{index:08x}", digest_name(digest))
}

fn bundle_dir(digest: &Digest) -> String {
    format!("{BUNDLES_DIR}/{}", digest_name(digest))
}

impl<M: Medium> Store<M> {
    /// Removes temporaries that a power cut left behind.
    pub(super) fn clear_leftovers(&mut self) -> Result<()> {
        let mut dirs = vec![STATE_DIR.to_owned()];
        for (name, _) in self.medium.list(BUNDLES_DIR)? {
            dirs.push(format!("{BUNDLES_DIR}/{name}"));
        }
        for dir in dirs {
            for (name, _) in self.medium.list(&dir)? {
                if name.starts_with(TEMPORARY) {
                    self.medium.remove(&format!("{dir}/{name}"))?;
                }
            }
        }
        Ok(())
    }

    /// Replaces a file so that a power cut leaves the old or the new one.
    pub(super) fn replace_file(&mut self, dir: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!("{dir}/{TEMPORARY}{name}");
        self.medium.write_file(&temporary, bytes)?;
        self.medium.sync_file(&temporary)?;
        self.medium.rename(&temporary, &format!("{dir}/{name}"))?;
        self.medium.sync_dir(dir)
    }

    pub(super) fn stage_chunk(&mut self, digest: &Digest, index: u32, bytes: &[u8]) -> Result<()> {
        check_size("chunk", bytes.len(), CHUNK_MAX)?;
        self.check_room("chunk", bytes.len())?;
        // What is known of this bundle is read first: a write would otherwise hide the others.
        self.verified_chunks(digest)?;
        let path = chunk_path(digest, index);
        let sealed = envelope::seal(path.as_bytes(), bytes);
        self.known_chunk(digest, index, false);
        self.medium.write_file(&path, &sealed)?;
        self.known_chunk(digest, index, true);
        Ok(())
    }

    fn known_chunk(&self, digest: &Digest, index: u32, whole: bool) {
        if let Some(known) = self.chunks.borrow_mut().get_mut(digest) {
            if whole {
                known.insert(index);
            } else {
                known.remove(&index);
            }
        }
    }

    pub(super) fn verified_chunks(&self, digest: &Digest) -> Result<Vec<u32>> {
        if let Some(known) = self.chunks.borrow().get(digest) {
            return Ok(known.iter().copied().collect());
        }
        let mut whole = BTreeSet::new();
        for (name, _) in self.medium.list(&chunk_dir(digest))? {
            let Ok(index) = u32::from_str_radix(&name, 16) else {
                continue;
            };
            if self.read_chunk(digest, index)?.is_some() {
                whole.insert(index);
            }
        }
        let indices = whole.iter().copied().collect();
        self.chunks.borrow_mut().insert(*digest, whole);
        Ok(indices)
    }

    pub(super) fn read_chunk(&self, digest: &Digest, index: u32) -> Result<Option<Vec<u8>>> {
        let chunk = self.read_blob(&chunk_path(digest, index))?;
        if chunk.is_none() {
            self.known_chunk(digest, index, false);
        }
        Ok(chunk)
    }

    pub(super) fn forget_chunks(&mut self, digest: &Digest) -> Result<()> {
        self.chunks.borrow_mut().remove(digest);
        self.medium.remove(&chunk_dir(digest))
    }

    pub(super) fn write_bundle_file(
        &mut self,
        digest: &Digest,
        name: &str,
        bytes: &[u8],
    ) -> Result<()> {
        check_size("bundle file", bytes.len(), FILE_MAX)?;
        self.check_room("bundle file", bytes.len())?;
        let dir = bundle_dir(digest);
        let sealed = envelope::seal(format!("{dir}/{name}").as_bytes(), bytes);
        self.replace_file(&dir, name, &sealed)
    }

    pub(super) fn read_bundle_file(&self, digest: &Digest, name: &str) -> Result<Option<Vec<u8>>> {
        self.read_blob(&format!("{}/{name}", bundle_dir(digest)))
    }

    pub(super) fn delete_bundle(&mut self, digest: &Digest) -> Result<()> {
        self.forget_chunks(digest)?;
        self.medium.remove(&bundle_dir(digest))
    }

    pub(super) fn bundle_entries(&self) -> Result<Vec<BundleEntry>> {
        let mut entries = Vec::new();
        for (folder, _) in self.medium.list(BUNDLES_DIR)? {
            let Some(digest) = parse_digest_name(&folder) else {
                continue;
            };
            let mut files = self.medium.list(&format!("{BUNDLES_DIR}/{folder}"))?;
            files.retain(|(name, _)| check_name(name).is_ok());
            if !files.is_empty() {
                entries.push(BundleEntry { digest, files });
            }
        }
        Ok(entries)
    }

    fn read_blob(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut sealed) = self.medium.read_file(path)? else {
            return Ok(None);
        };
        match envelope::unseal(path.as_bytes(), &sealed) {
            Ok(_) => {
                // In place, so that a large model is in memory once.
                sealed.drain(..envelope::HEADER_BYTES);
                Ok(Some(sealed))
            }
            Err(damage) => {
                self.damaged(Kind::Blob, path.as_bytes(), damage);
                Ok(None)
            }
        }
    }
}
