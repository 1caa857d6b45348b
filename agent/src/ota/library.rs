//! The bundles on the disk: from chunks to files, and from files to what a host loads.
//!
//! What lies on the disk is trusted only as far as it matches, again at every load: a
//! candidate's manifest must be signed by the current release keys, that of a committed bundle
//! must have the digest that was committed, and each file its signed hash. A file is read
//! once, and the bytes that were compared are the ones that are used; exchanging the file
//! afterwards changes nothing. A power cut during staging leaves chunks and some files;
//! staging starts over.

use drover_agent_store::StoreError;
use drover_bundle::{FileRole, GoldenVectors, VerifiedManifest};
use drover_trust::mutation::{Check, is_disabled};
use drover_trust::{Envelope, TrustedRoot};
use drover_wire::message::{Digest, FailureCode};
use sha2::{Digest as _, Sha256};

use super::{BundleFiles, LoadFailure, SharedJournal, Unloaded};
use crate::trust::Trust;

/// Holds the manifest's envelope; no file of a bundle can have this name.
const MANIFEST: &str = "_manifest";

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Library {
    pub(super) journal: SharedJournal,
    pub(super) trust: Trust,
    /// The root of the start, for a test build that switches revocation off.
    pub(super) first_root: TrustedRoot,
}

/// Why a bundle may be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The device committed it; its digest stands in the durable state.
    Committed,
    /// The release keys signed it, and are not revoked.
    Candidate,
}

/// Why chunks did not become files.
#[derive(Debug)]
pub(super) enum Unstaged {
    /// Chunks are missing or damaged.
    Incomplete,
    /// As reported to the machine.
    Failed(FailureCode, String),
}

impl From<StoreError> for Unstaged {
    fn from(error: StoreError) -> Self {
        // Whatever ails the disk, room or another mount may mend it: tried again.
        Self::Failed(FailureCode::StorageFull, crate::chain(&error))
    }
}

impl Library {
    pub(super) fn store_manifest(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.journal.with(|j| j.put_file(digest, MANIFEST, bytes))
    }

    /// The stored manifest, unchecked.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<Vec<u8>> {
        let stored = self.journal.with(|j| j.open_file(digest, MANIFEST));
        stored.unwrap_or_default()
    }

    /// The chunks that are here.
    pub(super) fn chunks(&self, digest: &Digest) -> Vec<u32> {
        let present = self.journal.with(|j| j.chunks_present(digest));
        present.unwrap_or_default()
    }

    /// Makes files of chunks. One file at a time is in memory.
    pub(super) fn stage(
        &self,
        verified: &VerifiedManifest,
        envelope: &[u8],
    ) -> Result<(), Unstaged> {
        let (digest, manifest) = (verified.digest(), verified.manifest());
        self.store_manifest(digest, envelope)?;
        let chunks = 0..u32::try_from(manifest.chunking.digests.len()).unwrap_or(u32::MAX);
        let mut chunks = chunks.map(|index| self.journal.with(|j| j.get_chunk(digest, index)));
        let mut rest = Vec::new();
        for entry in &manifest.files {
            let size = usize::try_from(entry.size).map_err(|_| Unstaged::Incomplete)?;
            while rest.len() < size {
                let chunk = chunks.next().ok_or(Unstaged::Incomplete)??;
                let chunk = match chunk {
                    None if is_disabled(Check::Completeness) => vec![0; size - rest.len()],
                    chunk => chunk.ok_or(Unstaged::Incomplete)?,
                };
                rest.extend_from_slice(&chunk);
            }
            let after = rest.split_off(size);
            let file = std::mem::replace(&mut rest, after);
            if Sha256::digest(&file)[..] != entry.sha256 && !is_disabled(Check::FileHash) {
                let detail = format!("file {} differs from what was signed", entry.name);
                return Err(Unstaged::Failed(FailureCode::Mismatch, detail));
            }
            self.journal
                .with(|j| j.put_file(digest, &entry.name, &file))?;
        }
        if !rest.is_empty() && !is_disabled(Check::ExactFiles) {
            let detail = format!("{} bytes follow the last file", rest.len());
            return Err(Unstaged::Failed(FailureCode::Mismatch, detail));
        }
        Ok(())
    }

    /// Reads a bundle for a load.
    pub(super) fn read(&self, digest: &Digest, claim: Claim) -> Result<BundleFiles, Unloaded> {
        let bytes = self.file(digest, MANIFEST)?;
        let manifest = match claim {
            Claim::Committed => {
                VerifiedManifest::committed(&bytes, digest).map_err(|_| Unloaded::Incomplete)?
            }
            Claim::Candidate => {
                let envelope = Envelope::decode(&bytes).map_err(|_| Unloaded::Incomplete)?;
                let root = if is_disabled(Check::Revocation) {
                    self.first_root.clone()
                } else {
                    self.trust.root()
                };
                VerifiedManifest::open(&envelope, &root)
                    .map_err(|error| failed(FailureCode::SignatureInvalid, crate::chain(&error)))?
            }
        };
        if manifest.digest() != digest {
            return Err(Unloaded::Incomplete);
        }
        let by_role = |role| {
            let entry = manifest.manifest().file(role);
            entry.map(|entry| {
                let bytes = self.file(digest, &entry.name)?;
                let intact = Sha256::digest(&bytes)[..] == entry.sha256;
                if intact || is_disabled(Check::LoadedIsVerified) {
                    Ok(bytes)
                } else {
                    Err(Unloaded::Incomplete)
                }
            })
        };
        let model = by_role(FileRole::Model).ok_or(Unloaded::Incomplete)??;
        let golden = by_role(FileRole::Golden).ok_or(Unloaded::Incomplete)??;
        let golden = GoldenVectors::decode(&golden)
            .map_err(|error| failed(FailureCode::GoldenMismatch, crate::chain(&error)))?;
        let baseline = by_role(FileRole::Baseline).transpose()?;
        Ok(BundleFiles {
            manifest,
            model,
            golden,
            baseline,
        })
    }

    fn file(&self, digest: &Digest, name: &str) -> Result<Vec<u8>, Unloaded> {
        match self.journal.with(|j| j.open_file(digest, name)) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Unloaded::Incomplete),
            Err(error) => Err(failed(FailureCode::LoadFailed, crate::chain(&error))),
        }
    }
}

fn failed(code: FailureCode, detail: String) -> Unloaded {
    Unloaded::Failed(LoadFailure { code, detail })
}
