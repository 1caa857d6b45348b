//! Bad input to the binary: one message that says what and where, the right exit code, and
//! nothing half-written.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const AGENT: &str = env!("CARGO_BIN_EXE_drover-agent");

fn pump(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts/models/pump")
        .join(file)
}

fn agent(arguments: &[&str]) -> Output {
    Command::new(AGENT)
        .args(arguments)
        .env_remove("DROVER_AGENT_CONFIG")
        .output()
        .unwrap()
}

/// Runs the agent, which must fail with `code` and one line that holds all of `parts`.
fn refused(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = agent(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed results");
    let messages: Vec<&str> = errors
        .lines()
        .filter(|line| line.starts_with("drover-agent: "))
        .collect();
    assert_eq!(messages.len(), 1, "{arguments:?}: {errors}");
    let message = messages[0];
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn files_that_are_missing_or_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("bad.onnx"), "[not]\nonnx").unwrap();
    std::fs::write(at("bad.drover"), "PK\u{3}\u{4}").unwrap();
    let spec = pump("pump-1.0.0.toml").display().to_string();
    let inputs = pump("golden_in.npy").display().to_string();
    let run = |what: &str, file: &str| {
        refused(
            &["run", what, &at(file), "--source", "csv:x.csv"],
            1,
            &[file],
        );
    };
    run("--bundle", "missing.drover");
    run("--bundle", "bad.drover");
    run("--spec", "missing.toml");
    refused(
        &["run", "--spec", &spec, "--source", "csv:/no/such.csv"],
        1,
        &["/no/such.csv", "No such file"],
    );
    let bad = at("bad.onnx");
    let output = at("y.npy");
    refused(
        &["infer", &bad, "--input", &inputs, "--output", &output],
        1,
        &["bad.onnx", "not ONNX"],
    );
    let model = pump("pump-1.0.0.onnx").display().to_string();
    refused(
        &["infer", &model, "--input", "/no/x.npy", "--output", &output],
        1,
        &["/no/x.npy"],
    );
    assert!(!Path::new(&output).exists());
}

#[test]
fn a_recording_that_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("rows.csv");
    std::fs::write(&recording, "flow_lpm,other\n1,2\n").unwrap();
    let spec = pump("pump-1.0.0.toml").display().to_string();
    let source = format!("csv:{}", recording.display());
    refused(
        &["run", "--spec", &spec, "--source", &source, "--json"],
        1,
        &[
            "pump-anomaly 1.0.0",
            "\"motor_current_a\"",
            "it has \"flow_lpm\", \"other\"",
        ],
    );
    refused(
        &[
            "infer",
            "--spec",
            &spec,
            "--csv",
            &recording.display().to_string(),
        ],
        1,
        &["no column for"],
    );
    let onnx = pump("pump-1.0.0.onnx").display().to_string();
    refused(
        &["infer", &onnx, "--csv", &recording.display().to_string()],
        2,
        &["--spec bundle.toml"],
    );
}

#[test]
fn settings_with_a_typo() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "[source]\nkind = \"csv\"\npaht = \"x\"\n").unwrap();
    let file = file.display().to_string();
    refused(
        &["run", "--config", &file],
        2,
        &["agent.toml line 3", "`paht`", "`path`"],
    );
    refused(
        &["print-config", "--config", "/no/agent.toml"],
        1,
        &["/no/agent.toml"],
    );
    refused(
        &["run", "--speed", "fast"],
        2,
        &["--speed", "\"fast\" is no speed"],
    );
    refused(&["run", "--source", "csv"], 2, &["source.path"]);
}

#[test]
fn data_folders_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    refused(
        &["run", "--data", &data],
        2,
        &[&data, "drover-agent enroll"],
    );
    // A read-only folder and a file in a folder's place, which hold for root, too.
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for place in [Path::new("/proc/self"), &file] {
        let place = place.display().to_string();
        refused(
            &[
                "enroll",
                "--data",
                &place,
                "--server",
                "http://127.0.0.1:9",
                "--token",
                "a.b",
            ],
            1,
            &[&place],
        );
    }
    let output = agent(&["status", "--data", &data, "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["running"], false);
}

#[test]
fn outputs_are_whole_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("y.npy").display().to_string();
    let model = pump("pump-1.0.0.onnx").display().to_string();
    let inputs = pump("golden_in.npy").display().to_string();
    let expected = pump("golden_out-1.0.0.npy").display().to_string();
    let infer = |extra: &[&str]| {
        let mut arguments = vec!["infer", &model, "--input", &inputs, "--output", &output];
        arguments.extend(extra);
        agent(&arguments)
    };
    let done = infer(&["--expect", &expected, "--tolerance-range", "0.06"]);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && errors.is_empty(), "{errors}");
    let written = std::fs::read(&output).unwrap();
    assert_eq!(written.len(), std::fs::read(&expected).unwrap().len());

    // A second run with a reference that differs must leave the file as it was.
    std::fs::write(&output, "before").unwrap();
    let other = pump("golden_in.npy").display().to_string();
    let done = infer(&["--expect", &other]);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(std::fs::read(&output).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let done = infer(&[]);
    assert!(done.status.success());
    let note = String::from_utf8(done.stderr).unwrap();
    assert!(
        note.lines().count() == 1 && note.contains("nothing vouches"),
        "{note}"
    );
    let without: &Path = Path::new("/proc/self/y.npy");
    let unwritable = without.display().to_string();
    let arguments = ["infer", &model, "--input", &inputs, "--output", &unwritable];
    let done = agent(&arguments);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("/proc/self/y.npy"));
}

#[test]
fn every_command_has_help_and_shells_complete() {
    for command in [
        "enroll",
        "run",
        "status",
        "infer",
        "print-config",
        "completions",
    ] {
        let output = agent(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
        assert!(output.stdout.len() > 100, "{command}");
    }
    let output = agent(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("drover-agent"));
    assert_eq!(agent(&["dance"]).status.code(), Some(2));
}
