//! Makes a bundle of a spec: the model, compiled, with its golden vectors and its drift
//! baseline.
//!
//! The manifest's tensors come from the model as this engine loads it, and a model whose
//! golden vectors this engine does not reproduce on this machine is not built. The same
//! spec, files and time give the same bytes. Nothing is signed and nothing is written here.

mod error;
mod golden;
mod rows;
mod subject;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use drover_bundle::manifest::MAX_TOTAL_BYTES;
use drover_bundle::spec::Baseline as BaselineSpec;
use drover_bundle::{
    Chunking, FileRole, InputSpec, Manifest, OutputSpec, Scoring, Spec, container,
};

use crate::baseline;
use crate::engine::{Engine, LoadOptions, Model, TractEngine};
use crate::error::{BoxError, LoadError};
use rows::Rows;
use subject::{Proven, Subject};

pub use error::BuildError;

/// A bundle before anybody has signed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// What is to be signed.
    pub manifest: Manifest,
    /// The files, concatenated.
    pub payload: Vec<u8>,
}

/// Builds the bundle that `spec` describes.
///
/// # Errors
/// [`BuildError`]; nothing is built of a model that this engine computes wrongly here.
pub fn build(spec: &Spec, created_unix_s: u64) -> Result<Built, BuildError> {
    let engine = TractEngine;
    if spec.requires.engine != engine.name() {
        return Err(BuildError::Engine {
            wanted: spec.requires.engine.clone(),
            offered: engine.name(),
        });
    }
    let bytes = read_model(&spec.model)?;
    let subject = Subject::load(spec, &bytes, &options(spec))?;
    check_names(spec, subject.model())?;

    let mut manifest = draft(spec, created_unix_s, subject.model());
    let broken = |source| BuildError::Manifest {
        model: spec.model.clone(),
        source,
    };
    let file = |name: &str, role, bytes| (name.to_owned(), role, bytes);
    // A stand-in for the other files: what is wrong with the spec is said before anything
    // slow is done.
    let mut files = vec![
        file("model.onnx", FileRole::Model, Vec::new()),
        file("golden.bin", FileRole::Golden, Vec::new()),
    ];
    (manifest.files, manifest.chunking, _) = container::pack(files.clone());
    manifest.check().map_err(broken)?;

    let given = golden::given(spec, &manifest, subject.model())?;
    let Proven {
        bytes,
        mut model,
        inputs,
        outputs,
        numerics,
    } = subject.prove(spec, given)?;
    manifest.numerics = numerics;
    let vectors = golden::vectors(inputs, outputs);
    let wrong = |source| BuildError::Golden {
        model: spec.model.clone(),
        outputs: spec.golden.outputs.clone().unwrap_or_default(),
        source,
    };
    let classifier = matches!(spec.scoring, Scoring::Classification { .. });
    let tolerance = spec.golden.tolerance;
    crate::golden::check(model.as_mut(), &vectors, tolerance, classifier).map_err(wrong)?;
    let encoded = vectors.encode().map_err(|e| wrong(LoadError::Golden(e)))?;
    files = vec![
        file("model.onnx", FileRole::Model, bytes),
        file("golden.bin", FileRole::Golden, encoded),
    ];
    if let Some(baseline) = &spec.baseline {
        let encoded = encode_baseline(baseline, &manifest, model)?;
        files.push(file("baseline.bin", FileRole::Baseline, encoded));
    }

    let payload;
    (manifest.files, manifest.chunking, payload) = container::pack(files);
    manifest.check().map_err(broken)?;
    Ok(Built { manifest, payload })
}

fn read_model(path: &Path) -> Result<Vec<u8>, BuildError> {
    let unreadable = |source| BuildError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_TOTAL_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_TOTAL_BYTES {
        return Err(BuildError::ModelTooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// The bounds that a device will load the bundle in.
fn options(spec: &Spec) -> LoadOptions {
    let default = LoadOptions::default();
    match spec.requires.memory_bytes {
        0 => default,
        declared => LoadOptions {
            max_tensor_bytes: declared.min(default.max_tensor_bytes),
            ..default
        },
    }
}

fn check_names(spec: &Spec, model: &dyn Model) -> Result<(), BuildError> {
    let pairs = [
        ("input", &spec.input_tensor, model.input()),
        ("output", &spec.output_tensor, model.output()),
    ];
    for (what, wanted, found) in pairs {
        match wanted {
            Some(wanted) if *wanted != found.name => {
                return Err(BuildError::TensorName {
                    path: spec.model.clone(),
                    what,
                    wanted: wanted.clone(),
                    found: found.name.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn draft(spec: &Spec, created_unix_s: u64, model: &dyn Model) -> Manifest {
    Manifest {
        name: spec.bundle.name.clone(),
        version: spec.bundle.version.clone(),
        counter: spec.bundle.counter,
        epoch: spec.bundle.epoch,
        created_unix_s,
        description: spec.bundle.description.clone(),
        files: Vec::new(),
        chunking: Chunking {
            chunk_bytes: 0,
            digests: Vec::new(),
        },
        requires: spec.requires.clone(),
        input: InputSpec {
            tensor: model.input().clone(),
            channels: spec.channels.clone(),
            window: spec.window,
            normalisation: spec.normalisation.clone(),
            quantisation: spec.input_quantisation,
        },
        output: OutputSpec {
            tensor: model.output().clone(),
            quantisation: spec.output_quantisation,
            scoring: spec.scoring.clone(),
            decision: spec.decision.clone(),
        },
        tolerance: spec.golden.tolerance,
        lineage: spec.lineage.clone(),
        components: spec.components.clone(),
        numerics: None,
    }
}

fn encode_baseline(
    spec: &BaselineSpec,
    manifest: &Manifest,
    model: Box<dyn Model>,
) -> Result<Vec<u8>, BuildError> {
    let unusable = |source: BoxError| BuildError::Baseline {
        path: spec.csv.clone(),
        source,
    };
    let mut rows = Rows::open(&spec.csv, &manifest.input)?;
    let baseline = baseline::compute(manifest, model, &mut rows, spec.bins);
    // A row that was not read ends the rows; why, matters more than what came of the rest.
    if let Some(error) = rows.failed {
        return Err(error);
    }
    let baseline = baseline.map_err(|e| unusable(e.into()))?;
    baseline.encode().map_err(|e| unusable(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy;
    use drover_bundle::{Numerics, ReferenceKind, Tensor};

    fn pump() -> Spec {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models/pump");
        Spec::read(&folder.join("pump-1.0.0.toml")).unwrap()
    }

    fn refusal(spec: &Spec) -> String {
        let error = build(spec, 0).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    }

    #[test]
    fn the_same_spec_and_time_give_the_same_bytes() {
        let built = build(&pump(), 1_700_000_000).unwrap();
        let names: Vec<&str> = built
            .manifest
            .files
            .iter()
            .map(|f| f.name.as_str())
            .collect();
        assert_eq!(names, ["model.onnx", "golden.bin", "baseline.bin"]);
        assert_eq!(built.manifest.input.tensor.name, "window");
        assert_eq!(built.manifest.created_unix_s, 1_700_000_000);
        assert_eq!(build(&pump(), 1_700_000_000).unwrap(), built);

        let files = |role| container::file(&built.manifest, &built.payload, role).unwrap();
        let loaded = crate::LoadedBundle::load(
            &TractEngine,
            &built.manifest,
            files(FileRole::Model),
            files(FileRole::Golden),
        );
        loaded.unwrap();
        let baseline = drover_sketch::Baseline::decode(files(FileRole::Baseline)).unwrap();
        assert_eq!(baseline.features().len(), 7, "six channels and the score");
    }

    #[test]
    fn golden_vectors_that_nobody_brings_are_made() {
        let mut spec = pump();
        (spec.golden.inputs, spec.golden.outputs) = (None, None);
        let built = build(&spec, 0).unwrap();
        let golden = container::file(&built.manifest, &built.payload, FileRole::Golden);
        let vectors = drover_bundle::GoldenVectors::decode(golden.unwrap()).unwrap();
        assert_eq!(vectors.cases.len(), 16, "windows of the baseline");
        let validated = built.manifest.numerics.unwrap();
        assert_eq!(validated.numerics, Numerics::Exact);
        assert_eq!(validated.reference, ReferenceKind::Own);
        assert_eq!(validated.cases, 16);
        assert!(validated.max_steps().unwrap() <= 2.0);
    }

    #[test]
    fn a_model_may_stay_as_it_came() {
        let mut spec = pump();
        spec.compile.numerics = None;
        let built = build(&spec, 0).unwrap();
        assert_eq!(built.manifest.numerics, None);
        let model = container::file(&built.manifest, &built.payload, FileRole::Model);
        assert_eq!(model.unwrap(), std::fs::read(&spec.model).unwrap());
        spec.golden.outputs = None;
        let message = refusal(&spec);
        assert!(message.contains("golden outputs"), "{message}");
    }

    #[test]
    fn a_model_that_is_computed_wrongly_is_not_built() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = pump();
        let right = npy::read(spec.golden.outputs.as_ref().unwrap()).unwrap();
        let off: Vec<f32> = right.to_f32().iter().map(|v| v + 5.0).collect();
        let path = folder.path().join("off.npy");
        let off = Tensor::from_f32(right.shape().to_vec(), &off).unwrap();
        npy::write(&path, &off).unwrap();
        spec.golden.outputs = Some(path);
        let message = refusal(&spec);
        assert!(message.contains("off.npy"), "{message}");
        assert!(message.contains("do not ship it"), "{message}");
    }

    #[test]
    fn each_refusal_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("rows.csv");
        let header = "motor_current_a;discharge_pressure_bar;flow_lpm;motor_temperature_degc;\
                      vibration_x_g;vibration_y_g";
        std::fs::write(&csv, format!("{header}\n1;2;3;4;5;6\n1;2;;four;5;6\n")).unwrap();
        type Break<'a> = &'a dyn Fn(&mut Spec);
        let cases: [(Break<'_>, &[&str]); 10] = [
            (
                &|s| s.model = "no.onnx".into(),
                &["no.onnx", "path in the spec"],
            ),
            (&|s| s.model = csv.clone(), &["rows.csv", "not ONNX"]),
            (&|s| s.requires.engine = "warp".into(), &["warp", "tract"]),
            (
                &|s| s.input_tensor = Some("x".into()),
                &["pump-1.0.0.onnx", "\"window\"", "\"x\""],
            ),
            (
                &|s| s.window.rows = 15,
                &["pump-1.0.0.onnx", "input.window"],
            ),
            (&|s| s.golden.inputs = Some("no.npy".into()), &["no.npy"]),
            (
                &|s| s.golden.inputs = None,
                &["golden_out-1.0.0.npy", "inputs"],
            ),
            (&|s| s.channels.clear(), &["input.channels"]),
            (
                &|s| s.baseline.as_mut().unwrap().csv = csv.clone(),
                &["rows.csv, line 3", "four", "motor_temperature_degc"],
            ),
            (
                &|s| s.channels[0].name = "current".into(),
                &["baseline.csv", "\"current\""],
            ),
        ];
        for (break_it, wanted) in cases {
            let mut spec = pump();
            break_it(&mut spec);
            let message = refusal(&spec);
            for part in wanted {
                assert!(message.contains(part), "{message} lacks {part}");
            }
        }
    }
}
