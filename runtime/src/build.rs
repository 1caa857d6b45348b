//! Makes a bundle of a spec: the model with its golden vectors and its drift baseline.
//!
//! The manifest's tensors come from the model as this engine loads it, and a model whose
//! golden vectors this engine does not reproduce on this machine is not built. The same
//! spec, files and time give the same bytes. Nothing is signed and nothing is written here.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use drover_bundle::manifest::{MAX_TOTAL_BYTES, ManifestError};
use drover_bundle::spec::Baseline as BaselineSpec;
use drover_bundle::{
    Chunking, FileRole, GoldenVectors, InputSpec, Manifest, OutputSpec, Scoring, Spec, Tensor,
    TensorSpec, container,
};

use crate::baseline;
use crate::engine::{Engine, LoadOptions, Model, TractEngine};
use crate::error::{BoxError, LoadError};
use crate::golden;
use crate::npy::{self, NpyError};
use crate::pipeline::ChannelMap;

/// A bundle before anybody has signed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// What is to be signed.
    pub manifest: Manifest,
    /// The files, concatenated.
    pub payload: Vec<u8>,
}

/// Why a bundle is not built. Each message names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The spec asks for an engine that this build does not have.
    #[error("[requires] engine is \"{wanted}\", this build has \"{offered}\"; name that one")]
    Engine {
        /// What the spec asks for.
        wanted: String,
        /// What there is.
        offered: &'static str,
    },
    /// A file cannot be read.
    #[error("{}: file cannot be read; correct the path in the spec", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A model over what a bundle holds.
    #[error("{}: larger than {MAX_TOTAL_BYTES} bytes, the limit of a bundle", .path.display())]
    ModelTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The engine does not take the model.
    #[error("{}: model cannot be used", .path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The spec names another tensor than the model has.
    #[error(
        "{}: the model's {what} is \"{found}\", the spec says \"{wanted}\"; correct \
         [{what}] tensor",
        .path.display()
    )]
    TensorName {
        /// The model.
        path: PathBuf,
        /// `input` or `output`.
        what: &'static str,
        /// In the spec.
        wanted: String,
        /// In the graph.
        found: String,
    },
    /// Spec and model together break a rule of manifests.
    #[error("the spec does not fit {}", .model.display())]
    Manifest {
        /// The model.
        model: PathBuf,
        /// Which rule.
        source: ManifestError,
    },
    /// A golden file that does not parse.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A golden file of another type or shape than the model's tensor.
    #[error(
        "{}: holds {found}, the model's {what} is {wanted}; the first axis is the number of \
         cases, the rest one {what} each",
        .path.display()
    )]
    GoldenForm {
        /// The file.
        path: PathBuf,
        /// `input` or `output`.
        what: &'static str,
        /// In the file.
        found: String,
        /// In the model.
        wanted: String,
    },
    /// Another number of inputs than of outputs.
    #[error(
        "{}: holds {got} cases, {} holds {wanted}; store one output per input",
        .outputs.display(), .inputs.display()
    )]
    GoldenCases {
        /// File of inputs.
        inputs: PathBuf,
        /// File of outputs.
        outputs: PathBuf,
        /// Cases of inputs.
        wanted: usize,
        /// Cases of outputs.
        got: usize,
    },
    /// The engine does not compute what the reference did.
    #[error(
        "{} does not give {} here; do not ship it: export it in another form, or correct the \
         golden files",
        .model.display(), .outputs.display()
    )]
    Golden {
        /// The model.
        model: PathBuf,
        /// File of reference outputs.
        outputs: PathBuf,
        /// Which case, and by how much.
        source: LoadError,
    },
    /// A file of rows that is no usable baseline.
    #[error("{}: no drift baseline can be made of it", .path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// A field of a CSV file that is not a number.
    #[error(
        "{}, line {line}: \"{text}\" in column \"{column}\" is not a number; leave missing \
         values empty",
        .path.display()
    )]
    Number {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Name of the channel.
        column: String,
        /// The field.
        text: String,
    },
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
    let refused = |source| BuildError::Model {
        path: spec.model.clone(),
        source,
    };
    let mut model = engine.load(&bytes, &options(spec)).map_err(refused)?;
    check_names(spec, model.as_ref())?;

    let mut manifest = draft(spec, created_unix_s, model.as_ref());
    let broken = |source| BuildError::Manifest {
        model: spec.model.clone(),
        source,
    };
    let file = |name: &str, role, bytes| (name.to_owned(), role, bytes);
    // A stand-in for the other files: what is wrong with the spec is said before anything
    // slow is done.
    let mut files = vec![
        file("model.onnx", FileRole::Model, bytes),
        file("golden.bin", FileRole::Golden, Vec::new()),
    ];
    (manifest.files, manifest.chunking, _) = container::pack(files.clone());
    manifest.check().map_err(broken)?;

    let vectors = golden_vectors(spec, model.as_ref())?;
    let wrong = |source| BuildError::Golden {
        model: spec.model.clone(),
        outputs: spec.golden.outputs.clone(),
        source,
    };
    let classifier = matches!(spec.scoring, Scoring::Classification { .. });
    golden::check(model.as_mut(), &vectors, spec.golden.tolerance, classifier).map_err(wrong)?;
    let encoded = vectors.encode().map_err(|e| wrong(LoadError::Golden(e)))?;
    files.truncate(1);
    files.push(file("golden.bin", FileRole::Golden, encoded));
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
        security_epoch: spec.bundle.security_epoch,
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
    }
}

fn golden_vectors(spec: &Spec, model: &dyn Model) -> Result<GoldenVectors, BuildError> {
    let (inputs_path, outputs_path) = (&spec.golden.inputs, &spec.golden.outputs);
    let inputs = npy::read(inputs_path)?;
    let outputs = npy::read(outputs_path)?;
    let wanted = check_golden(inputs_path, "input", &inputs, model.input())?;
    let got = check_golden(outputs_path, "output", &outputs, model.output())?;
    if wanted != got {
        return Err(BuildError::GoldenCases {
            inputs: inputs_path.clone(),
            outputs: outputs_path.clone(),
            wanted,
            got,
        });
    }
    golden::from_batches(model, &inputs, &outputs).map_err(|e| BuildError::Golden {
        model: spec.model.clone(),
        outputs: outputs_path.clone(),
        source: LoadError::Golden(e),
    })
}

/// The number of cases in `batch`.
fn check_golden(
    path: &Path,
    what: &'static str,
    batch: &Tensor,
    spec: &TensorSpec,
) -> Result<usize, BuildError> {
    let item: usize = spec.shape.iter().map(|&d| d as usize).product();
    let cases = batch.shape().first().copied().unwrap_or(0);
    if cases > 0 && batch.dtype() == spec.dtype && batch.len() == cases * item {
        return Ok(cases);
    }
    Err(BuildError::GoldenForm {
        path: path.to_owned(),
        what,
        found: format!("{} {:?}", batch.dtype(), batch.shape()),
        wanted: format!("{} {:?}", spec.dtype, spec.shape),
    })
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

/// Rows of a CSV file in the order of the model's channels, until the first that is wrong.
struct Rows {
    path: PathBuf,
    channels: Vec<String>,
    columns: ChannelMap,
    reader: csv::Reader<File>,
    record: csv::StringRecord,
    failed: Option<BuildError>,
}

impl Rows {
    fn open(path: &Path, input: &InputSpec) -> Result<Self, BuildError> {
        let unreadable = |source| BuildError::Read {
            path: path.to_owned(),
            source,
        };
        let unusable = |source: BoxError| BuildError::Baseline {
            path: path.to_owned(),
            source,
        };
        let mut head = String::new();
        let file = File::open(path).map_err(unreadable)?;
        // Of a first line that is longer or not text, the reader will say what is wrong.
        let _ = io::BufReader::new(file.take(64 * 1024)).read_line(&mut head);
        let delimiter = match head.matches(';').count() > head.matches(',').count() {
            true => b';',
            false => b',',
        };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .from_path(path)
            .map_err(|e| unusable(e.into()))?;
        let header = reader.headers().map_err(|e| unusable(e.into()))?;
        let header: Vec<&str> = header.iter().collect();
        let columns = ChannelMap::from_header(&header, input).map_err(|e| unusable(e.into()))?;
        Ok(Self {
            path: path.to_owned(),
            channels: input.channels.iter().map(|c| c.name.clone()).collect(),
            columns,
            reader,
            record: csv::StringRecord::new(),
            failed: None,
        })
    }

    fn read(&mut self) -> Result<Option<Vec<f32>>, BuildError> {
        let more = self.reader.read_record(&mut self.record);
        let more = more.map_err(|e| BuildError::Baseline {
            path: self.path.clone(),
            source: e.into(),
        })?;
        if !more {
            return Ok(None);
        }
        let mut row = Vec::with_capacity(self.channels.len());
        for (&index, channel) in self.columns.indices().iter().zip(&self.channels) {
            let text = self.record.get(index).unwrap_or("").trim();
            let value = match text {
                "" => Ok(f32::NAN),
                text => text.parse(),
            };
            row.push(value.map_err(|_| BuildError::Number {
                path: self.path.clone(),
                line: self.record.position().map_or(0, csv::Position::line),
                column: channel.clone(),
                text: text.to_owned(),
            })?);
        }
        Ok(Some(row))
    }
}

impl Iterator for Rows {
    type Item = Vec<f32>;

    fn next(&mut self) -> Option<Vec<f32>> {
        self.read().unwrap_or_else(|error| {
            self.failed = Some(error);
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_model_that_is_computed_wrongly_is_not_built() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = pump();
        let right = npy::read(&spec.golden.outputs).unwrap();
        let off: Vec<f32> = right.to_f32().iter().map(|v| v + 5.0).collect();
        spec.golden.outputs = folder.path().join("off.npy");
        let off = Tensor::from_f32(right.shape().to_vec(), &off).unwrap();
        npy::write(&spec.golden.outputs, &off).unwrap();
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
        let cases: [(Break<'_>, &[&str]); 9] = [
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
            (&|s| s.golden.inputs = "no.npy".into(), &["no.npy"]),
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
