//! `drover compile` on the project's own models.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::drover::drover;

fn pump(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/models/pump");
    folder.join(name).display().to_string()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().path()).collect()
}

#[test]
fn a_model_is_compiled_proven_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let model = pump("pump-1.0.0.onnx");
    let (inputs, outputs) = (pump("golden_in.npy"), pump("golden_out-1.0.0.npy"));
    let args = [
        "--json",
        "compile",
        &model,
        "-o",
        &path("out.onnx"),
        "--integer",
        &path("out.int"),
        "--inputs",
        &inputs,
        "--outputs",
        &outputs,
        "--bound",
        "steps=2",
        "--bound",
        "argmax=0.9",
    ];
    let report: Value = serde_json::from_str(&drover(args).ok()).unwrap();
    assert_eq!(report["numerics"], "exact");
    assert_eq!(report["reference"], "given");
    assert_eq!(report["cases"], 8);
    assert_eq!(
        report["bounds"],
        serde_json::json!(["steps=2", "argmax=0.9"])
    );
    assert_eq!(report["macs"], 21_504);
    assert!(report["difference"]["max_steps"].as_f64().unwrap() <= 2.0);
    assert!(report["integer"]["why_not"].is_null());
    assert_eq!(files(folder.path()).len(), 2);

    let args = [
        "compile",
        &model,
        "-o",
        &path("out.onnx"),
        "--numerics",
        "float",
    ];
    let shown = drover(args).ok();
    for part in [
        "numerics\tfloat",
        "drawn at random",
        "form in integers\t",
        "estimate Cortex-A53 1200 MHz\tnot faster than",
        "operator EinSum\t4, 21504 multiply-accumulates",
    ] {
        assert!(shown.contains(part), "{shown} lacks {part}");
    }
}

#[test]
fn what_does_not_hold_leaves_nothing_and_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.onnx").display().to_string();
    let model = pump("pump-1.0.0.onnx");
    let (inputs, others) = (pump("golden_in.npy"), pump("golden_in.npy"));
    // The model does not repeat its input, so that these are not its outputs.
    let run = [
        "compile",
        &model,
        "-o",
        &out,
        "--inputs",
        &inputs,
        "--outputs",
        &others,
    ];
    let message = drover(run).refused();
    for part in [
        "pump-1.0.0.onnx",
        "output steps, the bound is steps=2",
        "8 cases",
    ] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    let message = drover(["compile", &inputs, "-o", &out]).refused();
    assert!(message.contains("not ONNX"), "{message}");
    let ort = [
        "compile",
        &model,
        "-o",
        &out,
        "--reference",
        "ort",
        "--python",
        "no-python",
    ];
    let message = drover(ort).refused();
    assert!(message.contains("no-python"), "{message}");
    assert!(files(folder.path()).is_empty(), "something was written");

    let run = drover(["compile", &model, "-o", &out, "--bound", "two"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("write steps=2"), "{}", run.err);
}

#[test]
fn passes_are_shown_without_writing_anything() {
    let model = pump("pump-1.0.0.onnx");
    let shown = drover(["compile", &model, "--show-passes"]).ok();
    assert!(shown.starts_with("== as it came\nopset "), "{shown}");
    assert!(
        shown.contains("== for the engine, exact numerics\n"),
        "{shown}"
    );
}
