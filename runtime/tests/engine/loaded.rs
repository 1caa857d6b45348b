//! What a bundle has to get right before its model may run.

use crate::onnx::{Axis, relu};
use drover_bundle::golden::GoldenError;
use drover_bundle::{
    Channel, Chunking, DType, Decision, GoldenCase, GoldenVectors, InputSpec, Manifest,
    Normalisation, OutputSpec, Requires, Scoring, Tensor, TensorSpec, Tolerance, Window,
};
use drover_runtime::{LoadError, LoadedBundle, TractEngine};

fn manifest() -> Manifest {
    let tensor = |name: &str| TensorSpec {
        name: name.into(),
        dtype: DType::F32,
        shape: vec![1, 2],
    };
    Manifest {
        name: "relu".into(),
        version: "1".into(),
        counter: 1,
        epoch: 0,
        lineage: Default::default(),
        components: Vec::new(),
        numerics: None,
        created_unix_s: 0,
        description: String::new(),
        files: vec![],
        chunking: Chunking {
            chunk_bytes: 1024,
            digests: vec![],
        },
        requires: Requires {
            engine: "tract".into(),
            arch: vec![],
            memory_bytes: 1024,
        },
        input: InputSpec {
            tensor: tensor("x"),
            channels: vec![Channel {
                name: "a".into(),
                unit: String::new(),
            }],
            window: Window { rows: 2, stride: 2 },
            normalisation: Normalisation::None,
            quantisation: None,
        },
        output: OutputSpec {
            tensor: tensor("y"),
            quantisation: None,
            scoring: Scoring::Classification {
                labels: vec!["low".into(), "high".into()],
                probabilities: true,
            },
            decision: Decision::None,
        },
        tolerance: Tolerance::RangeFraction(0.01),
    }
}

fn golden(outputs: &[[f32; 2]]) -> Vec<u8> {
    let tensor = |v: &[f32]| Tensor::from_f32(vec![1, 2], v).unwrap();
    let cases = outputs.iter().map(|output| GoldenCase {
        input: tensor(&[-1.0, 1.0]),
        output: tensor(output),
    });
    let vectors = GoldenVectors {
        cases: cases.collect(),
    };
    vectors.encode().unwrap()
}

fn load(manifest: &Manifest, golden: &[u8]) -> Result<LoadedBundle, LoadError> {
    let model = relu(&[Axis::Size(1), Axis::Size(2)]);
    LoadedBundle::load(&TractEngine, manifest, &model, golden)
}

#[test]
fn a_model_that_passes_runs_in_a_pipeline() {
    let bundle = load(&manifest(), &golden(&[[0.0, 1.0]])).unwrap();
    assert_eq!(bundle.manifest().name, "relu");
    let mut pipeline = bundle.into_pipeline().unwrap();
    assert!(pipeline.push_row(&[-3.0]).unwrap().is_empty());
    let outcome = &pipeline.push_row(&[0.75]).unwrap()[0];
    assert_eq!((outcome.class, outcome.score), (Some(1), 0.75));
}

#[test]
fn wrong_outputs_refuse_the_model() {
    let error = load(&manifest(), &golden(&[[0.0, 1.0], [0.0, 0.5]])).unwrap_err();
    assert!(matches!(
        error,
        LoadError::Golden(GoldenError::Mismatch {
            case: 1,
            element: 1,
            ..
        })
    ));
    // Values near enough, but the reference has the other class first.
    let mut near = manifest();
    near.tolerance = Tolerance::RangeFraction(0.99);
    let error = load(&near, &golden(&[[1.0, 0.2]])).unwrap_err();
    assert!(matches!(error, LoadError::Golden(_)), "{error}");
    assert!(load(&manifest(), b"noise").is_err());
}

#[test]
fn a_manifest_of_another_model_refuses_it() {
    let good = golden(&[[0.0, 1.0]]);
    let mut other = manifest();
    other.output.tensor.name = "z".into();
    assert_eq!(
        load(&other, &good).unwrap_err().to_string(),
        "manifest says output is \"z\" f32 [1, 2], the model has \"y\" f32 [1, 2]; build the \
         bundle from this model"
    );
    let mut other = manifest();
    other.requires.engine = "plan".into();
    assert_eq!(
        load(&other, &good).unwrap_err().to_string(),
        "bundle asks for engine \"plan\", this is \"tract\""
    );
    let mut small = manifest();
    small.requires.memory_bytes = 4;
    assert!(matches!(
        load(&small, &good),
        Err(LoadError::ValueTooLarge { .. })
    ));
}
