//! The ceremony of keys with several holders, each on a machine (here a folder) of their own.

use std::path::Path;

use crate::drover::{Run, drover, drover_with};

/// A holder's folder.
struct Holder<'a>(&'a Path);

impl Holder<'_> {
    fn run(&self, line: &str) -> Run {
        let folder = self.0.display().to_string();
        drover(line.replace("./", &format!("{folder}/")).split(' '))
    }
}

/// The message of a run that failed.
fn failed(run: Run) -> String {
    assert_ne!(run.code, 0, "{}", run.out);
    assert_eq!(run.out, "");
    run.err
}

fn pair(table: &str, name: &str) -> String {
    let line = table
        .lines()
        .find_map(|l| l.strip_prefix(&format!("{name}\t")));
    assert!(line.is_some(), "no {name} in {table}");
    line.unwrap_or_default().to_owned()
}

#[test]
fn two_of_three_holders_make_a_root_rotate_it_and_revoke_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let at = Holder(folder.path());
    let mut id = std::collections::BTreeMap::new();
    for (name, role) in [
        ("alice", "root"),
        ("bob", "root"),
        ("carol", "root"),
        ("dave", "root"),
        ("release", "release"),
        ("fleet", "fleet"),
        ("catalog", "catalog"),
    ] {
        let line = format!("keys make --no-passphrase --role {role} --out ./{name}.key");
        id.insert(name, pair(&at.run(&line).ok(), "id"));
    }

    let draft = "keys draft --fleet plant --key ./alice.key.pub --key ./bob.key.pub --key \
                 ./carol.key.pub --key ./release.key.pub --key ./fleet.key.pub --key \
                 ./catalog.key.pub --threshold root=2 -o ./1.root";
    let missing = pair(&at.run(draft).ok(), "signatures");
    assert!(
        missing.starts_with("2 more of its own root keys"),
        "{missing}"
    );
    let shown = at.run("keys sign ./1.root --key ./alice.key").ok();
    let missing = pair(&shown, "signatures");
    assert!(missing.starts_with("1 more"), "{missing}");
    assert!(!missing.contains(&id["alice"]), "{missing}");
    let twice = at.run("keys sign ./1.root --key ./alice.key").ok();
    assert_eq!(pair(&twice, "signatures"), missing, "one key counts once");
    let shown = at.run("keys sign ./1.root --key ./bob.key").ok();
    assert_eq!(pair(&shown, "signatures"), "complete");

    // Alice's key is stolen; dave takes her place.
    let revoke = format!(
        "keys revoke --from ./1.root --remove root={} --add ./dave.key.pub --epoch 3 -o ./2.root",
        id["alice"]
    );
    at.run(&revoke).ok();
    let shown = at
        .run("keys sign ./2.root --key ./dave.key --key ./bob.key --after ./1.root")
        .ok();
    let missing = pair(&shown, "signatures");
    assert!(
        missing.starts_with("1 more of the former root keys"),
        "{missing}"
    );
    let shown = at
        .run("keys sign ./2.root --key ./carol.key --after ./1.root")
        .ok();
    assert_eq!(pair(&shown, "signatures"), "complete");
    assert_eq!(pair(&shown, "version"), "2");
    assert_eq!(pair(&shown, "security epoch"), "3");
    assert!(!pair(&shown, "root").contains(&id["alice"]));
}

#[test]
fn drafts_that_can_never_work_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = Holder(folder.path());
    at.run(&format!(
        "keys init --no-passphrase --fleet f --out {}",
        folder.path().join("keys").display()
    ))
    .ok();
    let from = "--from ./keys/root.drover-root -o ./next.root";
    for (line, wanted) in [
        ("keys revoke", "--remove ID"),
        ("keys rotate --remove ffffffffffffffff", "names no key"),
        ("keys rotate --threshold release=2", "--add"),
        ("keys rotate --add ./keys/fleet.key", "drover keys public"),
    ] {
        let message = failed(at.run(&format!("{line} {from}")));
        assert!(message.contains(wanted), "{line}: {message}");
        assert!(!folder.path().join("next.root").exists(), "{line}");
    }
    // A key of another role adds no signature.
    at.run(&format!("keys rotate {from}")).ok();
    let message = at
        .run("keys sign ./next.root --key ./keys/release-1.key")
        .refused();
    assert!(message.contains("needs a root key"), "{message}");
}

#[test]
fn a_passphrase_protects_keys_and_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = Holder(folder.path());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let right = file("right", "five random words make one\n");
    let wrong = file("wrong", "five other words make one\n");
    file("short", "short\n");
    let message = failed(at.run("keys make --role root --out ./a.key"));
    assert!(message.contains("--passphrase-file"), "{message}");
    let short = "keys make --role root --out ./a.key --passphrase-file ./short";
    let message = failed(at.run(short));
    assert!(message.contains("at least 12 characters"), "{message}");

    at.run("keys make --role root --out ./a.key --passphrase-file ./right")
        .ok();
    let text = std::fs::read_to_string(folder.path().join("a.key")).unwrap();
    assert!(text.contains("ENCRYPTED PRIVATE KEY"), "{text}");
    let shown = at.run("keys inspect ./a.key").ok();
    assert_eq!(pair(&shown, "protection"), "passphrase");

    let key = folder.path().join("a.key").display().to_string();
    let out = folder.path().join("b.pub").display().to_string();
    let args = ["keys", "public", &key, "--out", &out];
    let message = failed(drover(args));
    assert!(message.contains("DROVER_PASSPHRASE_FILE"), "{message}");
    let with = |file: &Path| drover_with("DROVER_PASSPHRASE_FILE", file, args);
    let message = with(&wrong).refused();
    assert!(message.contains("does not open"), "{message}");
    let shown = with(&right).ok();
    assert_eq!(pair(&shown, "role"), "root");
}
