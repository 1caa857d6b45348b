//! The text from which a bundle is built: `bundle.toml`.
//!
//! It says what an exporter cannot know: names, units, preprocessing, what is made of the
//! output, and where golden vectors and baseline rows lie. Paths are relative to the file.
//! Shapes and dtypes come from the model itself when the bundle is built.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::manifest::{
    Channel, Component, Decision, Lineage, Normalisation, Quantisation, Requires, Scoring,
    Tolerance, Window,
};

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

/// Section `[golden]`.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Inputs as the model takes them.
    pub inputs: PathBuf,
    /// Outputs of a reference.
    pub outputs: PathBuf,
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
                inputs: folder.join(file.golden.inputs),
                outputs: folder.join(file.golden.outputs),
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bundle: BundleSection,
    model: ModelSection,
    #[serde(default)]
    requires: RequiresSection,
    input: InputSection,
    output: OutputSection,
    golden: GoldenSection,
    baseline: Option<BaselineSection>,
    #[serde(default)]
    lineage: LineageSection,
    #[serde(default)]
    component: Vec<ComponentSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelSection {
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RequiresSection {
    engine: String,
    arch: Vec<String>,
    memory_bytes: u64,
}

impl Default for RequiresSection {
    fn default() -> Self {
        Self {
            engine: "tract".to_owned(),
            arch: Vec::new(),
            memory_bytes: 64 << 20,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputSection {
    tensor: Option<String>,
    channels: Vec<ChannelSection>,
    window: WindowSection,
    #[serde(default)]
    normalisation: NormalisationSection,
    quantisation: Option<QuantisationSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelSection {
    name: String,
    #[serde(default)]
    unit: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowSection {
    rows: u32,
    stride: u32,
}

#[derive(Default, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum NormalisationSection {
    #[default]
    None,
    ZScore {
        mean: Vec<f32>,
        std: Vec<f32>,
        clip: f32,
    },
    CalibratedZScore {
        rows: u32,
        epsilon: f32,
        clip: f32,
    },
}

impl From<NormalisationSection> for Normalisation {
    fn from(section: NormalisationSection) -> Self {
        match section {
            NormalisationSection::None => Self::None,
            NormalisationSection::ZScore { mean, std, clip } => Self::ZScore { mean, std, clip },
            NormalisationSection::CalibratedZScore {
                rows,
                epsilon,
                clip,
            } => Self::CalibratedZScore {
                rows,
                epsilon,
                clip,
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuantisationSection {
    scale: f32,
    zero_point: i32,
}

impl From<QuantisationSection> for Quantisation {
    fn from(section: QuantisationSection) -> Self {
        Self {
            scale: section.scale,
            zero_point: section.zero_point,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputSection {
    tensor: Option<String>,
    quantisation: Option<QuantisationSection>,
    scoring: ScoringSection,
    #[serde(default)]
    decision: DecisionSection,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum ScoringSection {
    First,
    ReconstructionMse,
    Classification {
        labels: Vec<String>,
        probabilities: bool,
    },
}

impl From<ScoringSection> for Scoring {
    fn from(section: ScoringSection) -> Self {
        match section {
            ScoringSection::First => Self::First,
            ScoringSection::ReconstructionMse => Self::ReconstructionMse,
            ScoringSection::Classification {
                labels,
                probabilities,
            } => Self::Classification {
                labels,
                probabilities,
            },
        }
    }
}

fn one() -> u32 {
    1
}

#[derive(Default, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum DecisionSection {
    #[default]
    None,
    Threshold {
        threshold: f32,
        #[serde(default = "one")]
        median_of: u32,
    },
    CalibratedQuantile {
        windows: u32,
        quantile: f32,
        factor: f32,
        #[serde(default = "one")]
        median_of: u32,
    },
}

impl From<DecisionSection> for Decision {
    fn from(section: DecisionSection) -> Self {
        match section {
            DecisionSection::None => Self::None,
            DecisionSection::Threshold {
                threshold,
                median_of,
            } => Self::Threshold {
                threshold,
                median_of,
            },
            DecisionSection::CalibratedQuantile {
                windows,
                quantile,
                factor,
                median_of,
            } => Self::CalibratedQuantile {
                windows,
                quantile,
                factor,
                median_of,
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenSection {
    inputs: PathBuf,
    outputs: PathBuf,
    tolerance: ToleranceSection,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum ToleranceSection {
    Range { fraction: f32 },
    Steps { steps: u32 },
}

impl From<ToleranceSection> for Tolerance {
    fn from(section: ToleranceSection) -> Self {
        match section {
            ToleranceSection::Range { fraction } => Self::RangeFraction(fraction),
            ToleranceSection::Steps { steps } => Self::Steps(steps),
        }
    }
}

fn sixteen() -> usize {
    16
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaselineSection {
    csv: PathBuf,
    #[serde(default = "sixteen")]
    bins: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LineageSection {
    training_run: String,
    data_version: String,
    commit: String,
    approved_by: String,
    end_of_support_unix_s: Option<u64>,
}

impl From<LineageSection> for Lineage {
    fn from(section: LineageSection) -> Self {
        Self {
            training_run: section.training_run,
            data_version: section.data_version,
            commit: section.commit,
            approved_by: section.approved_by,
            end_of_support_unix_s: section.end_of_support_unix_s,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComponentSection {
    name: String,
    version: String,
    #[serde(default)]
    purl: String,
}

impl From<ComponentSection> for Component {
    fn from(section: ComponentSection) -> Self {
        Self {
            name: section.name,
            version: section.version,
            purl: section.purl,
        }
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
        assert_eq!(spec.golden.outputs, Path::new("/models/out.npy"));
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
    fn a_typo_is_named_with_its_line() {
        let text = TEXT.replace("counter = 1", "countr = 1");
        let message = Spec::parse(&text, Path::new(".")).unwrap_err().to_string();
        assert!(
            message.contains("countr") && message.contains("line 5"),
            "{message}"
        );
    }
}
