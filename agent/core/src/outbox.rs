//! Sending what the disk holds for the server: which records, when, and when to forget them.
//!
//! A few batches are under way at once; only the server's own acknowledgement, signed and
//! addressed to this device, removes a record. Everything that got lost is sent again from
//! the oldest record on, after a while or after a reconnect, under the same keys, so that
//! the server counts it once. Nothing here is durable: after a power cut sending starts over
//! at the oldest record that is left.
//!
//! A second lane that sends the newest records first can be put beside this one: it would
//! read from the other end, and acknowledgements already go by key, not by order.

use std::collections::{BTreeSet, VecDeque};

use drover_wire::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};
use drover_wire::message::{Ack, Batch, Record, Up};

use crate::backoff::Backoff;

/// Names a record: which start of the agent made it, and its number within that start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Number of the start.
    pub boot: u64,
    /// Number of the record, from 1.
    pub sequence: u64,
}

/// How the outbox sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Batches under way at once, at least 1.
    pub window: usize,
    /// First wait for an acknowledgement in milliseconds; it doubles.
    pub resend_base_ms: u64,
    /// Longest wait for an acknowledgement in milliseconds.
    pub resend_cap_ms: u64,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            window: 4,
            resend_base_ms: 10_000,
            resend_cap_ms: 120_000,
        }
    }
}

/// What the outbox is told.
#[derive(Clone, Debug, PartialEq)]
pub enum OutboxEvent {
    /// Messages can be sent.
    Connected,
    /// Messages cannot be sent; what was under way may be lost.
    Disconnected,
    /// There are new records, flushed to the disk.
    Appended,
    /// The answer to [`OutboxEffect::Read`]: records after that key, oldest first.
    Page {
        /// The key that was asked for.
        after: Option<Key>,
        /// Keys and encoded records; empty at the end.
        records: Vec<(Key, Vec<u8>)>,
    },
    /// The server has stored records for good.
    Ack(Ack),
    /// [`Outbox::deadline`] has passed.
    Tick,
}

/// What the outbox wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum OutboxEffect {
    /// Read the oldest records after `after`, at most [`MAX_BATCH_RECORDS`] and about
    /// [`MAX_BATCH_BYTES`], and answer [`OutboxEvent::Page`].
    Read {
        /// Key before the first one wanted.
        after: Option<Key>,
    },
    /// Send.
    Publish(Up),
    /// Remove these records from the disk.
    Remove {
        /// Start that made them.
        boot: u64,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
    },
}

/// A batch that was sent and is not acknowledged in full.
#[derive(Debug)]
struct Flight {
    /// Where reading has to start for it to be sent again.
    after: Option<Key>,
    boot: u64,
    waiting: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    config: OutboxConfig,
    connected: bool,
    /// A page is on its way.
    reading: bool,
    /// The last page was empty and nothing was appended since.
    at_end: bool,
    /// The last record that was sent on this connection.
    cursor: Option<Key>,
    /// The highest key sent since the start; acknowledgements beyond it are not believed.
    highest: Option<Key>,
    flights: VecDeque<Flight>,
    backoff: Backoff,
    resend_at: Option<u64>,
    unsendable: u64,
}

impl Outbox {
    /// An outbox that knows nothing of the disk yet.
    #[must_use]
    pub fn new(config: OutboxConfig) -> Self {
        Self {
            config,
            connected: false,
            reading: false,
            at_end: false,
            cursor: None,
            highest: None,
            flights: VecDeque::new(),
            backoff: Backoff::new(config.resend_base_ms, config.resend_cap_ms),
            resend_at: None,
            unsendable: 0,
        }
    }

    /// When [`OutboxEvent::Tick`] is due, on the clock of `now_ms`.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.resend_at
    }

    /// Records that were removed because no message can carry them.
    #[must_use]
    pub fn unsendable(&self) -> u64 {
        self.unsendable
    }

    /// Takes one event; `random` is for jitter.
    pub fn on(&mut self, now_ms: u64, random: u64, event: OutboxEvent) -> Vec<OutboxEffect> {
        let mut effects = Vec::new();
        match event {
            OutboxEvent::Connected => {
                self.connected = true;
                self.backoff.reset();
                self.rewind(None);
            }
            OutboxEvent::Disconnected => {
                self.connected = false;
                self.rewind(None);
            }
            OutboxEvent::Appended => self.at_end = false,
            OutboxEvent::Page { after, records } => {
                // A page that was asked for before a rewind is of no use.
                if !self.reading || after != self.cursor {
                    return effects;
                }
                self.reading = false;
                self.take_page(records, &mut effects);
                if self.resend_at.is_none() && !self.flights.is_empty() {
                    self.resend_at = Some(now_ms.saturating_add(self.backoff.next_ms(random)));
                }
            }
            OutboxEvent::Ack(ack) => {
                if self.take_ack(&ack, &mut effects) {
                    self.backoff.reset();
                    let wait = self.backoff.next_ms(random);
                    let more = !self.flights.is_empty();
                    self.resend_at = more.then(|| now_ms.saturating_add(wait));
                }
            }
            OutboxEvent::Tick => {
                if self.resend_at.is_some_and(|at| at <= now_ms) {
                    let after = self.flights.front().and_then(|f| f.after);
                    self.rewind(after);
                }
            }
        }
        if self.connected
            && !self.reading
            && !self.at_end
            && self.flights.len() < self.config.window.max(1)
        {
            self.reading = true;
            effects.push(OutboxEffect::Read { after: self.cursor });
        }
        effects
    }

    /// Sends again from `after` on.
    fn rewind(&mut self, after: Option<Key>) {
        self.cursor = after;
        self.flights.clear();
        self.reading = false;
        self.at_end = false;
        self.resend_at = None;
    }

    /// Sends the records at the start of a page that fit into one batch.
    fn take_page(&mut self, page: Vec<(Key, Vec<u8>)>, effects: &mut Vec<OutboxEffect>) {
        let Some(boot) = page.first().map(|(key, _)| key.boot) else {
            self.at_end = true;
            return;
        };
        let (after, mut bytes) = (self.cursor, 0usize);
        let mut records = Vec::new();
        for (key, encoded) in page.into_iter().take(MAX_BATCH_RECORDS) {
            bytes = bytes.saturating_add(encoded.len());
            let full = bytes > MAX_BATCH_BYTES && !records.is_empty();
            if key.boot != boot || full {
                break;
            }
            self.cursor = Some(key);
            match sendable(&key, &encoded) {
                Some(record) => records.push(record),
                // Left where it is, it would be read and skipped for ever.
                None => {
                    self.unsendable += 1;
                    effects.push(OutboxEffect::Remove {
                        boot,
                        first: key.sequence,
                        last: key.sequence,
                    });
                }
            }
        }
        if records.is_empty() {
            return;
        }
        self.highest = self.highest.max(self.cursor);
        self.flights.push_back(Flight {
            after,
            boot,
            waiting: records.iter().map(|r| r.sequence).collect(),
        });
        effects.push(OutboxEffect::Publish(Up::Batch(Batch { boot, records })));
    }

    /// Forgets what is acknowledged; whether that was anything under way.
    fn take_ack(&mut self, ack: &Ack, effects: &mut Vec<OutboxEffect>) -> bool {
        let mut progress = false;
        let sent_up_to = match self.highest {
            Some(highest) if ack.boot < highest.boot => u64::MAX,
            Some(highest) if ack.boot == highest.boot => highest.sequence,
            _ => return false,
        };
        for &(first, last) in &ack.ranges {
            let last = last.min(sent_up_to);
            if first > last {
                continue;
            }
            effects.push(OutboxEffect::Remove {
                boot: ack.boot,
                first,
                last,
            });
            for flight in self.flights.iter_mut().filter(|f| f.boot == ack.boot) {
                let before = flight.waiting.len();
                flight.waiting.retain(|s| !(first..=last).contains(s));
                progress |= flight.waiting.len() < before;
            }
        }
        self.flights.retain(|f| !f.waiting.is_empty());
        progress
    }
}

/// The record, if a message can carry it.
fn sendable(key: &Key, encoded: &[u8]) -> Option<Record> {
    let record = Record::decode(encoded).ok()?;
    if record.sequence != key.sequence {
        return None;
    }
    if encoded.len() > MAX_BATCH_BYTES {
        let alone = Up::Batch(Batch {
            boot: key.boot,
            records: vec![record.clone()],
        });
        alone.encode().ok()?;
    }
    Some(record)
}

#[cfg(test)]
mod tests;
