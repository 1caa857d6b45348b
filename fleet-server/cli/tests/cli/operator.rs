//! Logging in, managing operators, and checking copies of the audit log without the server.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::drover::{Run, drover, drover_with, keys};
use crate::server::Server;

/// A user with a configuration folder of their own.
struct User<'a> {
    server: &'a Server,
    home: &'a Path,
}

impl User<'_> {
    fn ask<const N: usize>(&self, args: [&str; N]) -> Run {
        let flags = ["--server", &self.server.url];
        drover_with("XDG_CONFIG_HOME", self.home, args.into_iter().chain(flags))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_person_logs_in_and_later_commands_know_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    keys(folder.path());
    let server = Server::start(folder.path());
    let password = write(folder.path(), "password", "correct horse battery staple\n");
    let add = ["operator", "add", "alice", "--role", "operator"];
    let said = server.ask([
        add[0],
        add[1],
        add[2],
        add[3],
        add[4],
        "--password-file",
        &password,
    ]);
    assert!(said.ok().contains("alice is open, role operator"));

    let home = folder.path().join("home");
    let alice = User {
        server: &server,
        home: &home,
    };
    let message = alice.ask(["device", "list"]).refused();
    assert!(message.contains("drover login"), "{message}");
    let wrong = write(folder.path(), "wrong", "a wrong password\n");
    let ca = at("data/ca.pem");
    let login = |file: &str| alice.ask(["login", "alice", "--password-file", file, "--ca", &ca]);
    let message = login(&wrong).refused();
    assert!(message.contains("password is wrong"), "{message}");
    assert!(
        login(&password)
            .ok()
            .contains("as alice with the role operator")
    );
    let logins = home.join("drover/logins.json");
    let mode = logins.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The token and the authority were kept: neither is named any more.
    assert_eq!(alice.ask(["device", "list"]).ok(), "");
    assert!(alice.ask(["whoami"]).ok().contains("account\talice"));
    let message = alice.ask(["operator", "list"]).refused();
    assert!(message.contains("needs the role admin"), "{message}");
    let made = [
        "token", "create", "--name", "ci", "--role", "viewer", "--ttl",
    ];
    let token = alice.ask([
        made[0], made[1], made[2], made[3], made[4], made[5], made[6], "1h",
    ]);
    let token = write(folder.path(), "ci.token", &token.ok());
    let ci = [
        "whoami",
        "--server",
        &server.url,
        "--token-file",
        &token,
        "--ca",
        &ca,
    ];
    assert!(drover(ci).ok().contains("role\tviewer"));
    assert!(
        alice
            .ask(["token", "list"])
            .ok()
            .contains("\tci\talice\tviewer\tapi\tgood\t")
    );

    // A certificate is another way in, until it is taken back.
    let keys = at("alice");
    let issue = ["certificate", "issue", "alice", "-o", &keys];
    assert!(server.ask(issue).ok().contains("operator.key"));
    let message = server.ask(issue).refused();
    assert!(message.contains("exists already"), "{message}");
    let by_certificate = || {
        let url = ["--server", &server.url, "--ca", &ca];
        let whoami = ["whoami", "--certificate", &keys];
        drover(whoami.into_iter().chain(url))
    };
    assert!(by_certificate().ok().contains("account\talice"));
    let said = server.ask(["certificate", "revoke", "alice"]).ok();
    assert!(said.contains("1 certificates of alice"), "{said}");
    by_certificate().refused();

    alice.ask(["logout"]).ok();
    let message = alice.ask(["device", "list"]).refused();
    assert!(message.contains("drover login"), "{message}");
    assert!(!std::fs::read_to_string(logins).unwrap().contains("drover_"));
}

#[test]
fn a_copy_of_the_audit_log_is_checked_without_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    keys(folder.path());
    let server = Server::start(folder.path());
    for why in ["first", "second", "third"] {
        server.ask(["device", "token", "--reason", why]).ok();
    }
    let (old, new) = (at("old.jsonl"), at("new.jsonl"));
    server.ask(["audit", "export", &old]).ok();
    server.ask(["broker", "stop"]).ok();
    server.ask(["audit", "export", &new]).ok();
    let listed = server.ask(["audit", "list", "--limit", "2"]).ok();
    assert_eq!(listed.lines().count(), 2);
    assert!(
        listed.contains("claim.create") && listed.contains("\tthird\n"),
        "{listed}"
    );
    let listed = server.json(["audit", "list"]);
    assert_eq!(listed[0]["reason"], "first");
    server.stop();

    let root = at("keys/root.drover-root");
    let verify = |file: &str, after: &str| {
        drover(["audit", "verify", file, "--root", &root, "--after", after])
    };
    assert!(verify(&new, &old).ok().contains("4 entries fit together"));
    let message = verify(&old, &new).refused();
    assert!(message.contains("its end was cut off"), "{message}");

    let text = std::fs::read_to_string(&new).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let broken = |name: &str, lines: &[&str]| {
        let file = write(folder.path(), name, &(lines.join("\n") + "\n"));
        drover(["audit", "verify", &file, "--root", &root]).refused()
    };
    let edited = lines[1].replace("second", "another");
    let mut changed = lines.clone();
    changed[1] = &edited;
    let mut swapped = lines.clone();
    swapped.swap(0, 2);
    let mut inserted = lines.clone();
    inserted.insert(1, lines[0]);
    let mut removed = lines.clone();
    removed.remove(1);
    let mut short = lines.clone();
    short.remove(3);
    // A head that goes with the shorter log, but that nobody signed.
    let third: Value = serde_json::from_str(lines[2]).unwrap();
    let mut head: Value = serde_json::from_str(lines[4]).unwrap();
    head["head"]["number"] = 3.into();
    head["head"]["hash"] = third["hash"].clone();
    let head = head.to_string();
    let forged = [lines[0], lines[1], lines[2], &head];
    for (name, lines, why) in [
        ("changed", &changed[..], "entry 2 was changed"),
        ("swapped", &swapped, "entry 3 stands where entry 1 belongs"),
        (
            "inserted",
            &inserted,
            "entry 1 stands where entry 2 belongs",
        ),
        ("removed", &removed, "entry 3 stands where entry 2 belongs"),
        ("short", &short, "the entries end at 3, the head names 4"),
        ("cut", &lines[..3], "it was cut short"),
        ("forged", &forged, "is not what the fleet key signed"),
    ] {
        let message = broken(name, lines);
        assert!(message.contains(why), "{name}: {message}");
    }
}
