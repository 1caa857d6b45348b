//! Recordings of a real pump through the whole agent: the binary, from the file to lines of
//! JSON, against figures that onnxruntime gave for the same model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Windows of valve1/1.csv with their scores by onnxruntime 1.32.
const SCORES: [(usize, f64); 8] = [
    (0, 0.49650),
    (1, 0.47594),
    (200, 0.46553),
    (384, 0.47082),
    (600, 0.53039),
    (800, 0.66888),
    (1000, 0.42057),
    (1129, 0.88289),
];

fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let there = shared.join("data/skab").is_dir() && shared.join("models").is_dir();
    if !there {
        println!("skipped: {} holds no test material", shared.display());
    }
    there.then_some(shared)
}

/// All results of a recording.
fn run(recording: &Path) -> Vec<Value> {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs/skab.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_drover-agent"))
        .args(["run", "--speed", "max", "--json", "--spec"])
        .arg(&spec)
        .arg("--source")
        .arg(format!("csv:{}", recording.display()))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", recording.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap();
    text.lines().map(parse).collect()
}

/// The column `anomaly` of a recording.
fn labels(recording: &Path) -> Vec<bool> {
    let text = std::fs::read_to_string(recording).unwrap();
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    let column = header
        .split(';')
        .position(|name| name == "anomaly")
        .unwrap();
    let is_anomalous = |line: &str| line.split(';').nth(column) == Some("1.0");
    lines.map(is_anomalous).collect()
}

#[test]
fn a_recording_gives_the_windows_and_scores_that_were_measured() {
    let Some(shared) = shared() else {
        return;
    };
    let recording = shared.join("data/skab/valve1/1.csv");
    let results = run(&recording);
    assert_eq!(results.len(), labels(&recording).len() - 15);
    for (window, result) in results.iter().enumerate() {
        assert_eq!(result["window"], window);
        assert_eq!(result["last_row"], window + 15);
        assert_eq!(result["model"], "skab-pump");
    }
    // tract differs by a step of the quantisation here and there.
    for (window, wanted) in SCORES {
        let score = results[window]["score"].as_f64().unwrap();
        assert!(
            (score - wanted).abs() < 0.01 * wanted,
            "window {window}: {score}, wanted {wanted}"
        );
    }
}

#[test]
fn the_detector_is_as_good_as_it_was_measured() {
    let Some(shared) = shared() else {
        return;
    };
    let (mut hits, mut false_alarms, mut missed, mut recordings) = (0u32, 0u32, 0u32, 0);
    for folder in ["valve1", "other"] {
        for entry in std::fs::read_dir(shared.join("data/skab").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let labels = labels(&path);
            for result in run(&path) {
                let row = usize::try_from(result["last_row"].as_u64().unwrap()).unwrap();
                match (result["verdict"] == "anomalous", labels[row]) {
                    (true, true) => hits += 1,
                    (true, false) => false_alarms += 1,
                    (false, true) => missed += 1,
                    (false, false) => {}
                }
            }
            recordings += 1;
        }
    }
    assert_eq!(recordings, 30);
    let f1 = f64::from(2 * hits) / f64::from(2 * hits + false_alarms + missed);
    println!("F1 {f1:.4} over {recordings} recordings");
    assert!((f1 - 0.729).abs() <= 0.01, "F1 is {f1}");
}
