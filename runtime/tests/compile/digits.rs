//! Accuracy on held-out rows of scikit-learn's digits, beside onnxruntime's.

use drover_bundle::compile::{Numerics, compile};
use drover_runtime::npy;

use crate::case::{first_of_largest, load, run};
use crate::{made, table};

/// Points of accuracy that a compiled model may lose against onnxruntime.
const LOSS: f64 = 0.4;

#[test]
fn no_digits_model_loses_accuracy() {
    let Some(models) = table::folder() else {
        return;
    };
    let Some(folder) = made::folder("digits.py", "DROVER_DIGITS", &[&models]) else {
        return;
    };
    let read = |name: &str| npy::read(&folder.join(name)).unwrap();
    let (rows, labels) = (read("rows.npy"), read("labels.npy").to_f32());
    assert_eq!(labels.len(), 500);
    // The shared models' own inputs come first, so the split is the one of their training.
    let known = npy::read(&models.join("digits_mlp_in_f32.npy")).unwrap();
    assert_eq!(rows.bytes()[..known.bytes().len()], *known.bytes());
    let accuracy = |answers: &[f32]| {
        let right = answers.iter().zip(&labels).filter(|(a, l)| a == l);
        right.count() as f64 / labels.len() as f64 * 100.0
    };
    println!("model                        onnxruntime    exact    float");
    let mut seen = 0;
    for name in table::models(&models) {
        if !name.starts_with("digits_") {
            continue;
        }
        let reference = accuracy(&read(&format!("{name}.answers.npy")).to_f32());
        let compiled = [Numerics::Exact, Numerics::Float].map(|numerics| {
            let bytes = std::fs::read(models.join(format!("{name}.onnx"))).unwrap();
            let compiled = compile(&bytes, numerics).unwrap();
            let mut model = load(&compiled.model).unwrap();
            let (answers, _) = run(model.as_mut(), &rows).unwrap();
            let answers: Vec<f32> = answers.iter().map(|a| first_of_largest(a) as f32).collect();
            accuracy(&answers)
        });
        let [exact, float] = compiled;
        println!("{name:<28} {reference:>11.1} {exact:>8.1} {float:>8.1}");
        for accuracy in compiled {
            assert!(
                reference - accuracy <= LOSS + 1e-9,
                "{name}: {accuracy} %, onnxruntime has {reference} %"
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 21, "digits models of the set");
}
