//! Why a bundle is not built. Each message names the file and what to do; the cause is in
//! `source()`.

use std::io;
use std::path::PathBuf;

use drover_bundle::manifest::{MAX_TOTAL_BYTES, ManifestError};

#[cfg(feature = "compile")]
use crate::compile::CompileError;
use crate::error::{BoxError, LoadError};
use crate::npy::NpyError;

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
    /// The model is not compiled, or what was compiled not accepted.
    #[cfg(feature = "compile")]
    #[error("{}: model cannot be compiled", .path.display())]
    Compile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<CompileError>,
    },
    /// The compiled model is further from the golden outputs than its bound.
    #[cfg(feature = "compile")]
    #[error(
        "{} does not give {} here; do not ship it: correct the golden files, or say in \
         [compile] bound what it may lose",
        .model.display(), .outputs.display()
    )]
    Lost {
        /// The model.
        model: PathBuf,
        /// File of reference outputs.
        outputs: PathBuf,
        /// How far.
        source: Box<CompileError>,
    },
    /// Golden vectors that somebody must bring.
    #[error(
        "{}: a model that stays as it came needs golden inputs and golden outputs in [golden], \
         from another engine than this one",
        .path.display()
    )]
    NoGolden {
        /// The model.
        path: PathBuf,
    },
    /// Golden outputs without inputs.
    #[error(
        "{}: these outputs belong to inputs; name their file as inputs in [golden], or leave \
         both to be made",
        .outputs.display()
    )]
    GoldenInputs {
        /// File of outputs.
        outputs: PathBuf,
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
