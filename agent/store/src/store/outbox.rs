//! The outbox: records in age order, their counters, and what goes when the quota is full.
//!
//! One append is one batch of the medium: the record, the evictions it forces and the eviction
//! counter stand or fall together at a power cut.

use std::ops::{ControlFlow, RangeInclusive};

use super::{Kind, Store, check_size};
use crate::envelope::{self, Damage, HEADER_BYTES};
use crate::key::{EVICTED_KEY, OUTBOX_END, RECORD_KEY_BYTES};
use crate::{KvOp, Medium, RecordKey, Result};

/// Largest payload of a record, whatever the quota: far above any message on the wire.
const RECORD_MAX: u64 = 4 << 20;
/// Slack in bytes is a multiple of this.
const SLACK_STEP: u64 = 4096;
/// Keys removed in one batch; bounds the memory of a large acknowledgement.
const BATCH: usize = 1024;

/// What the counters say about one stored record.
struct Stored {
    key: Vec<u8>,
    /// Payload bytes, or none if the record was never counted.
    payload: Option<u64>,
}

impl Stored {
    fn new(key: &[u8], value: &[u8]) -> Self {
        let counted = RecordKey::from_storage_key(key)
            .is_some_and(|k| envelope::unseal_record(k, value) != Err(Damage::UnknownVersion));
        Self {
            key: key.to_vec(),
            payload: counted.then(|| payload_bytes(value)),
        }
    }
}

/// The payload share of a stored value.
fn payload_bytes(value: &[u8]) -> u64 {
    value.len().saturating_sub(HEADER_BYTES + RECORD_KEY_BYTES) as u64
}

impl<M: Medium> Store<M> {
    /// Counts what is there and removes records that fail their checksum.
    pub(super) fn recount(&mut self) -> Result<()> {
        let (mut records, mut bytes, mut newest) = (0, 0, None);
        let mut corrupt = Vec::new();
        let from = RecordKey::FIRST.storage_key();
        self.medium.scan(&from, OUTBOX_END, &mut |stored, value| {
            let key = RecordKey::from_storage_key(stored);
            let read = key.map_or(Err(Damage::Corrupt), |key| {
                envelope::unseal_record(key, value)
            });
            match read {
                Ok(payload) => {
                    records += 1;
                    bytes += payload.len() as u64;
                }
                Err(damage) => {
                    self.damaged(Kind::Record, stored, damage);
                    if damage == Damage::Corrupt {
                        corrupt.push(KvOp::Delete(stored.to_vec()));
                    }
                }
            }
            newest = key.or(newest);
            ControlFlow::Continue(())
        })?;
        if !corrupt.is_empty() {
            // Best effort: a medium too full for the removal still opens and skips them.
            let _ = self.medium.apply(corrupt);
        }
        (self.records, self.bytes, self.newest) = (records, bytes, newest);
        self.evicted = self.read_evicted()?;
        Ok(())
    }

    fn read_evicted(&self) -> Result<u64> {
        let Some(sealed) = self.medium.get(EVICTED_KEY)? else {
            return Ok(0);
        };
        match envelope::unseal(EVICTED_KEY, &sealed).map(<[u8; 8]>::try_from) {
            Ok(Ok(count)) => Ok(u64::from_le_bytes(count)),
            Ok(Err(_)) => {
                self.damaged(Kind::State, EVICTED_KEY, Damage::Corrupt);
                Ok(0)
            }
            Err(damage) => {
                self.damaged(Kind::State, EVICTED_KEY, damage);
                Ok(0)
            }
        }
    }

    pub(super) fn append_record(&mut self, key: RecordKey, payload: &[u8]) -> Result<()> {
        let len = payload.len() as u64;
        check_size("outbox record", payload.len(), self.record_limit())?;
        self.check_room("outbox record", payload.len())?;

        let stored = key.storage_key();
        // Keys mostly grow, so the lookup for a replaced record is rare.
        let replaced = match self.newest {
            Some(newest) if key <= newest => self.medium.get(&stored)?,
            _ => None,
        };
        let old = replaced.and_then(|value| Stored::new(&stored, &value).payload);
        // A damaged record that could not be removed was not counted.
        let kept_records = self.records.saturating_sub(u64::from(old.is_some()));
        let kept_bytes = self.bytes.saturating_sub(old.unwrap_or(0));

        let over_records = (kept_records + 1).saturating_sub(self.quota.max_records.max(1));
        let over_bytes = (kept_bytes + len).saturating_sub(self.quota.max_bytes);
        let victims = self.victims(over_records, over_bytes, &stored)?;
        let counted: Vec<u64> = victims.iter().filter_map(|v| v.payload).collect();
        let evicted = self.evicted.saturating_add(victims.len() as u64);

        let mut ops = vec![KvOp::Put(stored, envelope::seal_record(key, payload))];
        if !victims.is_empty() {
            let count = envelope::seal(EVICTED_KEY, &evicted.to_le_bytes());
            ops.push(KvOp::Put(EVICTED_KEY.to_vec(), count));
            ops.extend(victims.into_iter().map(|victim| KvOp::Delete(victim.key)));
        }
        self.medium.apply(ops)?;

        self.records = kept_records + 1 - (counted.len() as u64).min(kept_records);
        self.bytes = (kept_bytes + len).saturating_sub(counted.iter().sum());
        self.evicted = evicted;
        self.newest = self.newest.max(Some(key));
        Ok(())
    }

    /// What an eviction frees beyond need, so that a full outbox does not evict at every append:
    /// finding the oldest records reads pages that no cache still holds. Nothing in small outboxes.
    fn slack(quota: u64, over: u64) -> u64 {
        if over > 0 { quota / 256 } else { 0 }
    }

    /// The largest payload that one append takes.
    fn record_limit(&self) -> u64 {
        self.quota.max_bytes.min(RECORD_MAX)
    }

    /// The oldest records whose removal brings the outbox back under its quota.
    fn victims(&self, records: u64, bytes: u64, spare: &[u8]) -> Result<Vec<Stored>> {
        let mut victims = Vec::new();
        if records == 0 && bytes == 0 {
            return Ok(victims);
        }
        // Slack only where the quota is exceeded: the other one may be unlimited.
        let more_bytes = Self::slack(self.quota.max_bytes, bytes) / SLACK_STEP * SLACK_STEP;
        let more_records = Self::slack(self.quota.max_records, records);
        let (records, bytes) = (records + more_records, bytes + more_bytes);
        let (mut freed_records, mut freed_bytes) = (0, 0);
        let from = RecordKey::FIRST.storage_key();
        self.medium.scan(&from, OUTBOX_END, &mut |key, value| {
            if key != spare {
                let stored = Stored::new(key, value);
                freed_records += u64::from(stored.payload.is_some());
                freed_bytes += stored.payload.unwrap_or(0);
                victims.push(stored);
            }
            if freed_records >= records && freed_bytes >= bytes {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(victims)
    }

    pub(super) fn oldest_records(
        &self,
        limit_records: usize,
        limit_bytes: u64,
        after: Option<RecordKey>,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>> {
        let mut found: Vec<(RecordKey, Vec<u8>)> = Vec::new();
        let first = match after {
            Some(key) => key.next(),
            None => Some(RecordKey::FIRST),
        };
        let Some(first) = first.filter(|_| limit_records > 0) else {
            return Ok(found);
        };
        let mut bytes = 0_u64;
        self.medium
            .scan(&first.storage_key(), OUTBOX_END, &mut |stored, value| {
                let Some(key) = RecordKey::from_storage_key(stored) else {
                    return ControlFlow::Continue(());
                };
                match envelope::unseal_record(key, value) {
                    Ok(payload) => {
                        bytes += payload.len() as u64;
                        if !found.is_empty() && bytes > limit_bytes {
                            return ControlFlow::Break(());
                        }
                        found.push((key, payload.to_vec()));
                    }
                    Err(damage) => self.damaged(Kind::Record, stored, damage),
                }
                if found.len() < limit_records {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        Ok(found)
    }

    pub(super) fn remove_keys(&mut self, keys: &[RecordKey]) -> Result<u64> {
        let mut removed = 0;
        for slice in keys.chunks(BATCH) {
            let mut wanted = slice.to_vec();
            // A key named twice must not be subtracted twice.
            wanted.sort_unstable();
            wanted.dedup();
            let mut there = Vec::new();
            for key in wanted {
                let stored = key.storage_key();
                if let Some(value) = self.medium.get(&stored)? {
                    there.push(Stored::new(&stored, &value));
                }
            }
            removed += self.remove_stored(there)?;
        }
        Ok(removed)
    }

    pub(super) fn remove_seqs(&mut self, boot: u64, seqs: RangeInclusive<u64>) -> Result<u64> {
        let mut removed = 0;
        if seqs.is_empty() {
            return Ok(0);
        }
        let from = RecordKey {
            boot,
            seq: *seqs.start(),
        }
        .storage_key();
        let last = RecordKey {
            boot,
            seq: *seqs.end(),
        };
        let to = last
            .next()
            .map_or_else(|| OUTBOX_END.to_vec(), RecordKey::storage_key);
        loop {
            let mut there = Vec::new();
            self.medium.scan(&from, &to, &mut |key, value| {
                there.push(Stored::new(key, value));
                if there.len() < BATCH {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            if there.is_empty() {
                return Ok(removed);
            }
            removed += self.remove_stored(there)?;
        }
    }

    fn remove_stored(&mut self, there: Vec<Stored>) -> Result<u64> {
        if there.is_empty() {
            return Ok(0);
        }
        let counted: Vec<u64> = there.iter().filter_map(|stored| stored.payload).collect();
        let ops = there.into_iter().map(|stored| KvOp::Delete(stored.key));
        self.medium.apply(ops.collect())?;
        let removed = counted.len() as u64;
        self.records = self.records.saturating_sub(removed);
        self.bytes = self.bytes.saturating_sub(counted.iter().sum());
        Ok(removed)
    }
}
