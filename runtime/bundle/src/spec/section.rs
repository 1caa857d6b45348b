//! The sections of `bundle.toml` as they are written: unknown names are refused, and what may
//! be left out has its default here.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Bound, BundleSection, Compile};
use crate::manifest::{
    Component, Decision, Lineage, Normalisation, Numerics, Quantisation, Scoring, Tolerance,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) bundle: BundleSection,
    pub(super) model: ModelSection,
    #[serde(default)]
    pub(super) compile: CompileSection,
    #[serde(default)]
    pub(super) requires: RequiresSection,
    pub(super) input: InputSection,
    pub(super) output: OutputSection,
    pub(super) golden: GoldenSection,
    pub(super) baseline: Option<BaselineSection>,
    #[serde(default)]
    pub(super) lineage: LineageSection,
    #[serde(default)]
    pub(super) component: Vec<ComponentSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelSection {
    pub(super) file: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CompileSection {
    numerics: NumericsName,
    bound: Bounds,
    reference: ReferenceName,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NumericsName {
    #[default]
    Exact,
    Float,
    None,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReferenceName {
    #[default]
    Own,
    Ort,
}

/// One bound or several; all must hold.
#[derive(Default)]
struct Bounds(Vec<Bound>);

impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            One(String),
            Several(Vec<String>),
        }
        let texts = match Text::deserialize(deserializer)? {
            Text::One(text) => vec![text],
            Text::Several(texts) => texts,
        };
        let bounds: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
        bounds.map(Self).map_err(D::Error::custom)
    }
}

impl From<CompileSection> for Compile {
    fn from(section: CompileSection) -> Self {
        Self {
            numerics: match section.numerics {
                NumericsName::Exact => Some(Numerics::Exact),
                NumericsName::Float => Some(Numerics::Float),
                NumericsName::None => None,
            },
            bounds: section.bound.0,
            onnxruntime: matches!(section.reference, ReferenceName::Ort),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RequiresSection {
    pub(super) engine: String,
    pub(super) arch: Vec<String>,
    pub(super) memory_bytes: u64,
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
pub(super) struct InputSection {
    pub(super) tensor: Option<String>,
    pub(super) channels: Vec<ChannelSection>,
    pub(super) window: WindowSection,
    #[serde(default)]
    pub(super) normalisation: NormalisationSection,
    pub(super) quantisation: Option<QuantisationSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelSection {
    pub(super) name: String,
    #[serde(default)]
    pub(super) unit: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowSection {
    pub(super) rows: u32,
    pub(super) stride: u32,
}

#[derive(Default, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum NormalisationSection {
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
pub(super) struct QuantisationSection {
    pub(super) scale: f32,
    pub(super) zero_point: i32,
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
pub(super) struct OutputSection {
    pub(super) tensor: Option<String>,
    pub(super) quantisation: Option<QuantisationSection>,
    pub(super) scoring: ScoringSection,
    #[serde(default)]
    pub(super) decision: DecisionSection,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum ScoringSection {
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
pub(super) enum DecisionSection {
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
pub(super) struct GoldenSection {
    pub(super) inputs: Option<PathBuf>,
    pub(super) outputs: Option<PathBuf>,
    pub(super) tolerance: ToleranceSection,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum ToleranceSection {
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
pub(super) struct BaselineSection {
    pub(super) csv: PathBuf,
    #[serde(default = "sixteen")]
    pub(super) bins: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LineageSection {
    pub(super) training_run: String,
    pub(super) data_version: String,
    pub(super) commit: String,
    pub(super) approved_by: String,
    pub(super) end_of_support_unix_s: Option<u64>,
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
pub(super) struct ComponentSection {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) purl: String,
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
