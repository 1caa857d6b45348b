//! The server's data folder: its lock, the operator's token and the published bundles.
//!
//! Files appear only whole: they are written beside their place, flushed, and renamed; a power
//! cut leaves the old state or the new one, and at most a `.tmp` file that the next start
//! removes. The database's own file is the store's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::io_hint;
use crate::{ServerError, random};

/// The folder, locked for this process as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is not there, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, ServerError> {
        let bundles = path.join("bundles");
        std::fs::create_dir_all(&bundles).map_err(|e| failed(path, e))?;
        let owner_only = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, owner_only).map_err(|e| failed(path, e))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| failed(&lock_path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ServerError::Locked { path: path.into() });
            }
            Err(TryLockError::Error(e)) => return Err(failed(&lock_path, e)),
        }
        let dir = Self {
            path: path.to_path_buf(),
            _lock: lock,
        };
        dir.probe()?;
        dir.sweep(&bundles)?;
        Ok(dir)
    }

    /// Where the database lies.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("drover.sqlite")
    }

    /// The operator's token, made on the first start.
    pub(crate) fn operator_token(&self) -> Result<String, ServerError> {
        let path = self.path.join("operator.token");
        match std::fs::read_to_string(&path) {
            Ok(token) if token.trim().len() >= 32 => return Ok(token.trim().to_owned()),
            Ok(_) => {
                return Err(ServerError::Stored {
                    what: "operator token",
                });
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&path, e)),
        }
        let token = random::secret()?;
        self.write(&path, format!("{token}\n").as_bytes())?;
        Ok(token)
    }

    /// The authority over certificates: its key and its own certificate in one file, so that a
    /// power cut leaves both or none. `make` gives them on the first start.
    pub(crate) fn authority(
        &self,
        make: impl FnOnce() -> Result<String, ServerError>,
    ) -> Result<String, ServerError> {
        let path = self.path.join("authority.pem");
        match std::fs::read_to_string(&path) {
            Ok(pem) => return Ok(pem),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&path, e)),
        }
        let pem = make()?;
        self.write(&path, pem.as_bytes())?;
        Ok(pem)
    }

    /// Writes a file for others to read, `ca.pem` or `crl.pem`, unless it holds that already;
    /// gives its path.
    pub(crate) fn publish(&self, name: &str, content: &str) -> Result<PathBuf, ServerError> {
        let path = self.path.join(name);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(content) {
            self.write(&path, content.as_bytes())?;
        }
        Ok(path)
    }

    /// The encoded roots, in the order of their versions.
    pub(crate) fn roots(&self) -> Result<Vec<Vec<u8>>, ServerError> {
        let dir = self.path.join("roots");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(&dir, e)),
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|n| n.strip_suffix(".root"));
            if let Some(version) = version.and_then(|v| v.parse::<u64>().ok()) {
                let path = entry.path();
                found.push((version, std::fs::read(&path).map_err(|e| failed(&path, e))?));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, bytes)| bytes).collect())
    }

    /// Stores a version of the root.
    pub(crate) fn store_root(&self, version: u64, bytes: &[u8]) -> Result<(), ServerError> {
        let dir = self.path.join("roots");
        std::fs::create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
        self.write(&dir.join(format!("{version}.root")), bytes)
    }

    /// The key of a confidential bundle's content; none for other bundles.
    pub(crate) fn content_key(&self, digest: &[u8; 32]) -> Result<Option<[u8; 32]>, ServerError> {
        let path = self.bundle(digest).with_extension("key");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let stored = ServerError::Stored {
                    what: "content key",
                };
                Ok(Some(bytes.try_into().map_err(|_| stored)?))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&path, e)),
        }
    }

    /// Stores the key of a confidential bundle's content.
    pub(crate) fn store_content_key(
        &self,
        digest: &[u8; 32],
        key: &[u8; 32],
    ) -> Result<(), ServerError> {
        self.write(&self.bundle(digest).with_extension("key"), key)
    }

    /// Where the container of a bundle lies.
    pub(crate) fn bundle(&self, digest: &[u8; 32]) -> PathBuf {
        let name = data_encoding::HEXLOWER.encode(digest);
        self.path.join("bundles").join(format!("{name}.drover"))
    }

    /// Stores the container of a bundle.
    pub(crate) fn store_bundle(&self, digest: &[u8; 32], bytes: &[u8]) -> Result<(), ServerError> {
        self.write(&self.bundle(digest), bytes)
    }

    /// Part of a bundle's container.
    pub(crate) fn read_bundle(
        &self,
        digest: &[u8; 32],
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, ServerError> {
        let path = self.bundle(digest);
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; len];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|e| failed(&path, e))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ServerError> {
        let temporary = path.with_extension("tmp");
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
            File::open(path.parent().unwrap_or(&self.path))?.sync_all()
        };
        write().map_err(|e| {
            // The half-written file must not take the space that may be missing.
            let _ = std::fs::remove_file(&temporary);
            failed(path, e)
        })
    }

    /// Finds out now, not at the first acknowledgement, whether the folder takes data.
    fn probe(&self) -> Result<(), ServerError> {
        let path = self.path.join("probe");
        self.write(&path, &[0; 4096])?;
        std::fs::remove_file(&path).map_err(|e| failed(&path, e))
    }

    fn sweep(&self, bundles: &Path) -> Result<(), ServerError> {
        let entries = std::fs::read_dir(bundles).map_err(|e| failed(bundles, e))?;
        for entry in entries.flatten() {
            if entry.path().extension().is_some_and(|e| e == "tmp") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// Writes a file outside the folder that another program reads, whole.
pub(crate) fn write_for_others(path: &Path, bytes: &[u8]) -> Result<(), ServerError> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| failed(path, e))
}

fn failed(path: &Path, source: std::io::Error) -> ServerError {
    ServerError::DataDir {
        path: path.to_path_buf(),
        hint: io_hint(&source),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_never_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let second = DataDir::open(dir.path()).unwrap_err();
        assert!(second.to_string().contains("another server"), "{second}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains("not a folder"), "{error}");
    }

    #[test]
    fn the_token_is_the_owners_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let token = data.operator_token().unwrap();
        assert_eq!(data.operator_token().unwrap(), token);
        let file = std::fs::metadata(dir.path().join("operator.token")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn leftovers_of_a_power_cut_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        let left = dir.path().join("bundles/00.tmp");
        std::fs::File::create(&left).unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert!(!left.exists());
        data.store_bundle(&[1; 32], b"content").unwrap();
        assert_eq!(data.read_bundle(&[1; 32], 3, 4).unwrap(), b"tent");
    }
}
