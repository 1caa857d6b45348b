//! Every model of the test set through the engine as it came: right, or refused by its golden
//! vectors.
//!
//! This is the reason for the compiler, whose results `tests/compile` judges: the engine alone
//! answers a third of these quantised models wrongly and loads none of onnxruntime's default
//! operator set. What the golden check accepts is compared again here, by other code with other
//! figures, so that a hole in the check shows.

use std::path::{Path, PathBuf};

use drover_bundle::{DType, Tensor, Tolerance};
use drover_runtime::{Engine, LoadError, LoadOptions, TractEngine, golden, npy};

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
const VARIANTS: [&str; 5] = ["f32", "tflite_qdq", "qdq_u8s8", "qdq_s8s8_pc", "qop_u8s8"];
/// A softmax between DequantizeLinear and QuantizeLinear becomes a wrong table in tract.
const REFUSED: [&str; 12] = [
    "ic_qdq_s8s8_pc",
    "ic_qdq_u8s8",
    "ic_tflite_qdq",
    "kws_qdq_s8s8_pc",
    "kws_qdq_u8s8",
    "kws_tflite_qdq",
    "sww_qdq_s8s8_pc",
    "sww_qdq_u8s8",
    "sww_tflite_qdq",
    "vww_qdq_s8s8_pc",
    "vww_qdq_u8s8",
    "vww_tflite_qdq",
];

fn models() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    if !path.is_dir() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn is_classifier(family: &str) -> bool {
    !matches!(family, "ad" | "skab_ae")
}

fn tolerance(family: &str, variant: &str) -> Tolerance {
    match (family, variant) {
        (_, "f32") => Tolerance::RangeFraction(1e-4),
        ("ic", "tflite_qdq") => Tolerance::Steps(5),
        (_, "tflite_qdq") => Tolerance::Steps(2),
        _ => Tolerance::RangeFraction(0.06),
    }
}

fn first_of_largest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Largest difference, range of the reference, and cases with another largest element.
fn measure(wanted: &Tensor, got: &[Tensor]) -> (f64, f64, usize) {
    let wide = |t: &Tensor| {
        t.to_f32()
            .iter()
            .map(|&v| f64::from(v))
            .collect::<Vec<f64>>()
    };
    let reference = wide(wanted);
    let low = reference.iter().copied().fold(f64::INFINITY, f64::min);
    let high = reference.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut largest, mut flipped) = (0.0f64, 0);
    let item = reference.len() / got.len();
    for (wanted, got) in reference.chunks(item).zip(got) {
        let got = wide(got);
        assert_eq!(wanted.len(), got.len());
        for (w, g) in wanted.iter().zip(&got) {
            assert!(g.is_finite());
            largest = largest.max((w - g).abs());
        }
        flipped += usize::from(first_of_largest(wanted) != first_of_largest(&got));
    }
    (largest, high - low, flipped)
}

#[test]
fn every_model_is_right_or_refused() {
    let Some(folder) = models() else { return };
    let mut refused = Vec::new();
    let mut seen = 0;
    println!("model                  verdict   largest diff   of range   flipped");
    for family in FAMILIES {
        for variant in VARIANTS {
            let name = format!("{family}_{variant}");
            let path = folder.join(format!("{name}.onnx"));
            if !path.exists() {
                continue;
            }
            seen += 1;
            let input = match variant {
                "tflite_qdq" => format!("{family}_in_i8.npy"),
                _ => format!("{family}_in_f32.npy"),
            };
            let inputs = npy::read(&folder.join(input)).unwrap();
            let wanted = npy::read(&folder.join(format!("{name}.out.npy"))).unwrap();

            let bytes = std::fs::read(&path).unwrap();
            let mut model = TractEngine.load(&bytes, &LoadOptions::default()).unwrap();
            let vectors = golden::from_batches(model.as_ref(), &inputs, &wanted).unwrap();
            let tolerance = tolerance(family, variant);
            let checked = golden::check(model.as_mut(), &vectors, tolerance, is_classifier(family));
            let outputs: Vec<Tensor> = vectors
                .cases
                .iter()
                .map(|case| model.run(&case.input).unwrap())
                .collect();
            let (largest, range, flipped) = measure(&wanted, &outputs);
            let cases = outputs.len();
            println!(
                "{name:<22} {:<9} {largest:>12.6} {:>9.4} % {flipped:>4}/{cases}",
                if checked.is_ok() {
                    "accepted"
                } else {
                    "refused"
                },
                100.0 * largest / range,
            );
            match checked {
                Ok(()) => {
                    let bound = match tolerance {
                        Tolerance::Steps(steps) => f64::from(steps),
                        Tolerance::RangeFraction(fraction) => f64::from(fraction) * range,
                    };
                    assert!(
                        largest <= bound * 1.0001,
                        "{name}: {largest} is over {bound}"
                    );
                    if is_classifier(family) {
                        let right = (cases - flipped) as f64 / cases as f64;
                        assert!(right >= 0.93, "{name}: {flipped} of {cases} classes differ");
                    }
                }
                Err(LoadError::Golden(_)) => refused.push(name),
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
    assert_eq!(seen, 40, "models of the set");
    refused.sort();
    assert_eq!(refused, REFUSED);
}

#[test]
fn the_smallest_wrong_graph_is_refused() {
    let Some(folder) = models() else { return };
    let bytes = std::fs::read(folder.join("tract_softmax_lut_repro.onnx")).unwrap();
    let mut model = TractEngine.load(&bytes, &LoadOptions::default()).unwrap();
    println!("{:?} -> {:?}", model.input(), model.output());
    let shape: Vec<usize> = model.input().shape.iter().map(|&d| d as usize).collect();
    let elements: usize = shape.iter().product();
    assert_eq!(model.input().dtype, DType::I8);
    // One logit far above the others: its share is nearly one and the others' nearly none,
    // whatever the scales are.
    let mut logits = vec![0x80u8; elements];
    logits[1] = 0x7f;
    let input = Tensor::from_bytes(DType::I8, shape, logits).unwrap();
    let output = model.run(&input).unwrap().to_f32();
    let others = output.iter().enumerate().filter(|(i, _)| *i != 1);
    let right = others.clone().all(|(_, v)| *v < output[1]);
    assert!(
        !right,
        "tract is right now: {output:?}; the golden refusals above are obsolete"
    );
}
