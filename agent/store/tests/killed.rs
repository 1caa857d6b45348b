//! A process that appends and flushes is killed at random moments; whatever it reported as flushed
//! is there when the folder is opened again.
//!
//! The victim is this test binary, started again with an environment variable that names the data
//! folder. SIGKILL spares the page cache, so this proves recovery from any unclean stop of the
//! process; power cuts are the subject of `power_cut.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use drover_agent_store::{Journal, OutboxQuota, SledJournal, SledOptions};

const FOLDER_VARIABLE: &str = "DROVER_STORE_VICTIM_FOLDER";
const ROUNDS: u64 = 20;

fn open(folder: &Path) -> SledJournal {
    let options = SledOptions {
        quota: OutboxQuota {
            max_bytes: 8 << 20,
            max_records: 1_000_000,
        },
        min_free_bytes: 0,
        ..SledOptions::default()
    };
    let (journal, report) = SledJournal::open(folder, options).unwrap();
    assert_eq!(report.set_aside, None, "{:?}", report.reason);
    assert_eq!(report.salvage, Default::default());
    journal
}

/// The content of a record, so that a reader can tell it is whole.
fn payload(boot: u64, seq: u64) -> Vec<u8> {
    let len = 100 + usize::try_from(seq % 900).unwrap();
    (0..len).map(|at| (at as u64 ^ seq ^ boot) as u8).collect()
}

/// Runs in the child until it is killed; does nothing in a normal test run.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else {
        return;
    };
    let mut journal = open(Path::new(&folder));
    let boot = journal.begin_boot().unwrap();
    let mut out = std::io::stdout();
    // The harness has begun a line of its own.
    writeln!(out, "\nboot {boot}").unwrap();
    for seq in 0.. {
        journal.append(boot, seq, &payload(boot, seq)).unwrap();
        if seq % 3 == 2 {
            journal.flush().unwrap();
            writeln!(out, "flushed {seq}").unwrap();
        }
        if seq % 50 == 49 {
            journal.save_state("progress", &seq.to_le_bytes()).unwrap();
            writeln!(out, "saved {seq}").unwrap();
            journal.remove_range(boot, 0..=seq / 2).unwrap();
        }
    }
}

#[derive(Debug, Default)]
struct Reported {
    boot: u64,
    flushed: Option<u64>,
    saved: Option<u64>,
}

/// Starts a victim, kills it after a number of reports, and gives all it reported.
fn kill_after(folder: &Path, reports: usize) -> Reported {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
        .env(FOLDER_VARIABLE, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut reported = Reported::default();
    let mut seen = 0;
    let mut killed = false;
    // Reads on after the kill: what had been reported by then counts too.
    for line in &mut lines {
        let line = line.unwrap();
        let mut words = line.split_ascii_whitespace();
        let (word, number) = (words.next(), words.next());
        let number = number.and_then(|number| number.parse().ok());
        match (word, number) {
            (Some("boot"), Some(boot)) => reported.boot = boot,
            (Some("flushed"), seq @ Some(_)) => reported.flushed = seq,
            (Some("saved"), seq @ Some(_)) => reported.saved = seq,
            _ => continue,
        }
        seen += 1;
        if seen >= reports && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(
        killed && !status.success(),
        "the victim ended by itself: {reported:?}"
    );
    reported
}

#[test]
fn what_was_reported_before_sigkill_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // A fixed sequence of uneven numbers; the scheduler adds the randomness.
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut boots = 0;
    for round in 0..ROUNDS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let reported = kill_after(&data, 1 + usize::try_from(state >> 33).unwrap() % 120);
        boots += 1;
        assert_eq!(reported.boot, boots, "round {round}");

        let journal = open(&data);
        let records = journal.oldest(usize::MAX, u64::MAX, None).unwrap();
        for (key, bytes) in &records {
            assert_eq!(*bytes, payload(key.boot, key.seq), "{key:?} is not whole");
        }
        let here: std::collections::BTreeSet<u64> = records
            .iter()
            .filter(|(key, _)| key.boot == reported.boot)
            .map(|(key, _)| key.seq)
            .collect();
        let progress = journal.load_state("progress").unwrap();
        let progress = progress.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        if let Some(saved) = reported.saved {
            assert!(
                progress >= saved,
                "round {round}: state {progress} < {saved}"
            );
        }
        // Only what a removal may have taken is missing: half of the newest multiple of 50, which
        // may be one step ahead of the last report.
        let removed = match reported.flushed.max(reported.saved) {
            Some(seq) => (seq + 50) / 50 * 50 / 2,
            None => 0,
        };
        for seq in removed..=reported.flushed.unwrap_or(0) {
            let expected = reported.flushed.is_some();
            assert!(
                !expected || here.contains(&seq),
                "round {round}: {seq} is gone: {reported:?}"
            );
        }
        assert!(journal.len() == records.len() as u64);
    }
}
