//! Files of this command. Writing is a temporary file in the same folder, its data forced
//! to the disk, then a rename: after a power cut there is the old file or the new one,
//! never a part, and at worst a stray temporary file whose name begins with `.tmp`.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::{CliError, Result};

/// Reads a file of at most `limit` bytes; `what` names it for people, as in `a bundle`.
pub(crate) fn read(path: &Path, limit: u64, what: &'static str) -> Result<Vec<u8>> {
    let failed = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(CliError::TooLarge {
            path: path.to_owned(),
            limit,
            what,
        });
    }
    Ok(bytes)
}

/// Writes a file over what was there; who may read it, the process's umask says.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| CliError::Write {
        path: path.to_owned(),
        source,
    };
    let file = temporary(path, bytes, 0o666).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    sync_folder(path).map_err(failed)
}

/// Writes a file over what was there, which only its owner may read.
pub(crate) fn replace_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| CliError::Write {
        path: path.to_owned(),
        source,
    };
    let file = temporary(path, bytes, 0o600).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    sync_folder(path).map_err(failed)
}

/// Writes a file that does not exist yet; with `secret`, only its owner may read it.
pub(crate) fn create(path: &Path, bytes: &[u8], secret: bool) -> Result<()> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => CliError::Exists {
            path: path.to_owned(),
        },
        _ => CliError::Write {
            path: path.to_owned(),
            source,
        },
    };
    let mode = if secret { 0o600 } else { 0o666 };
    let file = temporary(path, bytes, mode).map_err(failed)?;
    file.persist_noclobber(path).map_err(|e| failed(e.error))?;
    sync_folder(path).map_err(failed)
}

fn temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let mut file = Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Without this the rename itself may be lost in a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// The folder that a path lies in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_or_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        create(&path, b"one", true).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = create(&path, b"two", true).unwrap_err();
        assert!(matches!(error, CliError::Exists { .. }), "{error}");
        assert_eq!(read(&path, 3, "a test").unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(read(&path, 5, "a test").unwrap(), b"three");
        assert!(read(&path, 4, "a test").is_err());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "stray files");
    }
}
