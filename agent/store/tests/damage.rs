//! The data folder is damaged, locked, read-only or full; the agent starts, or is told why not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use drover_agent_store::{
    Class, Journal, OpenReport, OutboxQuota, RecordKey, SledJournal, SledOptions, StoreError,
};

const BUNDLE: [u8; 32] = [9; 32];
const RECORDS: u64 = 200;

fn options() -> SledOptions {
    SledOptions {
        min_free_bytes: 0,
        ..SledOptions::default()
    }
}

fn open(folder: &Path) -> (SledJournal, OpenReport) {
    SledJournal::open(folder, options()).unwrap()
}

fn payload(seq: u64) -> Vec<u8> {
    format!("record {seq} ").repeat(40).into_bytes()
}

/// A folder with records, state, a bundle and two boots, cleanly closed.
fn lived_in() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for round in 0..2 {
        let (mut journal, report) = open(&data);
        assert_eq!(report.fresh, round == 0);
        let boot = journal.begin_boot().unwrap();
        for seq in 0..RECORDS / 2 {
            let seq = round * RECORDS / 2 + seq;
            journal.append(boot, seq, &payload(seq)).unwrap();
        }
        journal.save_state("ota", b"committed").unwrap();
        journal.put_file(&BUNDLE, "model", b"weights").unwrap();
        journal.put_chunk(&BUNDLE, 1, b"chunk").unwrap();
    }
    (folder, data)
}

/// What must hold whatever happened to the engine; gives the number of records.
fn check_survivors(data: &Path) -> (u64, OpenReport) {
    let (mut journal, report) = open(data);
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"committed");
    assert!(
        journal.begin_boot().unwrap() >= 3,
        "a boot number was reused"
    );
    let model = journal.open_file(&BUNDLE, "model").unwrap();
    assert_eq!(model.as_deref(), Some(&b"weights"[..]));
    let records = journal.oldest(usize::MAX, u64::MAX, None).unwrap();
    for (key, bytes) in &records {
        assert_eq!(*bytes, payload(key.seq), "{key:?}");
    }
    assert_eq!(journal.len(), records.len() as u64);
    assert_eq!(report.records, journal.len());
    journal.append(1000, 0, &payload(0)).unwrap();
    journal.flush().unwrap();
    let count = records.len() as u64;
    drop(journal);
    let (journal, report) = open(data);
    assert_eq!(journal.len(), count + 1);
    assert_eq!(report.set_aside, None, "the second start is clean");
    (count, report)
}

fn engine_file(data: &Path, prefix: &str) -> PathBuf {
    let found = fs::read_dir(data.join("engine")).unwrap();
    let mut found = found.map(|entry| entry.unwrap().path());
    found
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(prefix)
        })
        .unwrap()
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn no_page_leaves_the_log_for_a_file_that_is_never_synced() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut journal, _) = open(&data);
    for seq in 0..400_u64 {
        let len = usize::try_from(seq * 7919 % 40_000).unwrap();
        journal.append(1, seq, &vec![seq as u8; len]).unwrap();
        if seq % 50 == 0 {
            journal.append(1, 1000 + seq, &vec![1; 1 << 20]).unwrap();
            journal.save_state("ota", &vec![2; 200_000]).unwrap();
            journal.remove_range(1, seq..=seq + 9).unwrap();
            journal.flush().unwrap();
        }
    }
    let before = (journal.len(), journal.bytes());
    drop(journal);
    let (journal, _) = open(&data);
    assert_eq!((journal.len(), journal.bytes()), before);
    let largest = journal
        .oldest(1, 1, Some(RecordKey { boot: 1, seq: 999 }))
        .unwrap();
    assert_eq!(largest[0].1, vec![1; 1 << 20]);
    let blobs = fs::read_dir(data.join("engine/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "pages over 128 KiB are not durable in sled 0.34");
}

#[test]
fn a_half_written_snapshot_does_not_stop_the_start() {
    let (_folder, data) = lived_in();
    fs::write(
        data.join("engine/snap.FFFFFFFFFFFFFFF0.generating"),
        b"half",
    )
    .unwrap();
    let (count, _) = check_survivors(&data);
    assert_eq!(count, RECORDS);
}

#[test]
fn a_damaged_snapshot_is_rebuilt_from_the_log() {
    let (_folder, data) = lived_in();
    overwrite(&engine_file(&data, "snap."), |bytes| bytes.truncate(20));
    let (journal, report) = open(&data);
    assert!(report.rebuilt_index, "{report:?}");
    assert_eq!(report.set_aside, None);
    assert_eq!(journal.len(), RECORDS);
    drop(journal);
    check_survivors(&data);
}

#[test]
fn a_lost_engine_configuration_is_survived() {
    let (_folder, data) = lived_in();
    overwrite(&data.join("engine/conf"), |bytes| bytes.fill(0x55));
    let (count, _) = check_survivors(&data);
    assert_eq!(count, RECORDS);
}

#[test]
fn a_truncated_log_keeps_what_is_left() {
    for keep in [0, 1, 100, 4096, 70_000] {
        let (_folder, data) = lived_in();
        overwrite(&data.join("engine/db"), |bytes| bytes.truncate(keep));
        let (count, _) = check_survivors(&data);
        assert!(keep < 70_000 || count > 0, "nothing left of {keep} bytes");
    }
}

#[test]
fn noise_anywhere_in_the_log_never_stops_the_start() {
    let (_folder, pristine) = lived_in();
    let len = fs::metadata(pristine.join("engine/db")).unwrap().len();
    let mut seen = Vec::new();
    for part in 0..12 {
        let (_folder, data) = lived_in();
        overwrite(&data.join("engine/db"), |bytes| {
            let at = usize::try_from(len * part / 12).unwrap();
            let end = (at + 3000).min(bytes.len());
            for (index, byte) in bytes[at..end].iter_mut().enumerate() {
                *byte ^= (index % 251) as u8 + 1;
            }
        });
        let (journal, report) = open(&data);
        seen.push((part, journal.len(), report.set_aside.is_some()));
        if let Some(aside) = &report.set_aside {
            assert!(aside.is_dir());
            assert!(report.reason.is_some());
            assert_eq!(report.salvage.recovered_records, journal.len());
        }
        drop(journal);
        check_survivors(&data);
    }
    println!("(part, records, set aside): {seen:?}");
}

#[test]
fn damaged_engines_do_not_pile_up() {
    let (_folder, data) = lived_in();
    for _ in 0..5 {
        overwrite(&data.join("engine/db"), |bytes| bytes.fill(0xA5));
        for entry in fs::read_dir(data.join("engine")).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("snap.")
            {
                fs::remove_file(path).unwrap();
            }
        }
        let (_journal, report) = open(&data);
        assert!(report.set_aside.is_some(), "{report:?}");
    }
    let kept = fs::read_dir(&data).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with("engine.damaged-")
    });
    assert_eq!(kept.count(), 2);
    check_survivors(&data);
}

#[test]
fn a_damaged_file_is_not_returned() {
    let (_folder, data) = lived_in();
    let bundle = data.join("bundles").join("09".repeat(32));
    overwrite(&bundle.join("model"), |bytes| {
        *bytes.last_mut().unwrap() ^= 1
    });
    let chunk = data.join("chunks").join("09".repeat(32)).join("00000001");
    overwrite(&chunk, |bytes| bytes.truncate(3));
    overwrite(&data.join("state/ota"), |bytes| bytes.truncate(9));
    fs::write(bundle.join(".tmp-model"), b"left over").unwrap();

    let (journal, _) = open(&data);
    assert!(!bundle.join(".tmp-model").exists());
    for _ in 0..2 {
        assert_eq!(journal.open_file(&BUNDLE, "model").unwrap(), None);
        assert_eq!(journal.get_chunk(&BUNDLE, 1).unwrap(), None);
        assert!(journal.chunks_present(&BUNDLE).unwrap().is_empty());
        // The engine's copy is whole.
        assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"committed");
    }
    let salvage = journal.salvage();
    assert_eq!((salvage.corrupt_blobs, salvage.corrupt_states), (2, 1));
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let (_folder, data) = lived_in();
    let (first, _) = open(&data);
    let error = SledJournal::open(&data, options()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert_eq!(error.class(), Class::Fatal);
    assert!(
        error.to_string().contains("another drover-agent"),
        "{error}"
    );
    drop(first);
    let (journal, report) = open(&data);
    assert_eq!(report.set_aside, None);
    assert_eq!(journal.len(), RECORDS);
}

#[test]
fn the_reserve_is_kept_for_state() {
    let folder = tempfile::tempdir().unwrap();
    let reserved = SledOptions {
        min_free_bytes: u64::MAX / 2,
        ..SledOptions::default()
    };
    let (mut journal, _) = SledJournal::open(&folder.path().join("data"), reserved).unwrap();
    let refused = [
        journal.append(1, 1, b"record"),
        journal.put_chunk(&BUNDLE, 0, b"chunk"),
        journal.put_file(&BUNDLE, "model", b"file"),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert_eq!(error.class(), Class::Retry);
    }
    journal.save_state("ota", b"rolled back").unwrap();
    assert_eq!(journal.begin_boot().unwrap(), 1);
    assert!(journal.is_empty());
}

/// A small file system of its own, where the test may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: no right to mount a tmpfs here");
        }
        mounted.then(|| Self(folder))
    }

    fn remount(&self, option: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(self.0.path())
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_survived_and_left_again() {
    let Some(disk) = SmallDisk::mount("8m") else {
        return;
    };
    let data = disk.0.path().join("data");
    let unlimited = SledOptions {
        quota: OutboxQuota {
            max_bytes: 1 << 30,
            max_records: u64::MAX,
        },
        ..options()
    };
    let (mut journal, _) = SledJournal::open(&data, unlimited.clone()).unwrap();
    journal.save_state("ota", b"committed").unwrap();
    let mut flushed = 0;
    let error = loop {
        let result = journal
            .append(1, flushed, &[flushed as u8; 4000])
            .and_then(|()| journal.flush());
        match result {
            Ok(()) => flushed += 1,
            Err(error) => break error,
        }
        assert!(flushed < 100_000, "8 MiB never fill up");
    };
    println!("{flushed} records of 4000 bytes fit on 8 MiB, then: {error}");
    assert_eq!(error.class(), Class::Retry, "{error}");
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"committed");

    // The next calls reopen the engine or say that there is still no room; they never panic.
    for _ in 0..3 {
        println!(
            "still full: {:?}",
            journal.append(1, flushed, b"x").map(|()| journal.flush())
        );
    }
    disk.remount("size=16m");
    journal.append(1, 1 << 40, b"there is room again").unwrap();
    journal.flush().unwrap();
    drop(journal);

    let (journal, report) = SledJournal::open(&data, unlimited).unwrap();
    assert_eq!(report.set_aside, None, "{:?}", report.reason);
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"committed");
    assert!(journal.len() > flushed, "{} of {flushed}", journal.len());
}

#[test]
fn an_engine_that_failed_on_a_full_disk_is_reopened() {
    let Some(disk) = SmallDisk::mount("8m") else {
        return;
    };
    let data = disk.0.path().join("data");
    let (mut journal, _) = open(&data);
    journal.append(1, 1, &payload(1)).unwrap();
    journal.save_state("ota", b"committed").unwrap();

    let ballast = disk.0.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);

    // State is not kept back by the reserve, so this reaches the engine.
    let mut confirmed = b"committed".to_vec();
    let mut failed = false;
    for round in 0..40_u8 {
        let next = vec![round; 100_000];
        match journal.save_state("ota", &next) {
            Ok(()) => confirmed = next,
            Err(error) => {
                println!("round {round}: {error}");
                assert_eq!(error.class(), Class::Retry, "{error}");
                failed = true;
            }
        }
        let found = journal.load_state("ota");
        if let Ok(found) = found {
            assert!(
                found.as_ref() == Some(&confirmed) || failed,
                "state is lost"
            );
        }
    }
    assert!(failed, "the disk never filled up");
    let read = journal.load_state("ota").unwrap().unwrap();

    // A start on the full disk has state and bundles, and says what it lacks.
    drop(journal);
    let (mut journal, report) = open(&data);
    println!("degraded: {:?}", report.degraded);
    assert_eq!(report.set_aside, None);
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), read);
    if report.degraded.is_some() {
        let error = journal.append(1, 9, b"x").unwrap_err();
        assert_eq!(error.class(), Class::Retry, "{error}");
        let error = journal.oldest(1, 1, None).unwrap_err();
        assert_eq!(error.class(), Class::Retry, "{error}");
        assert!(
            journal.load_state("never saved").is_err(),
            "not known to be none"
        );
    }
    fs::remove_file(&ballast).unwrap();

    journal.save_state("ota", b"rolled back").unwrap();
    journal.append(1, 2, &payload(2)).unwrap();
    journal.flush().unwrap();
    assert_eq!(journal.len(), 2);
    drop(journal);
    let (journal, report) = open(&data);
    assert_eq!(report.set_aside, None, "{:?}", report.reason);
    assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"rolled back");
    assert_eq!(journal.len(), 2);
}

#[test]
fn a_read_only_folder_is_said_to_be_one() {
    let Some(disk) = SmallDisk::mount("8m") else {
        return;
    };
    let data = disk.0.path().join("data");
    drop(open(&data));
    disk.remount("ro");
    let error = SledJournal::open(&data, options()).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    assert_eq!(error.class(), Class::Fatal);
    disk.remount("rw");
    assert_eq!(open(&data).1.set_aside, None);
}
