//! Finds outbox records in the raw files of an engine that cannot be opened.
//!
//! Values lie uncompressed and in one piece in the engine's files, and each envelope carries its
//! key and checksum, so they can be found without any index; only those too large for one part of
//! the engine are lost. Records that were already removed may
//! be found again; they are sent twice under the same key, which receivers tolerate. Nothing is
//! ever written here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::envelope::{MAGIC, find_record};
use crate::{OutboxQuota, RecordKey};

/// A window holds at least this much behind every position that is examined.
const LOOK_AHEAD: usize = 4 << 20;
const WINDOW: usize = 2 * LOOK_AHEAD;

/// Whole records in the files of `engine`, oldest first; the newest ones that the quota allows.
pub(crate) fn records(engine: &Path, quota: &OutboxQuota) -> Vec<(RecordKey, Vec<u8>)> {
    let mut found = Found {
        records: BTreeMap::new(),
        bytes: 0,
        quota,
    };
    for file in [engine.to_owned(), engine.join("blobs")] {
        let Ok(entries) = fs::read_dir(file) else {
            continue;
        };
        for entry in entries.flatten() {
            // Unreadable sectors end the search in this file only.
            if let Ok(file) = File::open(entry.path()) {
                search(file, &mut found);
            }
        }
    }
    found.records.into_iter().collect()
}

struct Found<'a> {
    records: BTreeMap<RecordKey, Vec<u8>>,
    bytes: u64,
    quota: &'a OutboxQuota,
}

impl Found<'_> {
    fn add(&mut self, key: RecordKey, payload: &[u8]) {
        self.bytes += payload.len() as u64;
        if let Some(old) = self.records.insert(key, payload.to_vec()) {
            self.bytes -= old.len() as u64;
        }
        while self.bytes > self.quota.max_bytes
            || self.records.len() as u64 > self.quota.max_records
        {
            let Some((_, oldest)) = self.records.pop_first() else {
                return;
            };
            self.bytes -= oldest.len() as u64;
        }
    }
}

fn search(mut file: impl Read, found: &mut Found<'_>) {
    let mut window = Vec::new();
    loop {
        let wanted = (WINDOW - window.len()) as u64;
        let read = file.by_ref().take(wanted).read_to_end(&mut window);
        let ended = !matches!(read, Ok(read) if read as u64 == wanted);
        let stop = if ended {
            window.len()
        } else {
            window.len() - LOOK_AHEAD
        };

        let mut at = 0;
        while at < stop {
            let rest = &window[at..];
            if rest.starts_with(&MAGIC)
                && let Some((key, payload)) = find_record(rest)
            {
                found.add(key, payload);
                at += payload.len();
            }
            at += 1;
        }
        if ended {
            return;
        }
        window.drain(..at.min(window.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::seal_record;

    #[test]
    fn records_are_found_at_any_offset_and_across_windows() {
        let mut bytes = vec![MAGIC[0]; LOOK_AHEAD - 20];
        let mut keys = Vec::new();
        for seq in 0..40 {
            let key = RecordKey { boot: 1, seq };
            keys.push(key);
            bytes.extend(seal_record(key, &vec![seq as u8; 300_000]));
            bytes.extend([0x4A, 0xD5, 0xD5]);
        }
        let torn = seal_record(RecordKey { boot: 1, seq: 40 }, b"torn");
        bytes.extend(&torn[..torn.len() - 1]);
        let quota = OutboxQuota::default();
        let mut found = Found {
            records: BTreeMap::new(),
            bytes: 0,
            quota: &quota,
        };
        search(bytes.as_slice(), &mut found);
        assert_eq!(found.records.keys().copied().collect::<Vec<_>>(), keys);
        assert_eq!(found.bytes, 40 * 300_000);
    }
}
