//! The text from which a bundle is built: `bundle.toml`.
//!
//! It says what an exporter cannot know: names, units, preprocessing, what is made of the
//! output, and where golden vectors and baseline rows lie. Paths are relative to the file.
//! Shapes and dtypes come from the model itself when the bundle is built.

mod bound;
mod section;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::manifest::{
    Channel, Component, Decision, Lineage, Normalisation, Numerics, Quantisation, Requires,
    Scoring, Tolerance, Window,
};

use section::File;

pub use bound::{Bound, BoundError};

/// Why a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the bundle spec {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not such a spec; the source names line and key.
    #[error("{path} is not a bundle spec")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// A parsed `bundle.toml`, its paths made absolute to the file's folder.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Names and versions.
    pub bundle: BundleSection,
    /// Path of the ONNX file.
    pub model: PathBuf,
    /// How the model is compiled.
    pub compile: Compile,
    /// What a device must offer.
    pub requires: Requires,
    /// Name of the model's input; the only one when absent.
    pub input_tensor: Option<String>,
    /// Name of the model's output; the first one when absent.
    pub output_tensor: Option<String>,
    /// Columns of a row.
    pub channels: Vec<Channel>,
    /// Cut of the row stream.
    pub window: Window,
    /// Preprocessing.
    pub normalisation: Normalisation,
    /// Of integer inputs.
    pub input_quantisation: Option<Quantisation>,
    /// Of integer outputs.
    pub output_quantisation: Option<Quantisation>,
    /// From output to score.
    pub scoring: Scoring,
    /// From score to decision.
    pub decision: Decision,
    /// Golden inputs and outputs (.npy, first axis = cases), and how far a device may be off.
    pub golden: Golden,
    /// Rows of normal operation, from which the drift baseline is computed.
    pub baseline: Option<Baseline>,
    /// Where the model comes from.
    pub lineage: Lineage,
    /// What the model was made of and with.
    pub components: Vec<Component>,
}

/// Section `[bundle]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleSection {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Release counter.
    pub counter: u64,
    /// Security epoch; `security_epoch` in specs of older versions.
    #[serde(default, alias = "security_epoch")]
    pub epoch: u64,
    /// One line for people.
    #[serde(default)]
    pub description: String,
}

/// Section `[compile]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Compile {
    /// In which numbers the model is to compute; it goes into the bundle as it came when absent.
    pub numerics: Option<Numerics>,
    /// What compiling may lose; defaults of the compiler when empty.
    pub bounds: Vec<Bound>,
    /// Whether onnxruntime computes absent golden outputs, and not the compiler itself.
    pub onnxruntime: bool,
}

impl Default for Compile {
    fn default() -> Self {
        Self {
            numerics: Some(Numerics::Exact),
            bounds: Vec::new(),
            onnxruntime: false,
        }
    }
}

/// Section `[golden]`.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Inputs as the model takes them; when absent, windows of the baseline's rows.
    pub inputs: Option<PathBuf>,
    /// Outputs of a reference for these inputs; computed when absent.
    pub outputs: Option<PathBuf>,
    /// How far a device may be off.
    pub tolerance: Tolerance,
}

/// Section `[baseline]`.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// CSV with a header that names the channels.
    pub csv: PathBuf,
    /// Bins per feature.
    pub bins: usize,
}

impl Spec {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`SpecError`]; the files that the spec names are not opened yet.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path).map_err(|source| SpecError::Read {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).map_err(|source| SpecError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Parses the text of a spec that lies in `folder`.
    ///
    /// # Errors
    /// What `toml` says is wrong, with its line.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, toml::de::Error> {
        let file: File = toml::from_str(text)?;
        Ok(Self {
            model: folder.join(file.model.file),
            compile: file.compile.into(),
            requires: Requires {
                engine: file.requires.engine,
                arch: file.requires.arch,
                memory_bytes: file.requires.memory_bytes,
            },
            input_tensor: file.input.tensor,
            output_tensor: file.output.tensor,
            channels: file
                .input
                .channels
                .into_iter()
                .map(|c| Channel {
                    name: c.name,
                    unit: c.unit,
                })
                .collect(),
            window: Window {
                rows: file.input.window.rows,
                stride: file.input.window.stride,
            },
            normalisation: file.input.normalisation.into(),
            input_quantisation: file.input.quantisation.map(Into::into),
            output_quantisation: file.output.quantisation.map(Into::into),
            scoring: file.output.scoring.into(),
            decision: file.output.decision.into(),
            golden: Golden {
                inputs: file.golden.inputs.map(|f| folder.join(f)),
                outputs: file.golden.outputs.map(|f| folder.join(f)),
                tolerance: file.golden.tolerance.into(),
            },
            baseline: file.baseline.map(|b| Baseline {
                csv: folder.join(b.csv),
                bins: b.bins,
            }),
            lineage: file.lineage.into(),
            components: file.component.into_iter().map(Into::into).collect(),
            bundle: file.bundle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [bundle]
        name = "pump"
        version = "1.0.0"
        counter = 1
        [model]
        file = "pump.onnx"
        [input]
        window = { rows = 16, stride = 1 }
        normalisation = { kind = "z-score", mean = [1.0], std = [2.0], clip = 8.0 }
        [[input.channels]]
        name = "a"
        unit = "A"
        [output]
        scoring = { kind = "reconstruction-mse" }
        decision = { kind = "threshold", threshold = 0.5, median_of = 5 }
        [golden]
        inputs = "in.npy"
        outputs = "out.npy"
        tolerance = { kind = "range", fraction = 0.06 }
    "#;

    #[test]
    fn paths_are_relative_to_the_file() {
        let spec = Spec::parse(TEXT, Path::new("/models")).unwrap();
        assert_eq!(spec.model, Path::new("/models/pump.onnx"));
        let outputs = spec.golden.outputs.unwrap();
        assert_eq!(outputs, Path::new("/models/out.npy"));
        assert_eq!(spec.requires.engine, "tract");
        assert_eq!(
            spec.decision,
            Decision::Threshold {
                threshold: 0.5,
                median_of: 5
            }
        );
    }

    #[test]
    fn lineage_and_components_are_read_and_may_be_absent() {
        let bare = Spec::parse(TEXT, Path::new(".")).unwrap();
        assert_eq!((bare.lineage, bare.components), Default::default());
        let text = TEXT.replace("counter = 1", "counter = 1\nepoch = 7");
        let origin = r#"
            [lineage]
            training_run = "runs/417"
            end_of_support_unix_s = 1900000000
            [[component]]
            name = "torch"
            version = "2.9.0"
            purl = "pkg:pypi/torch@2.9.0"
            [[component]]
            name = "pump-rows"
            version = "2026-10"
        "#;
        let spec = Spec::parse(&format!("{text}{origin}"), Path::new(".")).unwrap();
        assert_eq!(spec.bundle.epoch, 7);
        assert_eq!(spec.lineage.training_run, "runs/417");
        assert_eq!(spec.lineage.end_of_support_unix_s, Some(1_900_000_000));
        let named: Vec<_> = spec
            .components
            .iter()
            .map(|c| (&*c.name, &*c.purl))
            .collect();
        assert_eq!(
            named,
            [("torch", "pkg:pypi/torch@2.9.0"), ("pump-rows", "")]
        );
    }

    #[test]
    fn what_compiles_is_read_and_may_be_absent() {
        let bare = Spec::parse(TEXT, Path::new(".")).unwrap();
        assert_eq!(bare.compile, Compile::default());
        let with = |section: &str| {
            let text = TEXT.replace("[model]", &format!("[compile]\n{section}\n[model]"));
            Spec::parse(&text, Path::new(".")).map(|spec| spec.compile)
        };
        let full =
            "numerics = \"float\"\nbound = [\"range=0.01\", \"argmax=0.9\"]\nreference = \"ort\"";
        let wanted = Compile {
            numerics: Some(Numerics::Float),
            bounds: vec![Bound::Range(0.01), Bound::Argmax(0.9)],
            onnxruntime: true,
        };
        assert_eq!(with(full).unwrap(), wanted);
        assert_eq!(with("numerics = \"none\"").unwrap().numerics, None);
        let one = with("bound = \"steps=3\"").unwrap();
        assert_eq!(one.bounds, [Bound::Steps(3.0)]);
        let message = with("bound = \"3\"").unwrap_err().to_string();
        assert!(message.contains("write steps=2"), "{message}");
    }

    #[test]
    fn a_typo_is_named_with_its_line() {
        let text = TEXT.replace("counter = 1", "countr = 1");
        let message = Spec::parse(&text, Path::new(".")).unwrap_err().to_string();
        assert!(
            message.contains("countr") && message.contains("line 5"),
            "{message}"
        );
    }
}
