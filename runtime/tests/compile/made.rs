//! Folders that the scripts of `scripts/models` fill, with onnxruntime as the reference.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that `script` fills, given `arguments` behind the folder's name. Where the
/// environment's `variable` names a folder, that is taken as it is. Nothing, and a message,
/// where `scripts/setup test` has not installed onnxruntime.
pub(crate) fn folder(script: &str, variable: &str, arguments: &[&Path]) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(variable) {
        return Some(folder.into());
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = repository.join("target/venv-models/bin/python");
    if !python.exists() {
        println!(
            "skipped: {} is not there (scripts/setup test installs it), and {variable} names no \
             folder",
            python.display()
        );
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(script.trim_end_matches(".py"));
    // What an older version of the script made must not be taken for this one's.
    let _ = std::fs::remove_dir_all(&folder);
    let run = Command::new(python)
        .arg(repository.join("scripts/models").join(script))
        .arg(&folder)
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{script} failed:\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    print!("{}", String::from_utf8_lossy(&run.stdout));
    Some(folder)
}
