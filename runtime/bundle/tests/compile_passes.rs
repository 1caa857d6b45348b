//! The passes over the shared models: what they make is canonical and computes the same.
//!
//! The models lie outside of the repository; the test is skipped, saying so, where they are
//! missing.
#![cfg(feature = "compile")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use drover_bundle::compile::graph::{Graph, ValueId};
use drover_bundle::compile::{Array, Data, ElementType, eval, import, pass};

/// A step of a quantiser of 8 bits, of the range of what it gives.
const STEP: f64 = 1.0 / 255.0;

#[test]
fn passes_keep_what_the_shared_models_compute() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let original = import(&std::fs::read(&path).unwrap()).unwrap();
        let mut graph = original.clone();
        for pass in pass::PASSES {
            (pass.run)(&mut graph).unwrap();
        }
        assert_canonical(&name, &graph);
        let inputs: Vec<Array> = graph.inputs.iter().map(|id| input(&graph, *id)).collect();
        let before = eval::run(&original, &inputs).unwrap();
        let after = eval::run(&graph, &inputs).unwrap();
        assert_eq!(before.len(), after.len(), "{name}");
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.shape(), after.shape(), "{name}");
            let (before, after) = (before.to_f64().unwrap(), after.to_f64().unwrap());
            let least = before.iter().copied().fold(f64::INFINITY, f64::min);
            let most = before.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let off = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
            let off = off.fold(0.0, f64::max) / (most - least);
            assert!(off <= STEP, "{name}: {off} of its range off");
        }
        count += 1;
    }
    assert!(count > 0, "{} holds no model", folder.display());
}

/// Any values in the range of standardised signals, the same ones every time.
fn input(graph: &Graph, id: ValueId) -> Array {
    let value = graph.value(id);
    let shape: Vec<usize> = value.shape.iter().flatten().map(|d| d.unwrap()).collect();
    let places = 0..shape.iter().product();
    let data = match value.element.unwrap() {
        ElementType::F32 => {
            let value = |n: usize| ((n * 7919 % 211) as f32 - 105.0) / 60.0;
            Data::F32(places.map(value).collect())
        }
        ElementType::I8 => {
            let value = |n: usize| i8::try_from(n * 7919 % 251).unwrap_or(-77);
            Data::I8(places.map(value).collect())
        }
        other => unreachable!("no shared model takes {other}"),
    };
    Array::new(shape, data).unwrap()
}

fn assert_canonical(name: &str, graph: &Graph) {
    assert!(graph.opset >= 13, "{name}: operator set {}", graph.opset);
    let readers = graph.readers();
    for node in &graph.nodes {
        let title = node.title();
        assert!(node.is_standard(), "{name}: {title} is left");
        assert!(!node.op.starts_with("QLinear"), "{name}: {title} is left");
        for id in node.outputs.iter().flatten() {
            let shape = graph.value(*id).shape.as_deref().unwrap_or(&[None]);
            let read = graph.name(*id);
            assert!(!shape.contains(&None), "{name}: {read} has an open shape");
        }
        let stored = node.input(0).is_some_and(|id| graph.constant(id).is_some());
        if node.is("DequantizeLinear") && stored {
            for place in readers.get(&node.output().unwrap()).unwrap() {
                let layout = ["Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"];
                let reader = &graph.nodes[*place];
                let is_layout = layout.contains(&reader.op.as_str());
                assert!(!is_layout, "{name}: {} moves a weight", reader.title());
            }
        }
    }
}
