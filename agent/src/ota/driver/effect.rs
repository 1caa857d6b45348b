//! What the machine wants done, done.

use std::sync::Arc;

use drover_agent_core::{Effect, Event};
use drover_bundle::VerifiedManifest;
use drover_trust::Voucher;

use super::super::jobs::Job;
use super::super::library::Unstaged;
use super::super::{Input, Outgoing, transfer};
use super::{Driver, warn};

impl Driver {
    pub(super) fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Publish(message) => self.out(Outgoing::Publish(message)),
            Effect::Subscribe { digest } => self.out(Outgoing::Subscribe(digest)),
            Effect::Unsubscribe { digest } => self.out(Outgoing::Unsubscribe(digest)),
            Effect::StoreManifest { digest, envelope } => {
                if let Ok(verified) = VerifiedManifest::committed(&envelope, &digest) {
                    let manifest = verified.manifest();
                    let chunk = manifest.chunking.chunk_bytes;
                    self.content.expect(digest, chunk, manifest.total_bytes());
                }
                // Staging stores it once more; until then a restart asks for it again.
                warn(
                    self.library.store_manifest(&digest, &envelope),
                    "store a manifest",
                );
            }
            Effect::StoreChunk {
                digest,
                index,
                bytes,
            } => {
                let journal = &self.library.journal;
                let stored = journal.with(|j| j.put_chunk(&digest, index, &bytes));
                return Some(match stored {
                    Ok(_) => Event::ChunkStored { digest, index },
                    Err(error) => Event::ChunkLost {
                        digest,
                        detail: format!("chunk {index} is not kept: {}", crate::chain(&error)),
                    },
                });
            }
            Effect::Stage { manifest, envelope } => {
                return Some(self.stage(&manifest, &envelope));
            }
            Effect::DropChunks { digest } => {
                let dropped = self.library.journal.with(|j| j.drop_chunks(&digest));
                warn(dropped, "remove chunks");
            }
            Effect::LoadCandidate { digest } => self.job(Job::LoadCandidate(digest)),
            Effect::StartTrial { digest } => self.job(Job::StartTrial(digest)),
            Effect::Activate { digest } => self.job(Job::Activate(digest)),
            Effect::LoadCommitted { digest } => self.job(Job::LoadCommitted(digest)),
            Effect::Deactivate => self.job(Job::Deactivate),
            Effect::DropCandidate => self.job(Job::DropCandidate),
            Effect::RemoveBundle { digest } => {
                // What is left is removed at the next start.
                let removed = self.library.journal.with(|j| j.remove_bundle(&digest));
                warn(removed, "remove a bundle");
            }
            Effect::RootChanged(root) => {
                tracing::info!(version = root.root().version, "follows a new root");
                self.library.trust.set_root(root);
            }
            Effect::ContentKey {
                digest,
                encapsulated,
                wrapped,
            } => {
                if !self.content.take(digest, &encapsulated, &wrapped) {
                    tracing::warn!("a content key is not for this device, or damaged");
                }
            }
            Effect::Transfer(voucher) => self.transfer(*voucher),
            Effect::Record(event) => self.note(event),
        }
        None
    }

    /// Asks the new fleet; the answer is an input.
    pub(super) fn transfer(&mut self, voucher: Voucher) {
        if std::mem::replace(&mut self.moving, true) {
            return;
        }
        let member = Arc::clone(&self.member);
        let sender = self.sender.clone();
        let asked = std::thread::Builder::new()
            .name("transfer".into())
            .spawn(move || {
                let joined = transfer::join(&voucher, member.key());
                // The driver is gone when the agent stops.
                let _ = sender.send(Input::Joined(joined.map(Box::new)));
            });
        if let Err(error) = asked {
            tracing::error!(%error, "cannot ask the new fleet");
            self.moving = false;
        }
    }

    pub(super) fn stage(&self, manifest: &VerifiedManifest, envelope: &[u8]) -> Event {
        let digest = *manifest.digest();
        match self.library.stage(manifest, envelope) {
            Ok(()) => Event::Staged { digest },
            Err(Unstaged::Incomplete) => Event::Incomplete {
                digest,
                chunks: self.library.chunks(&digest),
            },
            Err(Unstaged::Failed(code, detail)) => Event::StageFailed {
                digest,
                code,
                detail,
            },
        }
    }
}
