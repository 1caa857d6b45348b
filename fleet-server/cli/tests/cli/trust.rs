//! New roots, the catalog and devices that move, as operators handle them.

use std::path::Path;

use drover_trust::fixture::key;
use drover_trust::{DeviceId, Envelope, TrustedRoot, Voucher};

use crate::drover::{Run, drover, keys};
use crate::server::Server;

/// Runs a command whose files lie in `folder`.
fn run(folder: &Path, line: &str) -> Run {
    let folder = folder.display().to_string();
    drover(line.replace("./", &format!("{folder}/")).split(' '))
}

fn decode(path: &Path) -> Envelope {
    Envelope::decode(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_voucher_is_signed_where_the_root_keys_are() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    run(
        folder.path(),
        "keys init --no-passphrase --fleet other --out ./other",
    )
    .ok();
    let device = DeviceId::of(&key(30).public());
    let line = format!(
        "device transfer {device} --root ./keys/root.drover-root --to-root \
         ./other/root.drover-root --to-server https://other:8080 --claim c.secret -o ./voucher"
    );
    // Nobody else's key, and no online one, gives a device away.
    for wrong in ["./keys/fleet.key", "./other/root-1.key"] {
        let message = run(folder.path(), &format!("{line} --root-key {wrong}")).refused();
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(!folder.path().join("voucher").exists());
    let signed = format!("{line} --root-key ./keys/root-1.key");
    let said = run(folder.path(), &signed).ok();
    assert!(said.contains("from fleet test to other"), "{said}");
    let root = decode(&folder.path().join("keys/root.drover-root"));
    let root = TrustedRoot::self_signed(root).unwrap();
    let voucher = decode(&folder.path().join("voucher"));
    let voucher = Voucher::open(&voucher, &root, &device, 0).unwrap();
    let other = decode(&folder.path().join("other/root.drover-root"));
    assert_eq!(voucher.to_root, TrustedRoot::pin_of(&other));
    assert_eq!(
        (voucher.server.as_str(), voucher.claim.as_str()),
        ("https://other:8080", "c.secret")
    );

    let same = line.replace("./other/", "./keys/");
    let run = run(
        folder.path(),
        &format!("{same} --root-key ./keys/root-1.key"),
    );
    assert_eq!(run.code, 2);
    assert!(run.err.contains("between two fleets"), "{}", run.err);
}

#[test]
fn the_next_root_is_published_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    let server = Server::start(folder.path());
    let shown = server.json(["catalog", "show"]);
    assert_eq!(shown["releases"], serde_json::json!([]));
    let version = shown["version"].as_u64().unwrap();

    let at = |name: &str| folder.path().join(name).display().to_string();
    // A root that takes away the only fleet key that the server has.
    run(
        folder.path(),
        "keys make --no-passphrase --role fleet --out ./fleet-2.key",
    )
    .ok();
    let inspected = run(folder.path(), "--json keys inspect ./keys/fleet.key").ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let old = inspected["id"].as_str().unwrap();
    let draft = format!(
        "keys rotate --from ./keys/root.drover-root --remove fleet={old} --add \
         ./fleet-2.key.pub -o ./2.root"
    );
    run(folder.path(), &draft).ok();
    let message = server.ask(["root", "publish", &at("2.root")]).refused();
    assert!(message.contains("2.root"), "{message}");
    run(folder.path(), "keys sign ./2.root --key ./keys/root-1.key").ok();
    let message = server.ask(["root", "publish", &at("2.root")]).refused();
    assert!(message.contains("--fleet-key FILE"), "{message}");

    run(
        folder.path(),
        "keys rotate --from ./keys/root.drover-root --epoch 2 -o ./b.root",
    )
    .ok();
    run(folder.path(), "keys sign ./b.root --key ./keys/root-1.key").ok();
    let said = server.ask(["root", "publish", &at("b.root")]).ok();
    assert!(said.contains("root 2 is published"), "{said}");
    let message = server.ask(["root", "publish", &at("b.root")]).refused();
    assert!(message.contains("publish root 3"), "{message}");
    let roots = server.json(["root", "list"]);
    assert_eq!(roots[1]["epoch"], 2);
    let shown = server.json(["catalog", "show"]);
    assert!(shown["version"].as_u64().unwrap() > version);
}
