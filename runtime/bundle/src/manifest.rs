//! The manifest: everything a device must know of a bundle, in one signed payload.
//!
//! Wire form: one version byte, then postcard of [`Manifest`]. Format 1, which knows neither
//! lineage nor components, is still read, and format 2 is what a manifest of an uncompiled model
//! is still written in; see `manifest/format.rs`. Unknown versions, unknown trailing bytes and manifests that break a rule of [`Manifest::check`] are refused, so
//! that a decoded manifest can be used without asking again. The digest of a bundle is the
//! SHA-256 of exactly these bytes.

use serde::{Deserialize, Serialize};

use crate::tensor::DType;

mod check;
mod format;
mod validated;

pub use validated::{Numerics, ReferenceKind, Validated};

/// The newest format version. [`Manifest::encode`] writes it where the model was compiled, and
/// format 2 where not, which older agents read too; [`Manifest::decode`] also reads format 1.
pub const VERSION: u8 = 3;
/// A manifest larger than this is refused before it is parsed.
pub const MAX_BYTES: usize = 128 * 1024;
/// Bundles of more files than this are refused.
pub const MAX_FILES: usize = 64;
/// Manifests of more components than this are refused.
pub const MAX_COMPONENTS: usize = 256;
/// Bundles larger than this are refused, in bytes.
pub const MAX_TOTAL_BYTES: u64 = 512 * 1024 * 1024;

/// The signed description of one bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Model name, `[a-z0-9-]{1,64}`; counters are per name.
    pub name: String,
    /// Version for people, such as `1.4.0`.
    pub version: String,
    /// Strictly increasing per model name; a device never goes below what it has committed.
    pub counter: u64,
    /// Security epoch: raised when older bundles must no longer be installed for a security
    /// reason. The root names the least epoch that a device accepts.
    pub epoch: u64,
    /// When the bundle was built, in seconds since 1970.
    pub created_unix_s: u64,
    /// One line for people.
    pub description: String,
    /// Every file of the bundle, in the order of the container.
    pub files: Vec<FileEntry>,
    /// How the concatenated files are cut for transport.
    pub chunking: Chunking,
    /// What a device must offer.
    pub requires: Requires,
    /// What goes in.
    pub input: InputSpec,
    /// What comes out, and what is made of it.
    pub output: OutputSpec,
    /// How far golden outputs may differ on a device.
    pub tolerance: Tolerance,
    /// Where the model comes from; empty in format 1.
    pub lineage: Lineage,
    /// What the model was made of and with; empty in format 1.
    pub components: Vec<Component>,
    /// What was validated when the model was compiled; nothing of one that is as it came, and
    /// before format 3.
    pub numerics: Option<Validated>,
}

/// Where a model comes from. Drover shows and signs these facts, it does not judge them; an
/// empty text means that nobody has said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Names the run that trained the model, in whatever tracks them.
    pub training_run: String,
    /// Version of the data that it was trained on.
    pub data_version: String,
    /// Commit of the code that trained it.
    pub commit: String,
    /// Who has approved it for devices.
    pub approved_by: String,
    /// Until when it is maintained, in seconds since 1970.
    pub end_of_support_unix_s: Option<u64>,
}

/// Something that a model was made of or with: a base model, a data set, a library for
/// training, quantisation or preprocessing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Name, 1 to 128 visible ASCII characters without `<`, `=` and `>`.
    pub name: String,
    /// Version, 1 to 64 visible ASCII characters.
    pub version: String,
    /// Package URL (`pkg:pypi/torch@2.9.0`), which names it beyond doubt; may be empty.
    pub purl: String,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// `[a-z0-9][a-z0-9._-]{0,63}`: a name, never a path.
    pub name: String,
    /// What the file is for.
    pub role: FileRole,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// What a file of a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRole {
    /// The ONNX graph; exactly one.
    Model,
    /// Encoded [`crate::GoldenVectors`]; exactly one.
    Golden,
    /// Encoded drift baseline; at most one.
    Baseline,
    /// Anything else that the bundle carries, such as a list of labels.
    Asset,
}

/// The cut of the concatenated files into chunks, each with its own digest, so that a bad
/// chunk is refused when it arrives and not after the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    /// Bytes of each chunk but the last.
    pub chunk_bytes: u32,
    /// SHA-256 of each chunk, in order.
    pub digests: Vec<[u8; 32]>,
}

/// What a device must offer to run a bundle; checked before the download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requires {
    /// Engine that was validated, such as `tract`.
    pub engine: String,
    /// Architectures (`x86_64`, `aarch64`, `arm`); empty means any.
    pub arch: Vec<String>,
    /// Memory that the loaded model needs at most, in bytes.
    pub memory_bytes: u64,
}

/// One column of sensor data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Name, as in the source (a CSV header, for example).
    pub name: String,
    /// Unit for people, such as `bar`; empty if there is none.
    pub unit: String,
}

/// How rows become model inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Rows of one window.
    pub rows: u32,
    /// Rows between the starts of two windows.
    pub stride: u32,
}

/// Name, dtype and shape of one model input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Concrete shape, the batch axis of 1 included.
    pub shape: Vec<u32>,
}

/// Affine quantisation, `real = scale * (quantised - zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantisation {
    /// Size of one step.
    pub scale: f32,
    /// Quantised value of real zero.
    pub zero_point: i32,
}

/// How raw sensor values become what the model was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Normalisation {
    /// Values go in as they come.
    None,
    /// `(x - mean) / std`, clipped to `+-clip`; one mean and deviation per channel.
    ZScore {
        /// Per channel, in the channel's unit.
        mean: Vec<f32>,
        /// Per channel, in the channel's unit, above zero.
        std: Vec<f32>,
        /// Bound of the absolute normalised value.
        clip: f32,
    },
    /// `(x - mean) / (std + epsilon)` with mean and population deviation of the first rows
    /// of each stream, clipped to `+-clip`: for sensors whose offset differs per site.
    CalibratedZScore {
        /// Rows at the start of a stream that calibrate it.
        rows: u32,
        /// Added to every deviation.
        epsilon: f32,
        /// Bound of the absolute normalised value.
        clip: f32,
    },
}

/// What the model takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// The model's input.
    pub tensor: TensorSpec,
    /// Columns of a row, in the order of the model.
    pub channels: Vec<Channel>,
    /// Cut of the row stream; a window's elements are row-major, rows x channels.
    pub window: Window,
    /// Preprocessing of each value.
    pub normalisation: Normalisation,
    /// For integer inputs: how normalised values become integers.
    pub quantisation: Option<Quantisation>,
}

/// What is computed from the raw outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scoring {
    /// The first element of the output is the score.
    First,
    /// Mean squared error between the normalised window and the output.
    ReconstructionMse,
    /// The largest element's share after softmax is the score, its index the class.
    Classification {
        /// Name of each class, in the order of the output.
        labels: Vec<String>,
        /// Whether the output already is a probability.
        probabilities: bool,
    },
}

/// How scores become decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decision {
    /// No decision: the score, or the class, speaks for itself.
    None,
    /// Anomalous when the median of the last scores exceeds a fixed threshold.
    Threshold {
        /// In units of the score.
        threshold: f32,
        /// Scores the median is taken over, the current one included; odd.
        median_of: u32,
    },
    /// The same with a threshold of `factor` times a quantile (linear interpolation) of the
    /// first scores of each stream.
    CalibratedQuantile {
        /// Scores at the start of a stream that calibrate it.
        windows: u32,
        /// Quantile in `0..=1`.
        quantile: f32,
        /// Multiplies the quantile.
        factor: f32,
        /// Scores the median is taken over, the current one included; odd.
        median_of: u32,
    },
}

/// What the model gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// The model's output.
    pub tensor: TensorSpec,
    /// For integer outputs: what the integers mean.
    pub quantisation: Option<Quantisation>,
    /// From output to score.
    pub scoring: Scoring,
    /// From score to decision.
    pub decision: Decision,
}

/// How far a device's golden outputs may lie from the expected ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Tolerance {
    /// Integer outputs: at most this many steps.
    Steps(u32),
    /// Float outputs: at most this fraction of the range of the expected outputs.
    RangeFraction(f32),
}

/// Why bytes are not an acceptable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_BYTES`].
    #[error("manifest of {0} bytes is over the limit of {MAX_BYTES}")]
    TooLarge(usize),
    /// Written by a newer or unknown version.
    #[error("manifest format {0} is unknown, this build reads formats 1 to {VERSION}")]
    Version(u8),
    /// Not postcard of a manifest.
    #[error("manifest bytes do not parse")]
    Parse(#[source] postcard::Error),
    /// Bytes after the end.
    #[error("{0} bytes follow the manifest")]
    Trailing(usize),
    /// A rule is broken.
    #[error("manifest field {field} is not acceptable: {why}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Whether `name` may name a file of a bundle.
pub fn is_file_name(name: &str) -> bool {
    name.len() <= 64
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Whether `name` may name a model.
pub fn is_model_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

impl Manifest {
    /// Sum of the sizes of all files, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }

    /// The first file of `role`.
    pub fn file(&self, role: FileRole) -> Option<&FileEntry> {
        self.files.iter().find(|f| f.role == role)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Manifest {
        Manifest {
            name: "pump".into(),
            version: "1.0.0".into(),
            counter: 1,
            epoch: 0,
            created_unix_s: 1_700_000_000,
            description: "a test".into(),
            files: vec![
                FileEntry {
                    name: "model.onnx".into(),
                    role: FileRole::Model,
                    size: 3,
                    sha256: [1; 32],
                },
                FileEntry {
                    name: "golden.bin".into(),
                    role: FileRole::Golden,
                    size: 2,
                    sha256: [2; 32],
                },
            ],
            chunking: Chunking {
                chunk_bytes: 4,
                digests: vec![[3; 32], [4; 32]],
            },
            requires: Requires {
                engine: "tract".into(),
                arch: vec![],
                memory_bytes: 1_000_000,
            },
            input: InputSpec {
                tensor: TensorSpec {
                    name: "x".into(),
                    dtype: DType::F32,
                    shape: vec![1, 4],
                },
                channels: vec![
                    Channel {
                        name: "a".into(),
                        unit: "V".into(),
                    },
                    Channel {
                        name: "b".into(),
                        unit: String::new(),
                    },
                ],
                window: Window { rows: 2, stride: 1 },
                normalisation: Normalisation::None,
                quantisation: None,
            },
            output: OutputSpec {
                tensor: TensorSpec {
                    name: "y".into(),
                    dtype: DType::F32,
                    shape: vec![1, 4],
                },
                quantisation: None,
                scoring: Scoring::ReconstructionMse,
                decision: Decision::Threshold {
                    threshold: 0.5,
                    median_of: 5,
                },
            },
            tolerance: Tolerance::RangeFraction(0.06),
            lineage: Lineage::default(),
            components: Vec::new(),
            numerics: None,
        }
    }

    pub(crate) fn validated() -> Validated {
        Validated {
            numerics: Numerics::Exact,
            source_sha256: [5; 32],
            compiler: "drover 0.1.0".into(),
            reference: ReferenceKind::Own,
            cases: 8,
            max_abs: 0.25,
            mean_abs: 0.125,
            range: 16.0,
            step: Some(0.25),
            argmax: 1.0,
        }
    }

    fn component(name: &str, purl: &str) -> Component {
        Component {
            name: name.into(),
            version: "1".into(),
            purl: purl.into(),
        }
    }

    #[test]
    fn broken_rules_are_named() {
        type Break = fn(&mut Manifest);
        let cases: [(Break, &str); 16] = [
            (|m| m.name = "../x".into(), "field name"),
            (
                |m| m.files[0].name = "../../etc/passwd".into(),
                "field files",
            ),
            (|m| m.files[1].name = "model.onnx".into(), "listed twice"),
            (|m| m.files[0].size = u64::MAX, "field files"),
            (|m| m.chunking.digests.clear(), "field chunking"),
            (|m| m.input.window.rows = 3, "do not fill a tensor"),
            (|m| m.output.tensor.dtype = DType::I8, "output.quantisation"),
            (|m| m.counter = 0, "field counter"),
            (|m| m.lineage.commit = "x".repeat(257), "field lineage"),
            (|m| m.lineage.approved_by = "a\nb".into(), "field lineage"),
            (|m| m.numerics.as_mut().unwrap().cases = 0, "field numerics"),
            (
                |m| m.numerics.as_mut().unwrap().max_abs = f32::NAN,
                "field numerics",
            ),
            (
                |m| m.numerics.as_mut().unwrap().compiler = "a\nb".into(),
                "field numerics",
            ),
            (
                |m| m.components.push(component("a<1", "")),
                "field components",
            ),
            (
                |m| m.components.push(component("a", "https://a")),
                "field components",
            ),
            (
                |m| {
                    m.components
                        .extend([component("a", ""), component("a", "")])
                },
                "listed twice",
            ),
        ];
        for (break_it, wanted) in cases {
            let mut manifest = Manifest {
                numerics: Some(validated()),
                ..sample()
            };
            break_it(&mut manifest);
            let message = manifest.check().unwrap_err().to_string();
            assert!(message.contains(wanted), "{message} lacks {wanted}");
        }
    }
}
