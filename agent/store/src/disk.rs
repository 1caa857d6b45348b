//! The medium on a real disk: sled for keys and values, plain files beside it.
//!
//! sled 0.34 may panic on damage and poisons itself for good after one failed write. So every call
//! goes through `run`, which turns a panic into an error and marks the engine as failed; the next
//! change closes and reopens it. What was not flushed before the failure may then be gone, exactly
//! as after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::medium::{Healed, Visit};
use crate::open::Folder;
use crate::part;
use crate::{KvOp, Medium, Result, SledOptions, StoreError};

/// Folder of the engine inside the data folder.
pub(crate) const ENGINE_DIR: &str = "engine";
/// How long a failed engine may take to let go of its files.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Free bytes below which a closed engine is not tried again: two of its segments.
const REOPEN_BYTES: u64 = 1 << 20;

/// See the module. Made by [`crate::SledJournal::open`].
#[derive(Debug)]
pub struct SledMedium {
    root: PathBuf,
    options: SledOptions,
    /// None while it cannot be opened.
    engine: Option<sled::Db>,
    /// Why the engine is closed.
    closed: String,
    /// It did not close either, so its files stay locked until this process ends.
    stuck: bool,
    /// The engine must be reopened before the next change.
    failed: AtomicBool,
    /// Held for the life of the medium; the system releases it when the process dies.
    _lock: File,
}

impl SledMedium {
    /// Takes over an opened engine, or the reason why there is none yet.
    pub(crate) fn new(
        root: PathBuf,
        options: SledOptions,
        engine: std::result::Result<sled::Db, String>,
        lock: File,
    ) -> Self {
        let (engine, closed) = match engine {
            Ok(engine) => (Some(engine), String::new()),
            Err(closed) => (None, closed),
        };
        Self {
            root,
            options,
            failed: AtomicBool::new(engine.is_none()),
            engine,
            closed,
            stuck: false,
            _lock: lock,
        }
    }

    fn run<T>(
        &self,
        doing: &'static str,
        call: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T> {
        let Some(engine) = &self.engine else {
            return Err(StoreError::Closed {
                reason: self.closed.clone(),
            });
        };
        let result = engine_call(doing, &self.root.join(ENGINE_DIR), || call(engine));
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }
}

/// Opens the engine in `root`, whatever state its files are in.
pub(crate) fn open_engine(root: &Path, options: &SledOptions) -> Result<sled::Db> {
    let path = root.join(ENGINE_DIR);
    let config = sled::Config::new()
        .path(&path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(options.flush_every_ms))
        .use_compression(false);
    engine_call("open", &path, || config.open())
}

/// Makes all changes so far durable.
///
/// On Linux sled 0.34 flushes with `sync_file_range`, which leaves out the size of a file that grew
/// and the disk's own cache. Both need a sync of the file.
pub(crate) fn flush_engine(root: &Path, engine: &sled::Db) -> sled::Result<()> {
    engine.flush()?;
    File::open(root.join(ENGINE_DIR).join("db"))?.sync_data()?;
    Ok(())
}

/// Closes an engine; false if it does not come to an end.
pub(crate) fn close_engine(engine: sled::Db) -> bool {
    let (done, closed) = mpsc::channel();
    let closing = std::thread::Builder::new().name("store-close".to_owned());
    let spawned = closing.spawn(move || {
        // sled waits here for its own thread, for ever if that one panicked.
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(engine))).is_err();
        let _ = done.send(panicked);
    });
    spawned.is_ok() && closed.recv_timeout(CLOSE_TIMEOUT).is_ok()
}

/// Runs a call of the engine and sorts its errors and panics.
pub(crate) fn engine_call<T>(
    doing: &'static str,
    path: &Path,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(source))) => Err(StoreError::from_io(doing, path, source)),
        Ok(Err(error)) => Err(StoreError::Engine {
            what: doing,
            detail: error.to_string(),
        }),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panic without a message");
            Err(StoreError::Engine {
                what: doing,
                detail: format!("panic: {text}"),
            })
        }
    }
}

impl Medium for SledMedium {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run("read", |engine| part::get(engine, key))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        self.run("scan", |engine| part::scan(engine, from, to, visit))
    }

    fn apply(&mut self, ops: Vec<KvOp>) -> Result<()> {
        self.run("write", |engine| {
            let mut changes = part::Changes::default();
            for op in &ops {
                match op {
                    KvOp::Put(key, value) => {
                        let old = engine.get(key)?;
                        part::put(&mut changes, key, value, old.as_deref());
                    }
                    KvOp::Delete(key) => {
                        if let Some(old) = engine.get(key)? {
                            part::delete(&mut changes, key, &old);
                        }
                    }
                }
            }
            changes.apply(engine)
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.run("flush", |engine| flush_engine(&self.root, engine))
    }

    fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(path);
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            File::create(&path)?.write_all(bytes)
        };
        write().map_err(|source| StoreError::from_io("write", &path, source))
    }

    fn sync_file(&mut self, path: &str) -> Result<()> {
        let path = self.path(path);
        let open = OpenOptions::new().write(true).open(&path);
        open.and_then(|file| file.sync_all())
            .map_err(|source| StoreError::from_io("sync", &path, source))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let to = self.path(to);
        fs::rename(self.path(from), &to)
            .map_err(|source| StoreError::from_io("rename to", &to, source))
    }

    fn sync_dir(&mut self, path: &str) -> Result<()> {
        let mut dir = self.path(path);
        // Every folder up to the root, because any of them may be new.
        loop {
            sync_folder(&dir)?;
            if dir == self.root || !dir.pop() {
                return Ok(());
            }
        }
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let path = self.path(path);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::from_io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(path);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::from_io("read", &path, error)),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<(String, u64)>> {
        let path = self.path(path);
        let read = || -> io::Result<Vec<(String, u64)>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if let Ok(name) = entry.file_name().into_string() {
                    found.push((name, entry.metadata()?.len()));
                }
            }
            found.sort_unstable();
            Ok(found)
        };
        match read() {
            Ok(found) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(StoreError::from_io("list", &path, error)),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        fs2::available_space(&self.root).ok()
    }

    fn heal(&mut self) -> Result<Option<Healed>> {
        if !self.failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(engine) = self.engine.take() {
            self.closed = "the storage engine failed".to_owned();
            self.stuck = !close_engine(engine);
        }
        if self.stuck {
            return Err(StoreError::Stuck);
        }
        let free = self.free_bytes().unwrap_or(u64::MAX);
        let opened = if free < REOPEN_BYTES {
            // Replaying the log at every call only to fail at its end would be no help.
            Err(StoreError::Full {
                what: format!("reopening {}: {free} bytes are free", self.root.display()),
            })
        } else {
            Folder::new(&self.root, &self.options).open()
        };
        let opened = opened.inspect_err(|error| self.closed = error.to_string())?;
        self.engine = Some(opened.engine);
        self.failed.store(false, Ordering::Relaxed);
        Ok(Some(Healed {
            recovered_records: opened.recovered_records,
        }))
    }
}

impl Drop for SledMedium {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            // An engine that hangs here is left to the end of the process.
            close_engine(engine);
        }
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StoreError::from_io("sync", path, source))
}
