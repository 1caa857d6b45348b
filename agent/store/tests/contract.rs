//! One suite of the journal contract, run over every implementation.
//!
//! `restart` is the next start of the agent: after a power cut in memory, after a clean stop on
//! disk. The suite flushes before it, so the answers must be the same everywhere.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use drover_agent_store::{
    Class, FaultJournal, Journal, MemJournal, OutboxQuota, RecordKey, SledJournal, SledOptions,
    StoreError,
};

const QUOTA: OutboxQuota = OutboxQuota {
    max_bytes: 1000,
    max_records: 20,
};
const DIGEST: [u8; 32] = [0xAB; 32];
const OTHER: [u8; 32] = [0x01; 32];

/// Keeps what a journal on disk needs to be opened again.
struct OnDisk {
    journal: Option<SledJournal>,
    folder: tempfile::TempDir,
}

fn open_on_disk(folder: &tempfile::TempDir) -> SledJournal {
    let options = SledOptions {
        quota: QUOTA,
        min_free_bytes: 0,
        ..SledOptions::default()
    };
    let (journal, report) = SledJournal::open(&folder.path().join("data"), options).unwrap();
    assert_eq!(report.set_aside, None);
    journal
}

/// An implementation under test.
trait Subject {
    fn fresh() -> Self;
    fn journal(&mut self) -> &mut dyn Journal;
    fn restart(self) -> Self;
}

impl Subject for OnDisk {
    fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            journal: Some(open_on_disk(&folder)),
            folder,
        }
    }

    fn journal(&mut self) -> &mut dyn Journal {
        self.journal.as_mut().unwrap()
    }

    fn restart(mut self) -> Self {
        drop(self.journal.take());
        self.journal = Some(open_on_disk(&self.folder));
        self
    }
}

impl Subject for MemJournal {
    fn fresh() -> Self {
        Self::new(QUOTA)
    }

    fn journal(&mut self) -> &mut dyn Journal {
        self
    }

    fn restart(self) -> Self {
        self.power_cut().unwrap().0
    }
}

impl Subject for FaultJournal {
    fn fresh() -> Self {
        Self::new(QUOTA)
    }

    fn journal(&mut self) -> &mut dyn Journal {
        self
    }

    fn restart(self) -> Self {
        FaultJournal::restart(self).unwrap().0
    }
}

fn key(boot: u64, seq: u64) -> RecordKey {
    RecordKey { boot, seq }
}

fn keys(journal: &dyn Journal) -> Vec<(u64, u64)> {
    let all = journal.oldest(usize::MAX, u64::MAX, None).unwrap();
    all.iter().map(|(key, _)| (key.boot, key.seq)).collect()
}

/// The counters must always agree with what is there.
fn check_counters(journal: &dyn Journal) {
    let all = journal.oldest(usize::MAX, u64::MAX, None).unwrap();
    assert_eq!(journal.len(), all.len() as u64);
    assert_eq!(journal.is_empty(), all.is_empty());
    let bytes: usize = all.iter().map(|(_, payload)| payload.len()).sum();
    assert_eq!(journal.bytes(), bytes as u64);
}

fn state_cells<S: Subject>() {
    let mut subject = S::fresh();
    let journal = subject.journal();
    assert_eq!(journal.load_state("ota").unwrap(), None);
    journal.save_state("ota", b"first").unwrap();
    journal.save_state("ota", b"").unwrap();
    journal.save_state("time-floor", &[7; 5000]).unwrap();
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"");
    journal.save_state("ota", b"third").unwrap();

    let mut subject = subject.restart();
    let journal = subject.journal();
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"third");
    assert_eq!(
        journal.load_state("time-floor").unwrap().unwrap(),
        [7; 5000]
    );
    for name in ["", ".boot", "../x", "a/b", "Ä"] {
        let error = journal.save_state(name, b"x").unwrap_err();
        assert!(matches!(error, StoreError::Name { .. }), "{error}");
        assert_eq!(error.class(), Class::Refuse);
        assert!(journal.load_state(name).is_err());
    }
    let error = journal.save_state("big", &vec![0; 2 << 20]).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(journal.salvage(), Default::default());
}

fn boots<S: Subject>() {
    let mut subject = S::fresh();
    assert_eq!(subject.journal().begin_boot().unwrap(), 1);
    assert_eq!(subject.journal().begin_boot().unwrap(), 2);
    let mut subject = subject.restart();
    assert_eq!(subject.journal().begin_boot().unwrap(), 3);
    subject
        .journal()
        .append(9, 0, b"from a lost count")
        .unwrap();
    assert_eq!(subject.journal().begin_boot().unwrap(), 10);
}

fn outbox_in_age_order<S: Subject>() {
    let mut subject = S::fresh();
    let journal = subject.journal();
    for (boot, seq) in [(1, 255), (1, 256), (2, 0), (1, 3)] {
        let payload = format!("{boot}/{seq}");
        journal.append(boot, seq, payload.as_bytes()).unwrap();
    }
    journal.flush().unwrap();
    let mut subject = subject.restart();
    let journal = subject.journal();
    assert_eq!(keys(journal), [(1, 3), (1, 255), (1, 256), (2, 0)]);
    check_counters(journal);

    let two = journal.oldest(2, u64::MAX, Some(key(1, 3))).unwrap();
    assert_eq!(two[0], (key(1, 255), b"1/255".to_vec()));
    assert_eq!(two[1].0, key(1, 256));
    assert_eq!(two.len(), 2);
    let by_bytes = journal.oldest(10, 8, None).unwrap();
    assert_eq!(by_bytes.len(), 2, "3 and 5 bytes fit in 8, 5 more do not");
    let large_first = journal.oldest(10, 1, Some(key(1, 3))).unwrap();
    assert_eq!(large_first.len(), 1, "a record over the limit still comes");
    assert!(journal.oldest(0, u64::MAX, None).unwrap().is_empty());
    assert!(journal.oldest(1, 1, Some(key(2, 0))).unwrap().is_empty());
    let last = Some(key(u64::MAX, u64::MAX));
    assert!(journal.oldest(1, 1, last).unwrap().is_empty());
}

fn removal<S: Subject>() {
    let mut subject = S::fresh();
    let journal = subject.journal();
    for seq in 0..10 {
        journal.append(1, seq, b"payload").unwrap();
        journal.append(2, seq, b"other boot").unwrap();
    }
    assert_eq!(
        journal.remove(&[key(1, 4), key(1, 4), key(3, 0)]).unwrap(),
        1
    );
    assert_eq!(journal.remove_range(1, 0..=6).unwrap(), 6);
    assert_eq!(journal.remove_range(1, 0..=6).unwrap(), 0);
    assert_eq!(journal.remove_range(2, 1..=u64::MAX).unwrap(), 9);
    #[expect(clippy::reversed_empty_ranges, reason = "must be harmless")]
    let reversed = journal.remove_range(1, 9..=7).unwrap();
    assert_eq!(reversed, 0);
    assert_eq!(keys(journal), [(1, 7), (1, 8), (1, 9), (2, 0)]);
    check_counters(journal);
    journal.flush().unwrap();
    let mut subject = subject.restart();
    let journal = subject.journal();
    assert_eq!(keys(journal), [(1, 7), (1, 8), (1, 9), (2, 0)]);
    check_counters(journal);
    assert_eq!(journal.evicted(), 0);
}

fn the_same_key_replaces<S: Subject>() {
    let mut subject = S::fresh();
    let journal = subject.journal();
    journal.append(1, 1, b"first").unwrap();
    journal.append(1, 2, b"second").unwrap();
    journal.append(1, 1, b"first again").unwrap();
    assert_eq!(keys(journal), [(1, 1), (1, 2)]);
    let first = journal.oldest(1, u64::MAX, None).unwrap();
    assert_eq!(first[0].1, b"first again");
    check_counters(journal);
}

fn eviction<S: Subject>() {
    let mut subject = S::fresh();
    let journal = subject.journal();
    for seq in 0..25 {
        journal.append(1, seq, &[0; 10]).unwrap();
    }
    assert_eq!((journal.len(), journal.evicted()), (20, 5));
    // 19 records of 10 bytes and one of 900 exceed 1000 bytes by 90.
    journal.append(1, 25, &[0; 900]).unwrap();
    assert_eq!((journal.len(), journal.evicted()), (11, 15));
    assert_eq!(keys(journal)[0], (1, 15));
    check_counters(journal);
    journal.flush().unwrap();

    let mut subject = subject.restart();
    let journal = subject.journal();
    assert_eq!((journal.len(), journal.evicted()), (11, 15));
    check_counters(journal);
    let error = journal.append(1, 26, &[0; 1001]).unwrap_err();
    assert_eq!(error.class(), Class::Refuse);
    journal.append(1, 27, &[0; 1000]).unwrap();
    assert_eq!(keys(journal), [(1, 27)]);
    check_counters(journal);
}

fn chunks<S: Subject>() {
    let mut subject = S::fresh();
    let journal = subject.journal();
    assert!(journal.chunks_present(&DIGEST).unwrap().is_empty());
    journal.put_chunk(&DIGEST, 300, b"last").unwrap();
    journal.put_chunk(&DIGEST, 0, &[1; 128 << 10]).unwrap();
    journal.put_chunk(&OTHER, 5, b"other").unwrap();
    journal.put_chunk(&DIGEST, 0, b"first").unwrap();
    assert_eq!(journal.chunks_present(&DIGEST).unwrap(), [0, 300]);
    assert_eq!(
        journal.get_chunk(&DIGEST, 0).unwrap().as_deref(),
        Some(&b"first"[..])
    );
    assert_eq!(journal.get_chunk(&DIGEST, 1).unwrap(), None);
    journal.drop_chunks(&DIGEST).unwrap();
    assert!(journal.chunks_present(&DIGEST).unwrap().is_empty());
    assert_eq!(journal.chunks_present(&OTHER).unwrap(), [5]);
    journal.drop_chunks(&DIGEST).unwrap();
    let error = journal
        .put_chunk(&DIGEST, 0, &vec![0; 2 << 20])
        .unwrap_err();
    assert_eq!(error.class(), Class::Refuse);
}

fn bundles<S: Subject>() {
    let mut subject = S::fresh();
    let journal = subject.journal();
    assert!(journal.list_bundles().unwrap().is_empty());
    journal
        .put_file(&DIGEST, "model.onnx", &[3; 70_000])
        .unwrap();
    journal.put_file(&DIGEST, "manifest", b"old").unwrap();
    journal.put_file(&DIGEST, "manifest", b"new").unwrap();
    journal.put_file(&OTHER, "manifest", b"").unwrap();
    for name in ["", ".", "..", ".tmp-x", "a/b"] {
        assert!(journal.put_file(&DIGEST, name, b"").is_err());
        assert!(journal.open_file(&DIGEST, name).is_err());
    }
    journal.put_chunk(&OTHER, 0, b"chunk").unwrap();

    let mut subject = subject.restart();
    let journal = subject.journal();
    let manifest = journal.open_file(&DIGEST, "manifest").unwrap();
    assert_eq!(manifest.as_deref(), Some(&b"new"[..]));
    let model = journal.open_file(&DIGEST, "model.onnx").unwrap().unwrap();
    assert_eq!(model, [3; 70_000]);
    assert_eq!(journal.open_file(&DIGEST, "labels").unwrap(), None);
    let bundles = journal.list_bundles().unwrap();
    assert_eq!(bundles.len(), 2);
    assert_eq!(bundles[0].digest, OTHER);
    let names: Vec<_> = bundles[1].files.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["manifest", "model.onnx"]);

    journal.remove_bundle(&OTHER).unwrap();
    journal.remove_bundle(&OTHER).unwrap();
    assert!(journal.chunks_present(&OTHER).unwrap().is_empty());
    assert_eq!(journal.list_bundles().unwrap().len(), 1);
}

macro_rules! contract {
    ($($subject:ident: $module:ident),*; $cases:tt) => {
        $(contract!(@module $subject $module $cases);)*
    };
    (@module $subject:ident $module:ident ($($case:ident),*)) => {
        mod $module {
            $(#[test] fn $case() { super::$case::<super::$subject>(); })*
        }
    };
}

contract! {
    OnDisk: on_disk, MemJournal: in_memory, FaultJournal: with_faults;
    (
        state_cells, boots, outbox_in_age_order, removal, the_same_key_replaces, eviction,
        chunks, bundles
    )
}

#[test]
fn a_large_outbox_evicts_little_more_than_needed() {
    let quotas = [(1 << 20, u64::MAX), (u64::MAX, 1 << 10)];
    for (max_bytes, max_records) in quotas {
        let mut journal = MemJournal::new(OutboxQuota {
            max_bytes,
            max_records,
        });
        for seq in 0..3000 {
            journal.append(1, seq, &[0; 1000]).unwrap();
            let used = (journal.bytes() as f64 / max_bytes as f64)
                .max(journal.len() as f64 / max_records as f64);
            assert!(used <= 1.0);
            assert!(journal.evicted() == 0 || used > 0.99, "{used} at {seq}");
        }
        assert!(journal.evicted() > 1900);
        check_counters(&journal);
    }
}

#[test]
fn is_object_safe_and_can_move_to_another_thread() {
    let boxed: Box<dyn Journal> = Box::new(MemJournal::new(QUOTA));
    let joined = std::thread::spawn(move || boxed.len()).join();
    assert_eq!(joined.unwrap(), 0);
}
