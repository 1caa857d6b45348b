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
