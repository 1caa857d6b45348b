//! What the reference computes of the shared models, beside what onnxruntime computed.
//!
//! The models lie outside of the repository; the tests are skipped, saying so, where they are
//! missing. Every model takes one sample, its files of inputs and outputs hold many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use drover_bundle::compile::graph::Node;
use drover_bundle::compile::pass::PASSES;
use drover_bundle::compile::{Array, Data, ElementType, Graph, eval, import};
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

/// How the quantised models were made, beside `tflite_qdq`, which takes and gives `i8`.
const QUANTISED: [&str; 5] = [
    "qdq_s8s8_pc",
    "qdq_u8s8",
    "qop_all_u8s8",
    "qop_s8s8_pc",
    "qop_u8s8",
];

/// The model of a family made in one way, with its samples, if it is there.
struct Case {
    name: String,
    family: &'static str,
    graph: Graph,
    inputs: Vec<Array>,
    expected: Vec<Array>,
}

impl Case {
    fn read(folder: &Path, family: &'static str, variant: &str) -> Option<Self> {
        let name = format!("{family}_{variant}");
        let file = std::fs::read(folder.join(format!("{name}.onnx"))).ok()?;
        let inputs = match variant {
            "tflite_qdq" => format!("{family}_in_i8.npy"),
            _ => format!("{family}_in_f32.npy"),
        };
        let mut case = Self {
            graph: import(&file).unwrap(),
            inputs: samples(&folder.join(inputs)),
            expected: samples(&folder.join(format!("{name}.out.npy"))),
            name,
            family,
        };
        assert_eq!(case.inputs.len(), case.expected.len());
        // Large networks take seconds for a few samples.
        if matches!(family, "ic" | "kws" | "sww" | "vww") {
            let some = |all: Vec<Array>| all.into_iter().step_by(4).collect();
            case.inputs = some(case.inputs);
            case.expected = some(case.expected);
        }
        Some(case)
    }

    /// How far apart two results may be. Integers: one step, and five in `ic`. Floats: two
    /// steps of the last quantiser, or a part of their range where none has a fixed step.
    /// Of `ic` in QDQ form onnxruntime computes two results of its own that are 19 steps
    /// apart, with its graph optimisation and without: its residual sums lie half-way between
    /// steps often, and the softmax spreads a step of one logit.
    fn room(&self) -> f64 {
        let most = |part: f64| {
            let all = self.expected.iter().flat_map(|e| e.to_f64().unwrap());
            let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
            part * (high - low)
        };
        match (self.expected[0].element(), self.family) {
            (ElementType::F32, _) => match last_step(&self.graph) {
                Some(step) if self.name.starts_with("ic_qdq") => 20.0 * step,
                Some(step) => 2.0 * step,
                None => most(1e-4),
            },
            (_, "ic") => 5.0,
            _ => 1.0,
        }
    }
}

/// The scale of the last operator that quantises, if it is a constant.
fn last_step(graph: &Graph) -> Option<f64> {
    let step = |node: &Node| {
        let place = match node.op.as_str() {
            "QuantizeLinear" => 1,
            "QLinearConv" | "QLinearMatMul" | "QLinearAdd" => 6,
            "QGemm" => 7,
            op if op.starts_with("QLinear") => 3,
            _ => return None,
        };
        graph.constant(node.input(place)?)?.as_single_f32()
    };
    graph.nodes.iter().rev().find_map(step).map(f64::from)
}

fn apart(got: &[Array], wanted: &Array, name: &str) -> f64 {
    let [got] = got else {
        unreachable!("{name} has one output");
    };
    assert_eq!(got.shape(), wanted.shape(), "{name}");
    assert_eq!(got.element(), wanted.element(), "{name}");
    let (got, wanted) = (got.to_f64().unwrap(), wanted.to_f64().unwrap());
    assert!(got.iter().all(|v| v.is_finite()), "{name}");
    let off = got.iter().zip(&wanted).map(|(g, w)| (g - w).abs());
    off.fold(0.0, f64::max)
}

#[test]
fn quantised_models_are_computed_as_by_onnxruntime() {
    let Some(folder) = models() else { return };
    let mut seen = 0;
    for family in FAMILIES {
        for variant in QUANTISED.iter().chain(&["tflite_qdq", "dyn"]) {
            let Some(case) = Case::read(&folder, family, variant) else {
                continue;
            };
            seen += 1;
            let room = case.room();
            let mut worst = 0.0f64;
            for (input, expected) in case.inputs.iter().zip(&case.expected) {
                let got = eval::run(&case.graph, std::slice::from_ref(input)).unwrap();
                worst = worst.max(apart(&got, expected, &case.name));
            }
            assert!(worst <= room, "{}: {worst} is more than {room}", case.name);
        }
    }
    assert!(seen > 40, "only {seen} models");
}

#[test]
fn passes_keep_what_models_compute() {
    let Some(folder) = models() else { return };
    for family in FAMILIES {
        for variant in QUANTISED.iter().chain(&["tflite_qdq", "dyn", "f32"]) {
            let Some(case) = Case::read(&folder, family, variant) else {
                continue;
            };
            let room = case.room();
            let some = &case.inputs[..2];
            let original: Vec<Array> = some
                .iter()
                .map(|input| eval::run(&case.graph, std::slice::from_ref(input)).unwrap())
                .map(|mut outputs| outputs.remove(0))
                .collect();
            let mut graph = case.graph.clone();
            for pass in PASSES {
                if (pass.run)(&mut graph).unwrap() == 0 {
                    continue;
                }
                for (input, wanted) in some.iter().zip(&original) {
                    let got = eval::run(&graph, std::slice::from_ref(input)).unwrap();
                    let off = apart(&got, wanted, &case.name);
                    let (name, pass) = (&case.name, pass.name);
                    assert!(
                        off <= room,
                        "{name} after {pass}: {off} is more than {room}"
                    );
                }
            }
        }
    }
}
