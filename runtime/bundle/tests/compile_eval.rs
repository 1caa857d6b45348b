//! What the reference computes of the shared models, beside what onnxruntime computed.
//!
//! The models lie outside of the repository; the tests are skipped, saying so, where they are
//! missing. Every model takes one sample, its files of inputs and outputs hold many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use drover_bundle::compile::{Array, Data, eval, import};
use npyz::{NpyFile, TypeChar};

const FAMILIES: [&str; 9] = [
    "ad",
    "digits_cnn",
    "digits_dscnn",
    "digits_mlp",
    "ic",
    "kws",
    "skab_ae",
    "sww",
    "vww",
];

fn models() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !path.is_dir() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn read(path: &Path) -> Array {
    let bytes = std::fs::read(path).unwrap();
    let file = NpyFile::new(bytes.as_slice()).unwrap();
    let shape = file.shape().iter().map(|&n| n as usize).collect();
    let npyz::DType::Plain(element) = file.dtype() else {
        unreachable!("{} holds records", path.display());
    };
    let data = match element.type_char() {
        TypeChar::Float => Data::F32(file.into_vec().unwrap()),
        TypeChar::Int => Data::I8(file.into_vec().unwrap()),
        other => unreachable!("{} holds {other}", path.display()),
    };
    Array::new(shape, data).unwrap()
}

/// The samples of a file, each as a batch of one.
fn samples(path: &Path) -> Vec<Array> {
    let all = read(path);
    let shape = [&[1], &all.shape()[1..]].concat();
    let length: usize = shape.iter().product();
    let part = |data: Data| Array::new(shape.clone(), data).unwrap();
    match all.data() {
        Data::F32(v) => v
            .chunks(length)
            .map(|c| part(Data::F32(c.to_vec())))
            .collect(),
        Data::I8(v) => v
            .chunks(length)
            .map(|c| part(Data::I8(c.to_vec())))
            .collect(),
        _ => unreachable!("only these are read"),
    }
}

/// Largest difference between what is computed and what is expected, over the range of what
/// is expected.
fn difference(folder: &Path, model: &str, inputs: &str) -> f64 {
    let file = std::fs::read(folder.join(format!("{model}.onnx"))).unwrap();
    let graph = import(&file).unwrap();
    let inputs = samples(&folder.join(inputs));
    let expected = samples(&folder.join(format!("{model}.out.npy")));
    assert_eq!(inputs.len(), expected.len());
    let (mut least, mut most, mut worst) = (f64::INFINITY, f64::NEG_INFINITY, 0.0f64);
    for (input, expected) in inputs.iter().zip(&expected) {
        let got = eval::run(&graph, std::slice::from_ref(input)).unwrap();
        let [got] = got.as_slice() else {
            unreachable!("{model} has one output");
        };
        assert_eq!(got.shape(), expected.shape(), "{model}");
        assert_eq!(got.element(), expected.element(), "{model}");
        let (got, expected) = (got.to_f64().unwrap(), expected.to_f64().unwrap());
        for (got, expected) in got.into_iter().zip(expected) {
            least = least.min(expected);
            most = most.max(expected);
            let off = (got - expected).abs();
            worst = if off.is_nan() {
                f64::INFINITY
            } else {
                worst.max(off)
            };
        }
    }
    worst / (most - least)
}

#[test]
fn float_models_are_computed_as_by_onnxruntime() {
    let Some(folder) = models() else { return };
    for family in FAMILIES {
        let inputs = format!("{family}_in_f32.npy");
        let off = difference(&folder, &format!("{family}_f32"), &inputs);
        assert!(off <= 1e-4, "{family}: off by {off:e} of its range");
    }
}
