//! The outbox: pages of the journal in, messages and removals out.

use std::collections::VecDeque;

use drover_agent_core::{Key, OutboxEffect, OutboxEvent};
use drover_agent_store::RecordKey;
use drover_trust::mutation::{Check, is_disabled};
use drover_wire::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};
use drover_wire::message::{Ack, Up};

use super::super::Outgoing;
use super::{Driver, random, warn};

impl Driver {
    /// One event for the outbox, and the pages that it asks for.
    pub(super) fn send(&mut self, event: OutboxEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.outbox.on(self.clock.now_ms(), random(), event) {
                match effect {
                    OutboxEffect::Read { after } => events.push_back(self.page(after)),
                    OutboxEffect::Publish(message) => {
                        events.extend(taken_for_granted(&message));
                        self.out(Outgoing::Publish(message));
                    }
                    OutboxEffect::Remove { boot, first, last } => {
                        let journal = &self.library.journal;
                        let removed = journal.with(|j| j.remove_range(boot, first..=last));
                        // It is sent and acknowledged once more.
                        warn(removed, "remove records");
                    }
                }
            }
        }
    }

    pub(super) fn page(&self, after: Option<Key>) -> OutboxEvent {
        let from = after.map(|key| RecordKey {
            boot: key.boot,
            seq: key.sequence,
        });
        // Nothing is sent that a power cut could still take back.
        let page = self.recorder.flush().and_then(|()| {
            let bytes = MAX_BATCH_BYTES as u64;
            self.library
                .journal
                .with(|j| j.oldest(MAX_BATCH_RECORDS, bytes, from))
        });
        let records = page.unwrap_or_else(|error| {
            tracing::warn!(error = crate::chain(&error), "cannot read records");
            Vec::new()
        });
        let key = |key: RecordKey| Key {
            boot: key.boot,
            sequence: key.seq,
        };
        OutboxEvent::Page {
            after,
            records: records.into_iter().map(|(k, r)| (key(k), r)).collect(),
        }
    }
}

/// Takes sending for delivery: what a device must not do, and does not but in a test build
/// that switches the check off.
fn taken_for_granted(message: &Up) -> Option<OutboxEvent> {
    match message {
        Up::Batch(batch) if is_disabled(Check::LostReports) => {
            let sequences = batch.records.iter().map(|r| r.sequence);
            Some(OutboxEvent::Ack(Ack::of(batch.boot, sequences)))
        }
        _ => None,
    }
}
