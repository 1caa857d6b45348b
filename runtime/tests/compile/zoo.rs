//! Networks that no pass was written for, in every form that onnxruntime quantises to.

use std::path::Path;

use drover_runtime::npy;

use crate::case::{self, Case, Report, faults, judge_all};
use crate::made;

/// How many times a quantised network's own loss float numerics may be off: what a network of
/// random weights loses is hardly more than what rounding adds to it.
const FLOAT: f64 = 1.2;

/// A model and its answers: `out` those of onnxruntime, `plain` those with its optimiser off.
fn case(folder: &Path, file: &str, answers: &str) -> Option<Case> {
    let name = file.strip_suffix(".onnx")?;
    let (network, _) = name.split_once('.')?;
    let read = |name: String| std::fs::read(folder.join(name)).unwrap();
    let own = folder.join(format!("{name}.in.npy"));
    let inputs = match own.exists() {
        true => own,
        false => folder.join(format!("{network}.in.npy")),
    };
    Some(Case {
        name: name.to_owned(),
        model: read(file.to_owned()),
        float: read(format!("{network}.f32.onnx")),
        inputs: npy::read(&inputs).unwrap(),
        wanted: npy::read(&folder.join(format!("{name}.{answers}.npy"))).unwrap(),
        steps: 2.0,
        classifier: false,
    })
}

#[test]
fn the_zoo_compiles_and_is_right() {
    let Some(folder) = made::folder("zoo.py", "DROVER_ZOO", &[]) else {
        return;
    };
    let files = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let cases: Vec<Case> = files
        .iter()
        .filter_map(|file| case(&folder, file, "out"))
        .collect();
    assert!(cases.len() > 200, "only {} models were made", cases.len());
    let reports = judge_all(&cases);
    case::print(&reports);
    // Where onnxruntime answers otherwise with its optimiser off, that is as good a reference.
    let wrong = |report: &Report| faults(report, FLOAT, |_, _| true);
    let again: Vec<Case> = reports
        .iter()
        .filter(|report| !wrong(report).is_empty())
        .filter_map(|report| case(&folder, &format!("{}.onnx", report.name), "plain"))
        .collect();
    let again = judge_all(&again);
    println!("\n{} beside the plain answers:", again.len());
    case::print(&again);
    let wrong: Vec<String> = again.iter().flat_map(wrong).collect();
    assert!(
        wrong.is_empty(),
        "{} faults:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
