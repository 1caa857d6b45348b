//! Every model of `../shared/models`, compiled in both numerics.

use std::path::{Path, PathBuf};

use drover_bundle::compile::{Numerics, compile};
use drover_bundle::{DType, Tensor};
use drover_runtime::npy;

use crate::case::{self, Case, faults, judge_all};

/// Rows that the reference itself all but ties, by model; the test also asks for its margin.
const NEAR_TIES: [(&str, usize); 0] = [];

/// How many times its own loss a model in float numerics may be off, where it is more than
/// once. The reference is 0.00501 from the f32 model here, and 0.00552 from itself without
/// its roundings, before and after the output is made whole: the numerics are as meant.
const FLOAT: [(&str, f64); 1] = [("ic_tflite_qdq", 1.1)];

pub(crate) fn folder() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    if !path.is_dir() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// The names of all models in the folder, sorted.
pub(crate) fn models(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn case(folder: &Path, name: &str) -> Option<Case> {
    let wanted = folder.join(format!("{name}.out.npy"));
    if !wanted.exists() {
        return None;
    }
    // A family's name may hold an underscore itself.
    let float = (0..name.len())
        .filter(|&end| name.as_bytes()[end] == b'_')
        .map(|end| &name[..end])
        .find(|family| folder.join(format!("{family}_f32.onnx")).exists())?;
    let inputs = match name.ends_with("tflite_qdq") {
        true => format!("{float}_in_i8.npy"),
        false => format!("{float}_in_f32.npy"),
    };
    let read = |name: &str| std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
    Some(Case {
        name: name.to_owned(),
        model: read(name),
        float: read(&format!("{float}_f32")),
        inputs: npy::read(&folder.join(inputs)).unwrap(),
        wanted: npy::read(&wanted).unwrap(),
        steps: match (float, name) {
            // onnxruntime differs from itself by as much here, with its optimiser on and off.
            ("ic", _) => 5.0,
            _ => 2.0,
        },
        classifier: !matches!(float, "ad" | "skab_ae"),
    })
}

#[test]
fn every_model_compiles_and_is_right() {
    let Some(folder) = folder() else { return };
    let cases: Vec<Case> = models(&folder)
        .iter()
        .filter_map(|name| case(&folder, name))
        .collect();
    assert_eq!(cases.len(), 64, "models of the set that have references");
    let reports = judge_all(&cases);
    case::print(&reports);
    let mut wrong = Vec::new();
    for (report, case) in reports.iter().zip(&cases) {
        let tie = |row| NEAR_TIES.contains(&(&*case.name, row));
        let near_tie = |row, margin| !case.classifier || (tie(row) && margin <= 1.0);
        let loss = FLOAT.iter().find(|(name, _)| *name == case.name);
        wrong.extend(faults(
            report,
            loss.map_or(1.0, |(_, loss)| *loss),
            near_tie,
        ));
    }
    assert!(
        wrong.is_empty(),
        "{} faults:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Softmax between DequantizeLinear and QuantizeLinear, which tract makes a wrong table of.
#[test]
fn the_smallest_wrong_graph_is_right_when_compiled() {
    let Some(folder) = folder() else { return };
    let bytes = std::fs::read(folder.join("tract_softmax_lut_repro.onnx")).unwrap();
    for numerics in [Numerics::Exact, Numerics::Float] {
        let compiled = compile(&bytes, numerics).unwrap();
        let mut model = case::load(&compiled.model).unwrap();
        let shape: Vec<usize> = model.input().shape.iter().map(|&d| d as usize).collect();
        let elements: usize = shape.iter().product();
        let mut logits = vec![0x80u8; elements];
        logits[1] = 0x7f;
        let input = Tensor::from_bytes(DType::I8, shape, logits).unwrap();
        let output = model.run(&input).unwrap().to_f32();
        let others = output.iter().enumerate().filter(|(i, _)| *i != 1);
        assert!(others.clone().all(|(_, v)| *v < output[1]), "{output:?}");
    }
}
