//! Prints what sled costs here: time of a flush, memory, and bytes on disk per byte stored.
//!
//! `cargo run -p drover-agent-store --example measure [FOLDER]`. FOLDER should be on the
//! disk of interest; the default is a temporary one. Each cache size runs in a process of its own,
//! because memory that one run took would be counted again in the next. Nothing is asserted.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use drover_agent_store::{Journal, OutboxQuota, SledJournal, SledOptions};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const RECORD: usize = 1000;
const OUTBOX: u64 = 16 << 20;
const CHUNK: usize = 128 << 10;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    match (args.next(), args.next()) {
        (Some(folder), Some(cache)) => measure(Path::new(&folder), cache.parse()?),
        (folder, _) => {
            let scratch = match folder {
                Some(folder) => tempfile::tempdir_in(folder)?,
                None => tempfile::tempdir()?,
            };
            for cache_mib in ["1", "4", "32"] {
                let run = scratch.path().join(cache_mib);
                let status = Command::new(std::env::current_exe()?)
                    .arg(&run)
                    .arg(cache_mib)
                    .status()?;
                if !status.success() {
                    return Err(format!("cache of {cache_mib} MiB: {status}").into());
                }
            }
            chunks_in_sled(&scratch.path().join("chunks"))
        }
    }
}

fn measure(folder: &Path, cache_mib: u64) -> Outcome<()> {
    println!("cache of {cache_mib} MiB, records of {RECORD} bytes, outbox of 16 MiB");
    let options = SledOptions {
        cache_bytes: cache_mib << 20,
        quota: OutboxQuota {
            max_bytes: OUTBOX,
            max_records: u64::MAX,
        },
        ..SledOptions::default()
    };
    let before = resident_kib();
    let (mut journal, _) = SledJournal::open(folder, options.clone())?;
    println!(
        "  memory to open an empty one: {} KiB",
        resident_kib() - before
    );

    let record = vec![0xA7; RECORD];
    let mut seq = 0;
    let mut append = |journal: &mut SledJournal| {
        seq += 1;
        journal.append(1, seq, &record)
    };
    print_times("append + flush", 300, || {
        append(&mut journal)?;
        Ok(journal.flush()?)
    })?;
    print_times("save_state of 200 bytes", 300, || {
        Ok(journal.save_state("ota", &record[..200])?)
    })?;

    while journal.evicted() == 0 {
        append(&mut journal)?;
    }
    journal.flush()?;
    let stored = journal.bytes();
    println!(
        "  disk per payload, outbox just full: {:.2}",
        ratio(folder, stored)?
    );
    // Ten times the quota passes through, half by acknowledgement and half by eviction.
    for _ in 0..10 * OUTBOX / RECORD as u64 {
        append(&mut journal)?;
        if journal.len().is_multiple_of(400)
            && let Some((oldest, _)) = journal.oldest(1, 0, None)?.first()
        {
            journal.remove_range(oldest.boot, oldest.seq..=oldest.seq + 199)?;
        }
    }
    journal.flush()?;
    let stored = journal.bytes();
    println!(
        "  disk per payload, after ten times the quota: {:.2}",
        ratio(folder, stored)?
    );
    println!(
        "  memory with the outbox full: {} KiB",
        resident_kib() - before
    );

    let start = Instant::now();
    drop(journal);
    println!("  close: {:.0} ms", millis(start.elapsed()));
    let start = Instant::now();
    let (journal, report) = SledJournal::open(folder, options)?;
    println!(
        "  open with {} records, every checksum read: {:.0} ms",
        report.records,
        millis(start.elapsed())
    );
    drop(journal);
    Ok(())
}

/// Why chunks are files: the same chunks as values of the engine.
fn chunks_in_sled(folder: &Path) -> Outcome<()> {
    let engine = sled::Config::new()
        .path(folder)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(4 << 20)
        .open()?;
    let start = Instant::now();
    let chunks = 80_u32;
    for index in 0..chunks {
        engine.insert(index.to_be_bytes(), vec![index as u8; CHUNK])?;
        engine.flush()?;
    }
    let stored = u64::from(chunks) * CHUNK as u64;
    println!("{chunks} chunks of 128 KiB as values of sled, flushed each");
    println!(
        "  {:.0} ms, disk per payload: {:.2}",
        millis(start.elapsed()),
        ratio(folder, stored)?
    );
    Ok(())
}

fn print_times(what: &str, count: usize, mut call: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| millis(times[(count - 1) * share / 100]);
    println!("  {what}: p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Bytes on disk per byte of payload.
fn ratio(folder: &Path, payload: u64) -> Outcome<f64> {
    Ok(disk_bytes(folder)? as f64 / payload as f64)
}

fn disk_bytes(folder: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        bytes += if found.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            // Allocated blocks: holes in a file cost nothing.
            found.blocks() * 512
        };
    }
    Ok(bytes)
}

/// Resident memory of this process in KiB; 0 where the system does not tell.
fn resident_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
