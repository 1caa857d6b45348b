//! Large values in small parts, because of where sled 0.34 puts large pages.
//!
//! A page over 128 KiB leaves sled's log for a file of its own, and that file is never synced: a
//! power cut can take it, and with it up to 17 records that were flushed long before. A page holds
//! at most 17 values, so no value may exceed [`PART_BYTES`]. A larger one continues under keys that
//! sort right behind its own: `key 00 index` (index u16 big-endian, from 1). The first part begins
//! with the number of further parts (u16 little-endian).
//!
//! All parts of a value are written and removed in one batch, so a power cut leaves all or none.

use std::ops::ControlFlow;

use crate::medium::Visit;

/// Most bytes of one part: 17 of them with their keys stay well under 128 KiB.
pub(crate) const PART_BYTES: usize = 4096;
const COUNT_BYTES: usize = 2;
/// Bytes of a key behind the value's own key.
const SUFFIX_BYTES: usize = 3;

/// Changes of the engine that happen together.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Changes {
    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((key, Some(value)));
    }

    fn unset(&mut self, key: Vec<u8>) {
        self.0.push((key, None));
    }

    /// Performs all changes or none.
    ///
    /// One alone is no batch: sled writes and syncs twice for each batch (README, measured), which
    /// would make every append of a record as dear as a flush.
    pub(crate) fn apply(mut self, engine: &sled::Db) -> sled::Result<()> {
        if self.0.len() == 1 {
            match self.0.pop() {
                Some((key, Some(value))) => engine.insert(key, value)?,
                Some((key, None)) => engine.remove(key)?,
                None => None,
            };
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for (key, value) in self.0 {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        engine.apply_batch(batch)
    }
}

/// Sets a value, as changes of the engine. `old` is what the first part held before.
pub(crate) fn put(changes: &mut Changes, key: &[u8], value: &[u8], old: Option<&[u8]>) {
    let mut parts = value.chunks(PART_BYTES);
    let first = parts.next().unwrap_or_default();
    let further =
        u16::try_from(parts.len()).expect("values are bounded at 4 MiB, that is 1024 parts");
    changes.set(key.to_vec(), [&further.to_le_bytes(), first].concat());
    for (index, part) in (1..=further).zip(parts) {
        changes.set(part_key(key, index), part.to_vec());
    }
    for index in further.saturating_add(1)..=old.map_or(0, further_parts) {
        changes.unset(part_key(key, index));
    }
}

/// Removes a value, as changes of the engine. `old` is what the first part held.
pub(crate) fn delete(changes: &mut Changes, key: &[u8], old: &[u8]) {
    changes.unset(key.to_vec());
    for index in 1..=further_parts(old) {
        changes.unset(part_key(key, index));
    }
}

/// Reads a value.
pub(crate) fn get(engine: &sled::Db, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
    let Some(first) = engine.get(key)? else {
        return Ok(None);
    };
    let mut value = first.get(COUNT_BYTES..).unwrap_or_default().to_vec();
    for index in 1..=further_parts(&first) {
        // A missing part leaves a value that its checksum refuses.
        if let Some(part) = engine.get(part_key(key, index))? {
            value.extend_from_slice(&part);
        }
    }
    Ok(Some(value))
}

/// Visits whole values of `from <= key < to` in order.
pub(crate) fn scan(
    engine: &sled::Db,
    from: &[u8],
    to: &[u8],
    visit: &mut Visit<'_>,
) -> sled::Result<()> {
    let mut entries = engine.range(from..to).peekable();
    while let Some(entry) = entries.next() {
        let (key, first) = entry?;
        let mut value = first.get(COUNT_BYTES..).unwrap_or_default().to_vec();
        let mut left = further_parts(&first);
        while left > 0 {
            let belongs =
                |next: &sled::Result<_>| matches!(next, Ok((next, _)) if is_part_of(next, &key));
            let Some(part) = entries.next_if(belongs) else {
                break;
            };
            value.extend_from_slice(&part?.1);
            left -= 1;
        }
        if let ControlFlow::Break(()) = visit(&key, &value) {
            break;
        }
    }
    Ok(())
}

fn part_key(key: &[u8], index: u16) -> Vec<u8> {
    [key, &[0], &index.to_be_bytes()].concat()
}

fn is_part_of(part: &sled::IVec, key: &sled::IVec) -> bool {
    part.len() == key.len() + SUFFIX_BYTES && part.starts_with(key)
}

fn further_parts(first: &[u8]) -> u16 {
    first
        .first_chunk::<COUNT_BYTES>()
        .map_or(0, |count| u16::from_le_bytes(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(engine: &sled::Db) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        scan(engine, b"a", b"z", &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn values_of_any_size_come_back_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let engine = sled::open(folder.path()).unwrap();
        let value = |len: usize| (0..len).map(|at| (at * 31) as u8).collect::<Vec<_>>();
        let sizes = [0, 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES, 100_001, 3];
        for len in sizes {
            for key in [&b"k"[..], b"k1", b"l"] {
                let mut changes = Changes::default();
                let old = engine.get(key).unwrap();
                put(&mut changes, key, &value(len), old.as_deref());
                changes.apply(&engine).unwrap();
                assert_eq!(get(&engine, key).unwrap(), Some(value(len)));
            }
            let keys: Vec<_> = all(&engine).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [&b"k"[..], b"k1", b"l"]);
            assert!(all(&engine).iter().all(|(_, found)| *found == value(len)));
        }
        assert_eq!(engine.len(), 3, "smaller values leave no parts behind");
        for key in [&b"k"[..], b"k1", b"l"] {
            let mut changes = Changes::default();
            put(&mut changes, key, &value(50_000), None);
            changes.apply(&engine).unwrap();
            let mut changes = Changes::default();
            delete(&mut changes, key, &engine.get(key).unwrap().unwrap());
            changes.apply(&engine).unwrap();
        }
        assert!(engine.is_empty());
    }
}
