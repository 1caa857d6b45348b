//! The integer forms of the shared models, run beside what onnxruntime computed.
//!
//! The models lie outside of the repository; the tests are skipped, saying so, where they are
//! missing. Which models have an integer form is asserted too, so that it cannot shrink
//! unnoticed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use drover_bundle::compile::integer::Element;
use drover_bundle::compile::{Array, Data, IntegerModel, Numerics, compile};
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

/// Families whose last layer onnxruntime left in floats where it had only QLinearConv and
/// QLinearMatMul to quantise with.
const FLOAT_TAIL: &[(&str, &str)] = &[
    ("digits_cnn", "its weights are float"),
    ("digits_dscnn", "its input is not quantised"),
    ("ic", "its input is not quantised"),
    ("sww", "its weights are float"),
    ("vww", "its weights are float"),
];

/// The samples of a file, each as a batch of one.
fn samples(path: &Path) -> Vec<Array> {
    let bytes = std::fs::read(path).unwrap();
    let file = NpyFile::new(bytes.as_slice()).unwrap();
    let axes = file.shape().iter().skip(1).map(|&n| n as usize);
    let shape: Vec<usize> = [1].into_iter().chain(axes).collect();
    let length: usize = shape.iter().product();
    let npyz::DType::Plain(element) = file.dtype() else {
        unreachable!("{} holds records", path.display());
    };
    let sample = |data| Array::new(shape.clone(), data).unwrap();
    match element.type_char() {
        TypeChar::Float => {
            let all: Vec<f32> = file.into_vec().unwrap();
            let parts = all.chunks(length).map(|c| Data::F32(c.to_vec()));
            parts.map(sample).collect()
        }
        TypeChar::Int => {
            let all: Vec<i8> = file.into_vec().unwrap();
            let parts = all.chunks(length).map(|c| Data::I8(c.to_vec()));
            parts.map(sample).collect()
        }
        other => unreachable!("{} holds {other}", path.display()),
    }
}

fn integer_form(folder: &Path, model: &str) -> Result<IntegerModel, String> {
    let file = std::fs::read(folder.join(format!("{model}.onnx"))).unwrap();
    compile(&file, Numerics::Exact).unwrap().integer
}

/// What one step of the output is worth: its own scale, or that of the last quantised tensor.
fn step(model: &IntegerModel) -> f64 {
    let output = model.output();
    let last = match (model.float_output(), output.element) {
        (false, _) => return 1.0,
        (true, Element::F32) => {
            let layer = model.layers().last().unwrap();
            &model.tensors()[layer.inputs[0]]
        }
        (true, _) => output,
    };
    f64::from(last.scale)
}

/// Runs a model on as many samples as there is time for: outputs that are exact, all, and the largest
/// difference in steps.
fn agreement(folder: &Path, family: &str, model: &str, form: &IntegerModel) -> (usize, usize, f64) {
    let kind = if model.ends_with("tflite_qdq") {
        "i8"
    } else {
        "f32"
    };
    let inputs = samples(&folder.join(format!("{family}_in_{kind}.npy")));
    let expected = samples(&folder.join(format!("{model}.out.npy")));
    assert_eq!(inputs.len(), expected.len());
    // As many samples as some ten million multiplications allow.
    let most = (40_000_000 / form.macs()).max(2);
    let (mut exact, mut all, mut worst) = (0, 0, 0.0f64);
    for (input, expected) in inputs.iter().zip(&expected).take(most) {
        let got = form.run(input).unwrap();
        assert_eq!(got.shape(), expected.shape(), "{model}");
        assert_eq!(got.element(), expected.element(), "{model}");
        let (got, expected) = (got.to_f64().unwrap(), expected.to_f64().unwrap());
        for (got, expected) in got.into_iter().zip(expected) {
            let off = (got - expected).abs() / step(form);
            exact += usize::from(off < 1e-3);
            all += 1;
            worst = worst.max(if off.is_nan() { f64::INFINITY } else { off });
        }
    }
    (exact, all, worst)
}

/// Checks every model of a variant; those in `without` have no integer form, for a reason
/// that holds these words.
fn variant(variant: &str, without: &[(&str, &str)]) {
    let Some(folder) = models() else { return };
    for family in FAMILIES {
        let model = format!("{family}_{variant}");
        if !folder.join(format!("{model}.onnx")).is_file() {
            continue;
        }
        let refused = without.iter().find(|(name, _)| *name == family);
        match (integer_form(&folder, &model), refused) {
            (Ok(form), None) => {
                assert_eq!(IntegerModel::decode(&form.encode().unwrap()).unwrap(), form);
                let (exact, all, worst) = agreement(&folder, family, &model, &form);
                let share = 100.0 * exact as f64 / all as f64;
                println!(
                    "{model:28} {share:6.2} % of {all} exact, at most {worst:.3} steps off; \
                     {} multiplications, {} B of constants, {} B of activations",
                    form.macs(),
                    form.weight_bytes(),
                    form.arena_bytes()
                );
                assert!(worst <= 1.001, "{model} is {worst} steps off");
            }
            (Err(why), Some((_, words))) => {
                println!("{model:28} {why}");
                assert!(why.contains(words), "{model}: {why}");
            }
            (Err(why), None) => unreachable!("{model} should have an integer form: {why}"),
            (Ok(_), Some(_)) => unreachable!("{model} has an integer form by now"),
        }
    }
}

#[test]
fn tflite_qdq() {
    variant("tflite_qdq", &[]);
}

#[test]
fn qdq_u8s8() {
    variant("qdq_u8s8", &[]);
}

#[test]
fn qdq_s8s8_pc() {
    variant("qdq_s8s8_pc", &[]);
}

#[test]
fn qop_all_u8s8() {
    variant("qop_all_u8s8", &[]);
}

#[test]
fn qop_u8s8() {
    variant("qop_u8s8", FLOAT_TAIL);
}

#[test]
fn qop_s8s8_pc() {
    variant("qop_s8s8_pc", FLOAT_TAIL);
}
