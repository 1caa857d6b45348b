//! The power is cut at every write of a scripted life, three ways each, and the disk fills at every
//! write. After each one the promises of `Journal` are compared with what the script was told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use drover_agent_store::{Class, Cut, FaultJournal, Journal, OutboxQuota, RecordKey, StoreError};

const QUOTA: OutboxQuota = OutboxQuota {
    max_bytes: 400,
    max_records: 12,
};
const BUNDLE: [u8; 32] = [5; 32];

type Outcome = Result<(), StoreError>;

/// One value that is replaced: what was confirmed, and what was on its way at the end.
#[derive(Default)]
struct Cell {
    confirmed: Option<Vec<u8>>,
    attempted: Option<Vec<u8>>,
}

impl Cell {
    fn check(&self, found: Option<Vec<u8>>, what: &str) {
        let known = found == self.confirmed || (found.is_some() && found == self.attempted);
        assert!(known, "{what} is neither old nor new: {found:?}");
    }
}

/// What the script was told, and so may rely on.
#[derive(Default)]
struct Told {
    boot: u64,
    state: Cell,
    file: Cell,
    /// Every record that was ever given to `append`.
    written: BTreeMap<RecordKey, Vec<u8>>,
    /// In the outbox as of the last confirmed flush.
    flushed: BTreeSet<RecordKey>,
    /// In the outbox as of the last confirmed call.
    current: BTreeSet<RecordKey>,
    /// Given to `remove`, or evicted, since the last confirmed flush.
    leaving: BTreeSet<RecordKey>,
    flushed_evictions: u64,
    chunks: BTreeMap<u32, Vec<u8>>,
}

impl Told {
    fn boot(&mut self, journal: &mut FaultJournal) -> Outcome {
        let boot = journal.begin_boot()?;
        assert!(boot > self.boot, "boot {boot} was used before");
        self.boot = boot;
        Ok(())
    }

    fn append(&mut self, journal: &mut FaultJournal, seq: u64, len: usize) -> Outcome {
        let key = RecordKey {
            boot: self.boot,
            seq,
        };
        let payload: Vec<u8> = (0..len).map(|at| (at as u8) ^ (seq as u8)).collect();
        self.written.insert(key, payload.clone());
        // The quota lets the oldest go, whether or not the answer arrives.
        let mut after = self.current.clone();
        after.insert(key);
        let bytes = |keys: &BTreeSet<RecordKey>| -> usize {
            keys.iter().map(|key| self.written[key].len()).sum()
        };
        let over = |keys: &BTreeSet<RecordKey>| {
            keys.len() as u64 > QUOTA.max_records || bytes(keys) as u64 > QUOTA.max_bytes
        };
        while over(&after) {
            self.leaving.extend(after.pop_first());
        }
        journal.append(key.boot, seq, &payload)?;
        self.current = after;
        Ok(())
    }

    fn remove(
        &mut self,
        journal: &mut FaultJournal,
        seqs: std::ops::RangeInclusive<u64>,
    ) -> Outcome {
        let boot = self.boot;
        let leaving: Vec<_> = seqs.clone().map(|seq| RecordKey { boot, seq }).collect();
        self.leaving.extend(&leaving);
        journal.remove_range(boot, seqs)?;
        self.current.retain(|key| !leaving.contains(key));
        Ok(())
    }

    fn flush(&mut self, journal: &mut FaultJournal) -> Outcome {
        journal.flush()?;
        self.confirm(journal);
        Ok(())
    }

    /// A flush was confirmed: what is there stays there.
    fn confirm(&mut self, journal: &FaultJournal) {
        self.flushed = self.current.clone();
        self.leaving.clear();
        self.flushed_evictions = journal.evicted();
    }

    fn save(&mut self, journal: &mut FaultJournal, value: &[u8]) -> Outcome {
        self.state.attempted = Some(value.to_vec());
        journal.save_state("ota", value)?;
        self.state.confirmed = self.state.attempted.take();
        // Saving state flushes the engine, but only a whole save says so.
        if journal.salvage().single_copy_saves == 0 {
            self.confirm(journal);
        }
        Ok(())
    }

    fn put_file(&mut self, journal: &mut FaultJournal, value: &[u8]) -> Outcome {
        self.file.attempted = Some(value.to_vec());
        journal.put_file(&BUNDLE, "model", value)?;
        self.file.confirmed = self.file.attempted.take();
        Ok(())
    }

    fn put_chunk(&mut self, journal: &mut FaultJournal, index: u32) -> Outcome {
        let value = vec![index as u8; 90];
        self.chunks.insert(index, value.clone());
        journal.put_chunk(&BUNDLE, index, &value)
    }

    /// Compares a journal with what was told. `torn` says that values may be damaged.
    fn check(&self, journal: &FaultJournal, torn: bool) {
        self.state
            .check(journal.load_state("ota").unwrap(), "state");
        self.file
            .check(journal.open_file(&BUNDLE, "model").unwrap(), "file");

        let found = journal.oldest(usize::MAX, u64::MAX, None).unwrap();
        let keys: BTreeSet<_> = found.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys.len(), found.len());
        for (key, payload) in &found {
            assert_eq!(Some(payload), self.written.get(key), "phantom {key:?}");
        }
        for key in self.flushed.difference(&self.leaving) {
            assert!(keys.contains(key), "flushed record {key:?} is gone");
        }
        for key in self.written.keys() {
            let gone = !self.flushed.contains(key) && !self.current.contains(key);
            let last = self.written.keys().next_back() == Some(key);
            assert!(
                !gone || self.leaving.contains(key) || last || !keys.contains(key),
                "removed and flushed record {key:?} is back"
            );
        }
        let bytes: usize = found.iter().map(|(_, payload)| payload.len()).sum();
        assert_eq!(journal.len(), found.len() as u64);
        assert_eq!(journal.bytes(), bytes as u64);
        assert!(journal.bytes() <= QUOTA.max_bytes && journal.len() <= QUOTA.max_records);

        for index in journal.chunks_present(&BUNDLE).unwrap() {
            let chunk = journal.get_chunk(&BUNDLE, index).unwrap();
            assert_eq!(chunk.as_ref(), self.chunks.get(&index));
        }
        if !torn {
            assert!(journal.evicted() >= self.flushed_evictions);
            let salvage = journal.salvage();
            assert_eq!((salvage.corrupt_records, salvage.corrupt_states), (0, 0));
        }
    }
}

/// A life with every kind of write in it; ends early when a call fails.
fn script(journal: &mut FaultJournal, told: &mut Told) -> Outcome {
    told.boot(journal)?;
    for seq in 0..6 {
        told.append(journal, seq, 20)?;
    }
    told.flush(journal)?;
    told.save(journal, b"downloading")?;
    told.put_chunk(journal, 0)?;
    told.put_chunk(journal, 7)?;
    told.append(journal, 6, 30)?;
    told.remove(journal, 0..=2)?;
    told.append(journal, 7, 10)?;
    told.flush(journal)?;
    told.put_file(journal, b"weights of the first model")?;
    told.save(journal, b"trial of the first model")?;
    // Over the quota by records, then by bytes.
    for seq in 8..20 {
        told.append(journal, seq, 20)?;
    }
    told.append(journal, 20, 300)?;
    told.flush(journal)?;
    told.boot(journal)?;
    told.append(journal, 0, 5)?;
    told.put_file(journal, b"weights of the second model, longer")?;
    told.put_chunk(journal, 0)?;
    told.save(journal, b"")?;
    told.remove(journal, 0..=0)?;
    told.save(journal, b"committed")?;
    told.flush(journal)
}

fn total_writes() -> u64 {
    let (mut journal, mut told) = (FaultJournal::new(QUOTA), Told::default());
    script(&mut journal, &mut told).unwrap();
    told.check(&journal, false);
    assert!(journal.evicted() > 0, "the script must exercise eviction");
    journal.writes()
}

#[test]
fn a_cut_at_any_write_keeps_every_promise() {
    let total = total_writes();
    assert!(total > 60, "{total}");
    for cut in [Cut::Lost, Cut::Torn, Cut::Kept] {
        for n in 1..=total {
            let (mut journal, mut told) = (FaultJournal::new(QUOTA), Told::default());
            journal.cut_at(n, cut);
            let error = script(&mut journal, &mut told).unwrap_err();
            assert!(matches!(error, StoreError::Cut), "{cut:?} {n}: {error}");
            assert!(journal.is_cut());
            assert_eq!(error.class(), Class::Fatal);
            assert!(journal.load_state("ota").is_err());

            let (mut journal, report) = journal.restart().unwrap();
            assert_eq!(report.records, journal.len());
            told.check(&journal, cut == Cut::Torn);

            // Life goes on, and the next clean start agrees.
            told.boot(&mut journal).unwrap();
            journal.append(told.boot, 0, b"after").unwrap();
            journal.save_state("ota", b"after").unwrap();
            let (journal, _) = journal.restart().unwrap();
            assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"after");
            let all = journal.oldest(usize::MAX, u64::MAX, None).unwrap();
            assert_eq!(all.last().unwrap().1, b"after");
        }
    }
}

#[test]
fn a_second_cut_right_after_the_first_keeps_every_promise() {
    let total = total_writes();
    for first in (1..=total).step_by(3) {
        for second in 1..=12 {
            let (mut journal, mut told) = (FaultJournal::new(QUOTA), Told::default());
            journal.cut_at(first, Cut::Torn);
            script(&mut journal, &mut told).unwrap_err();
            let (mut journal, _) = journal.restart().unwrap();
            // What a start finds is what the next cut must keep.
            told.state.confirmed = journal.load_state("ota").unwrap();
            told.file.confirmed = journal.open_file(&BUNDLE, "model").unwrap();
            journal.cut_at(second, Cut::Lost);
            // Fails here or later: the restarted script has fewer than `second` writes in it.
            let mut again = || -> Outcome {
                told.boot(&mut journal)?;
                told.put_file(&mut journal, b"weights after the cut")?;
                let current = journal.oldest(usize::MAX, u64::MAX, None)?;
                told.current = current.into_iter().map(|(key, _)| key).collect();
                told.save(&mut journal, b"state after the cut")
            };
            let _ = again();
            let (journal, _) = journal.restart().unwrap();
            told.check(&journal, true);
        }
    }
}

#[test]
fn a_disk_that_fills_up_at_any_write_loses_nothing_confirmed() {
    for n in 1..=total_writes() {
        let (mut journal, mut told) = (FaultJournal::new(QUOTA), Told::default());
        journal.full_at(n);
        let error = script(&mut journal, &mut told).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{n}: {error}");
        assert_eq!(error.class(), Class::Retry);
        told.check(&journal, false);
        // Room again: the same process goes on.
        journal.clear_fault();
        told.boot(&mut journal).unwrap();
        journal.append(told.boot, 0, b"after").unwrap();
        journal.save_state("ota", b"after").unwrap();
        let (journal, _) = journal.restart().unwrap();
        assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"after");
    }
}

#[test]
fn a_damaged_copy_of_state_gives_way_to_the_other() {
    // Torn at the engine's copy: its value is half, the file is whole and newer.
    let mut journal = FaultJournal::new(QUOTA);
    journal.save_state("ota", b"old").unwrap();
    // Temporary, sync, rename, sync of the folder; the fifth write is the engine's.
    journal.cut_at(5, Cut::Torn);
    journal.save_state("ota", b"new").unwrap_err();
    let (journal, _) = journal.restart().unwrap();
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"new");
    assert_eq!(journal.salvage().corrupt_states, 1);
}
