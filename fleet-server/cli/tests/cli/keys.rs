//! `drover keys` as a person uses it.

use std::os::unix::fs::PermissionsExt;

use crate::drover::{drover, keys};

#[test]
fn a_fleet_gets_its_keys_once() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let mut names: Vec<String> = Vec::new();
    for entry in keys.read_dir().unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".key") {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        names.push(name);
    }
    names.sort();
    let wanted = "catalog.key fleet.key release-1.key release-2.key root-1.key root.drover-root";
    assert_eq!(names.join(" "), wanted);

    let before = std::fs::read(keys.join("fleet.key")).unwrap();
    let again = ["keys", "init", "--no-passphrase", "--fleet", "x", "--out"].map(Into::into);
    let message = drover(again.into_iter().chain([keys.clone()])).refused();
    assert!(message.contains("exists already"), "{message}");
    assert_eq!(std::fs::read(keys.join("fleet.key")).unwrap(), before);
    assert_eq!(keys.read_dir().unwrap().count(), 6, "stray files");
}

#[test]
fn inspect_shows_roles_and_never_a_seed() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let inspect = |name: &str| {
        let path = keys.join(name).display().to_string();
        drover(["keys", "inspect", &path]).ok()
    };
    let key = inspect("release-2.key");
    let text = std::fs::read_to_string(keys.join("release-2.key")).unwrap();
    let seed = text.lines().find_map(|l| l.strip_prefix("seed: ")).unwrap();
    assert!(key.contains("secret release key"), "{key}");
    assert!(!key.contains(seed), "{key}");
    let root = inspect("root.drover-root");
    assert!(root.contains("fleet\ttest\n"), "{root}");
    assert!(root.contains("release\t2 of 2: "), "{root}");
    let id = key.lines().find_map(|l| l.strip_prefix("id\t")).unwrap();
    assert!(root.contains(id), "{root} does not name {id}");

    let other = keys.join("other");
    std::fs::write(&other, "hello").unwrap();
    let path = other.display().to_string();
    let message = drover(["keys", "inspect", &path]).refused();
    assert!(message.contains("neither a key file nor"), "{message}");
}

#[test]
fn impossible_thresholds_are_a_usage_error_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("keys");
    let args = "keys init --no-passphrase --fleet x --root-threshold 2 --out";
    let run = drover(args.split(' ').map(Into::into).chain([out.clone()]));
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("--root-keys"), "{}", run.err);
    assert!(!out.exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let out = file.join("keys").display().to_string();
    let args = [
        "keys",
        "init",
        "--no-passphrase",
        "--fleet",
        "x",
        "--out",
        &out,
    ];
    let message = drover(args).refused();
    assert!(message.contains(&out), "{message}");
}
