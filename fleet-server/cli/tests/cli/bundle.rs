//! `drover bundle` on the project's own pump model.

use std::path::{Path, PathBuf};

use crate::drover::{Run, drover, keys};

fn pump(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/models/pump");
    folder.join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn build(out: &Path) -> Run {
    let spec = text(&pump("pump-1.0.0.toml"));
    let created = "1700000000";
    drover([
        "bundle",
        "build",
        &spec,
        "-o",
        &text(out),
        "--created",
        created,
    ])
}

fn verify(bundle: &Path, keys: &Path) -> Run {
    let root = text(&keys.join("root.drover-root"));
    drover(["bundle", "verify", &text(bundle), "--root", &root])
}

fn sign(bundle: &Path, key: &Path) -> Run {
    drover(["bundle", "sign", &text(bundle), "--key", &text(key)])
}

#[test]
fn built_signed_by_two_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let bundle = folder.path().join("pump.drover");
    build(&bundle).ok();
    let again = folder.path().join("again.drover");
    build(&again).ok();
    let bytes = std::fs::read(&bundle).unwrap();
    assert_eq!(bytes, std::fs::read(&again).unwrap(), "not reproducible");

    let message = verify(&bundle, &keys).refused();
    assert!(
        message.contains("0 of 2 needed release signatures"),
        "{message}"
    );
    sign(&bundle, &keys.join("release-1.key")).ok();
    let message = verify(&bundle, &keys).refused();
    assert!(
        message.contains("1 of 2 needed release signatures"),
        "{message}"
    );
    sign(&bundle, &keys.join("release-2.key")).ok();
    let said = verify(&bundle, &keys).ok();
    assert!(
        said.contains("pump-anomaly 1.0.0 (counter 1) is intact"),
        "{said}"
    );

    let elsewhere = folder.path().join("other");
    std::fs::create_dir(&elsewhere).unwrap();
    let others = crate::drover::keys(&elsewhere);
    let message = verify(&bundle, &others).refused();
    assert!(
        message.contains("0 of 2 needed release signatures"),
        "{message}"
    );
}

#[test]
fn a_key_of_another_role_does_not_sign() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let bundle = folder.path().join("pump.drover");
    build(&bundle).ok();
    let before = std::fs::read(&bundle).unwrap();
    let message = sign(&bundle, &keys.join("fleet.key")).refused();
    assert!(
        message.contains("is a fleet key, this needs a release key"),
        "{message}"
    );
    let message = sign(&bundle, &keys.join("root.drover-root")).refused();
    assert!(message.contains("not a whole key file"), "{message}");
    let message = sign(&bundle, &keys.join("no.key")).refused();
    assert!(message.contains("no.key"), "{message}");
    assert_eq!(std::fs::read(&bundle).unwrap(), before);
}

#[test]
fn tampered_bundles_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let bundle = folder.path().join("pump.drover");
    build(&bundle).ok();
    for key in ["release-1.key", "release-2.key"] {
        sign(&bundle, &keys.join(key)).ok();
    }
    let right = std::fs::read(&bundle).unwrap();
    let with = |bytes: &[u8]| {
        std::fs::write(&bundle, bytes).unwrap();
        verify(&bundle, &keys).refused()
    };
    let mut payload = right.clone();
    *payload.last_mut().unwrap() ^= 1;
    let message = with(&payload);
    assert!(
        message.contains("differs from what was signed"),
        "{message}"
    );
    let shown = drover(["bundle", "inspect", &text(&bundle)]).ok();
    assert!(shown.contains("differs from what was signed"), "{shown}");
    let message = sign(&bundle, &keys.join("release-1.key")).refused();
    assert!(
        message.contains("differs from what was signed"),
        "{message}"
    );

    let mut manifest = right.clone();
    manifest[40] ^= 1;
    assert!(with(&manifest).contains("is refused"));
    assert!(with(&right[..right.len() - 1]).contains("the manifest names"));
    assert!(with(b"PK\x03\x04").contains("not a drover bundle"));
}

#[test]
fn what_cannot_be_built_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.drover");
    let build = |spec: &Path| drover(["bundle", "build", &text(spec), "-o", &text(&out)]);
    let message = build(&pump("no.toml")).refused();
    assert!(message.contains("no.toml"), "{message}");

    let spec = folder.path().join("spec.toml");
    let right = std::fs::read_to_string(pump("pump-1.0.0.toml")).unwrap();
    std::fs::write(&spec, right.replace("counter", "countr")).unwrap();
    let message = build(&spec).refused();
    assert!(
        message.contains("countr") && message.contains("line 5"),
        "{message}"
    );

    std::fs::write(&spec, &right).unwrap();
    let message = build(&spec).refused();
    assert!(message.contains("pump-1.0.0.onnx"), "{message}");
    let names: Vec<_> = folder.path().read_dir().unwrap().collect();
    assert_eq!(names.len(), 1, "more than the spec is there: {names:?}");

    let nowhere = folder.path().join("no/folder/out.drover");
    let spec = text(&pump("pump-1.0.0.toml"));
    let message = drover(["bundle", "build", &spec, "-o", &text(&nowhere)]).refused();
    assert!(message.contains("no/folder/out.drover"), "{message}");
}

/// Without what the last bits of floating point change between processors: the score's
/// baseline, what compiling loses, and every digest of it; and without the sizes that another
/// version of the compiler changes.
fn portable(shown: &str) -> String {
    let word = |w: &str| match w.len() == 64 && w.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => "<digest>".to_owned(),
        false => w.to_owned(),
    };
    let line = |line: &str| match line.split_once("\t") {
        Some((name @ ("baseline score" | "difference" | "chunks"), _)) => {
            format!("{name}\t<numbers>\n")
        }
        Some((name @ "file model.onnx", value)) => {
            let (_, digest) = value.rsplit_once(' ').unwrap();
            format!("{name}\tmodel, <numbers> bytes, SHA-256 {}\n", word(digest))
        }
        Some((name, value)) => {
            let words: Vec<String> = value.split(' ').map(word).collect();
            format!("{name}\t{}\n", words.join(" "))
        }
        None => format!("{line}\n"),
    };
    shown.lines().map(line).collect()
}

/// Run with `DROVER_BLESS=1` to accept another form of the output after reading it.
#[test]
fn inspect_shows_everything() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("pump.drover");
    build(&bundle).ok();
    let shown = portable(&drover(["bundle", "inspect", &text(&bundle)]).ok());
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/snapshots/inspect.txt");
    if std::env::var_os("DROVER_BLESS").is_some() {
        std::fs::write(&snapshot, &shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(&snapshot).unwrap());

    let json = drover(["--json", "bundle", "inspect", &text(&bundle)]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["name"], "pump-anomaly");
    assert_eq!(json["input"]["channels"][1]["unit"], "bar");
    assert_eq!(json["signatures"], serde_json::json!([]));
    assert_eq!(json["numerics"]["numerics"], "exact");
    assert_eq!(json["numerics"]["reference"], "given");
    assert_eq!(json["files"][0]["sha256"].as_str().unwrap().len(), 64);
}
