//! What changes whom the device trusts or belongs to, and the keys of confidential bundles.

use drover_agent_core::{Event, Machine, Outbox};
use drover_wire::chunk::Chunk;
use drover_wire::message::{Digest, RootChain};

use super::super::jobs::Job;
use super::super::transfer;
use super::{Driver, Stop};
use crate::exchange::{ContentKeys, Opened};
use crate::identity::Enrolment;
use crate::renew::Renewed;

impl Driver {
    pub(super) fn chunk(&mut self, digest: Digest, chunk: &Chunk<'_>) -> Result<(), Stop> {
        let index = chunk.index;
        match self.content.open(&digest, index, chunk.bytes) {
            Opened::Content(bytes) => self.on(Event::Chunk {
                digest,
                index,
                bytes,
            }),
            Opened::KeyMissing => self.on(Event::KeyMissing { digest }),
            Opened::Damaged => {
                self.undecryptable += 1;
                // The first, then ever more rarely.
                if self.undecryptable.is_power_of_two() {
                    tracing::warn!(
                        index,
                        "{} chunks could not be decrypted so far",
                        self.undecryptable
                    );
                }
                Ok(())
            }
        }
    }

    /// The roots and the time that came with a certificate; one after the other, since all at once may be
    /// more than a message holds.
    pub(super) fn granted(&mut self, renewed: Renewed) -> Result<(), Stop> {
        for root in renewed.roots {
            let chain = RootChain { roots: vec![root] };
            match chain.encode() {
                Ok(bytes) => self.on(Event::Roots { bytes })?,
                Err(error) => tracing::warn!(error = crate::chain(&error), "a root is too large"),
            }
        }
        let unix_s = renewed.enrolment.time_floor_s;
        self.on(Event::Time { unix_s })
    }

    /// The device belongs to another fleet from now on. What is committed runs on; all else
    /// was the old fleet's, and so are the records.
    pub(super) fn joined(&mut self, enrolment: Enrolment) -> Result<(), Stop> {
        let root = match enrolment.root() {
            Ok(root) => root,
            Err(error) => {
                tracing::error!(
                    error = crate::chain(&error),
                    "the new fleet's root is damaged"
                );
                return Ok(());
            }
        };
        // A power cut after this is found at the next start, by the root's fleet.
        if let Err(error) = self.member.join(enrolment) {
            tracing::error!(
                error = crate::chain(&error),
                "the device stays in its fleet"
            );
            return Ok(());
        }
        tracing::info!(fleet = root.root().fleet, "moved to another fleet");
        self.job(Job::DropCandidate);
        if let Err(error) = transfer::forget_records(&self.library.journal) {
            tracing::warn!(error = crate::chain(&error), "cannot remove records");
        }
        self.config.root = root.clone();
        self.library.first_root = root;
        let durable = self.machine.durable().clone();
        self.machine = Machine::new(self.config.clone(), durable, self.clock.now_ms());
        self.outbox = Outbox::new(self.outbox_config);
        self.content = ContentKeys::new(self.member.key());
        self.connected = false;
        self.library.trust.set_root(self.machine.root().clone());
        let stored = self.stored();
        self.on(Event::Resumed(stored))?;
        let unix_s = self.member.current().time_floor_s;
        self.on(Event::Time { unix_s })
    }
}
