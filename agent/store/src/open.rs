//! Opening the data folder: whatever is found there, the agent starts.
//!
//! Order: lock, clear what is known to stop sled, open; if that fails, once more without sled's
//! snapshot; if that fails too, or sled took a damaged file for an empty one, the engine's folder
//! is set aside as `engine.damaged-<n>`, a new one is made, and the records found in the old files
//! are put back. State cells survive all of it in their own files. On a full disk the agent starts
//! with state and bundles, and the outbox opens once there is room. Only a lock held by another
//! process and a read-only folder are errors. A power cut during any step leaves a
//! folder on which the same steps work again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::{ENGINE_DIR, close_engine, engine_call, flush_engine, open_engine, sync_folder};
use crate::envelope::seal_record;
use crate::part;
use crate::salvage;
use crate::{Journal as _, OpenReport, OutboxQuota, Result, SledMedium, Store, StoreError};

/// The journal on disk.
pub type SledJournal = Store<SledMedium>;

/// How the journal on disk behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// Quota of the outbox.
    pub quota: OutboxQuota,
    /// Free bytes that records, chunks and bundle files must leave for state cells.
    pub min_free_bytes: u64,
    /// Page cache of the engine in bytes.
    pub cache_bytes: u64,
    /// How often the engine flushes by itself, in milliseconds.
    pub flush_every_ms: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            quota: OutboxQuota::default(),
            min_free_bytes: 16 << 20,
            cache_bytes: 4 << 20,
            flush_every_ms: 500,
        }
    }
}

/// A lock of this very process may outlive its journal for a moment: a child that was just forked
/// holds copies of all files until it executes its program. So a lock is tried for a second.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Held by the process that uses the folder.
const LOCK_FILE: &str = "LOCK";
/// Says that the engine was made once: an engine without [`MADE_KEY`] has then lost its content.
const MADE_FILE: &str = "MADE";
const MADE_KEY: &[u8] = b"m/made";
/// How many damaged engines are kept for inspection; older ones are removed.
const DAMAGED_KEPT: usize = 2;

impl SledJournal {
    /// Opens or makes the data folder at `path`.
    pub fn open(path: &Path, options: SledOptions) -> Result<(Self, OpenReport)> {
        fs::create_dir_all(path)
            .map_err(|source| StoreError::from_io("make the data folder", path, source))?;
        let lock = take_lock(path)?;
        let folder = Folder::new(path, &options);
        let fresh = !folder.was_made();
        let (engine, opened) = match folder.open() {
            Ok(opened) => (Ok(opened.engine.clone()), Some(opened)),
            Err(error @ StoreError::Full { .. }) => (Err(reason_of(&error)), None),
            Err(error) => return Err(error),
        };

        let medium = SledMedium::new(path.to_owned(), options.clone(), engine, lock);
        let (store, mut report) = Store::start(medium, options.quota, options.min_free_bytes)?;
        report.fresh = fresh;
        if let Some(opened) = opened {
            store.note(|salvage| salvage.recovered_records = opened.recovered_records);
            report.salvage = store.salvage();
            report.rebuilt_index = opened.rebuilt_index;
            (report.set_aside, report.reason) = opened.damaged.unzip();
        }
        Ok((store, report))
    }
}

fn take_lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK_FILE);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| StoreError::from_io("open", &path, source))?;
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::from_io("lock", &path, source));
            }
        }
    }
    Err(StoreError::Locked {
        path: root.to_owned(),
    })
}

/// An engine that works, and how it came to.
pub(crate) struct Opened {
    pub(crate) engine: sled::Db,
    rebuilt_index: bool,
    /// Where a damaged engine went and why.
    damaged: Option<(PathBuf, String)>,
    pub(crate) recovered_records: u64,
}

/// A data folder whose lock is held.
pub(crate) struct Folder<'a> {
    root: &'a Path,
    options: &'a SledOptions,
}

impl<'a> Folder<'a> {
    pub(crate) fn new(root: &'a Path, options: &'a SledOptions) -> Self {
        Self { root, options }
    }

    fn was_made(&self) -> bool {
        self.root.join(MADE_FILE).exists()
    }

    /// Opens the engine or replaces it.
    pub(crate) fn open(&self) -> Result<Opened> {
        // A snapshot that was being written at a power cut stops sled 0.34 for ever (its issue
        // 1527); it was never renamed, so nothing refers to it.
        self.each_engine_file(
            |name| name.starts_with("snap.") && name.ends_with(".generating"),
            fs::remove_file,
        );
        let made = self.was_made();
        let mut damaged = None;
        let (engine, rebuilt_index) = match self.open_any() {
            Ok((engine, rebuilt)) if !made || is_made(&engine) => (engine, rebuilt),
            Ok((engine, _)) => {
                if !close_engine(engine) {
                    return Err(StoreError::Stuck);
                }
                let reason = "the engine opened its damaged files as empty".to_owned();
                (self.replace(&mut damaged, reason)?, false)
            }
            Err(
                error @ (StoreError::Locked { .. }
                | StoreError::ReadOnly { .. }
                | StoreError::Full { .. }),
            ) => return Err(error),
            Err(error) => (self.replace(&mut damaged, reason_of(&error))?, false),
        };
        self.mark_made(&engine)?;
        let recovered_records = match &damaged {
            // A disk too full to take them back still leaves them in the folder set aside.
            Some((aside, _)) => self.recover(&engine, aside).unwrap_or(0),
            None => 0,
        };
        Ok(Opened {
            engine,
            rebuilt_index,
            damaged,
            recovered_records,
        })
    }

    /// Opens the engine as it is, or else without its snapshot; true in the second case.
    fn open_any(&self) -> Result<(sled::Db, bool)> {
        let error = match self.open_patiently() {
            Ok(engine) => return Ok((engine, false)),
            Err(StoreError::Full { .. }) => {
                // Staged chunks can be fetched again and damaged engines were reported.
                self.remove_damaged(0);
                let _ = fs::remove_dir_all(self.root.join("chunks"));
                return self.open_patiently().map(|engine| (engine, false));
            }
            Err(error @ (StoreError::Locked { .. } | StoreError::ReadOnly { .. })) => {
                return Err(error);
            }
            Err(error) => error,
        };
        // The snapshot only shortens the replay of the log.
        let hidden = |path: &Path| path.with_file_name(format!("hidden-{}", file_name(path)));
        self.each_engine_file(
            |name| name.starts_with("snap."),
            |path| fs::rename(&path, hidden(&path)),
        );
        let Ok(engine) = self.open_patiently() else {
            return Err(error);
        };
        self.each_engine_file(|name| name.starts_with("hidden-"), fs::remove_file);
        Ok((engine, true))
    }

    /// Opens the engine; an earlier one of this process may hold its files for a moment.
    fn open_patiently(&self) -> Result<sled::Db> {
        for _ in 0..LOCK_TRIES {
            match open_engine(self.root, self.options) {
                Err(StoreError::Io { source, .. }) if is_lock_error(&source) => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                other => return other,
            }
        }
        Err(StoreError::Locked {
            path: self.root.to_owned(),
        })
    }

    /// Sets the engine aside and makes a new one.
    fn replace(&self, damaged: &mut Option<(PathBuf, String)>, reason: String) -> Result<sled::Db> {
        self.remove_damaged(DAMAGED_KEPT - 1);
        let number = self
            .damaged_folders()
            .last()
            .map_or(0, |(number, _)| *number)
            + 1;
        let aside = self.root.join(format!("{ENGINE_DIR}.damaged-{number}"));
        fs::rename(self.root.join(ENGINE_DIR), &aside)
            .map_err(|source| StoreError::from_io("set aside as", &aside, source))?;
        sync_folder(self.root)?;
        *damaged = Some((aside, reason));
        self.open_patiently()
    }

    /// Puts the records found in a damaged engine's files into the new engine.
    fn recover(&self, engine: &sled::Db, aside: &Path) -> Result<u64> {
        let found = salvage::records(aside, &self.options.quota);
        let count = found.len() as u64;
        engine_call("recover records", aside, || {
            for (key, payload) in found {
                let mut changes = part::Changes::default();
                let sealed = seal_record(key, &payload);
                part::put(&mut changes, &key.storage_key(), &sealed, None);
                changes.apply(engine)?;
            }
            flush_engine(self.root, engine)
        })?;
        Ok(count)
    }

    /// Damaged engines, oldest first.
    fn damaged_folders(&self) -> Vec<(u64, PathBuf)> {
        let prefix = format!("{ENGINE_DIR}.damaged-");
        let entries = fs::read_dir(self.root).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let number = file_name(&entry.path())
                    .strip_prefix(&prefix)?
                    .parse()
                    .ok()?;
                Some((number, entry.path()))
            })
            .collect();
        found.sort_unstable();
        found
    }

    fn remove_damaged(&self, keep: usize) {
        let mut found = self.damaged_folders();
        found.truncate(found.len().saturating_sub(keep));
        for (_, path) in found {
            let _ = fs::remove_dir_all(path);
        }
    }

    /// Marks the engine inside and outside, in this order: a cut between leaves a fresh one.
    fn mark_made(&self, engine: &sled::Db) -> Result<()> {
        let io = |source| StoreError::from_io("mark", &self.root.join(MADE_FILE), source);
        if !is_made(engine) {
            engine_call("mark", self.root, || {
                engine.insert(MADE_KEY, b"1")?;
                flush_engine(self.root, engine)
            })?;
        }
        if !self.was_made() {
            let mut file = File::create(self.root.join(MADE_FILE)).map_err(io)?;
            file.write_all(b"1\n")
                .and_then(|()| file.sync_all())
                .map_err(io)?;
            sync_folder(self.root)?;
        }
        Ok(())
    }

    /// Does something to some files of the engine, as far as it succeeds.
    fn each_engine_file(
        &self,
        wanted: impl Fn(&str) -> bool,
        act: impl Fn(PathBuf) -> std::io::Result<()>,
    ) {
        let entries = fs::read_dir(self.root.join(ENGINE_DIR));
        for entry in entries.into_iter().flatten().flatten() {
            if wanted(&file_name(&entry.path())) {
                let _ = act(entry.path());
            }
        }
    }
}

fn is_made(engine: &sled::Db) -> bool {
    matches!(engine.get(MADE_KEY), Ok(Some(_)))
}

/// sled gives a held lock as an error of no particular kind.
fn is_lock_error(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Other
        && error.to_string().starts_with("could not acquire lock")
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The message with its causes, for a report.
fn reason_of(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
