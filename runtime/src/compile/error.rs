//! Why a model is not compiled, or what was compiled is not accepted. Each message says what
//! to do; the cause is in `source()`.

use std::path::PathBuf;

use drover_bundle::TensorSpec;
use drover_bundle::compile::CompileError as Refusal;
use drover_bundle::compile::eval::EvalError;

use crate::error::{BoxError, LoadError, RunError};

/// Why a model is not compiled, or what was compiled is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The compiler does not take the model.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine does not take what was compiled.
    #[error("the compiled model does not load; keep the model as it came (numerics none)")]
    Load(#[source] LoadError),
    /// The engine takes the compiled model and does not run it.
    #[error("the compiled model does not run on case {case}")]
    Run {
        /// Which case, from 0.
        case: usize,
        /// What happened.
        source: RunError,
    },
    /// Inputs, outputs or labels that are not of this model.
    #[error(
        "the {what} hold {found}, the model's {tensor} \"{}\" is {} {:?}; the first axis is the \
         number of cases, the rest one {tensor} each",
        .wanted.name, .wanted.dtype, .wanted.shape
    )]
    Form {
        /// `inputs` or `outputs`.
        what: &'static str,
        /// `input` or `output`.
        tensor: &'static str,
        /// Type and shape there are.
        found: String,
        /// What the model has.
        wanted: Box<TensorSpec>,
    },
    /// Another number of outputs or labels than of inputs.
    #[error("there are {inputs} inputs and {got} {what}; give one for each input")]
    Cases {
        /// `outputs` or `labels`.
        what: &'static str,
        /// Cases of inputs.
        inputs: usize,
        /// Cases of the others.
        got: usize,
    },
    /// The reference cannot compute the model as it came.
    #[error(
        "no reference outputs: the model as it came cannot be computed here; give outputs, or \
         let onnxruntime compute them (--reference ort)"
    )]
    Reference(#[source] EvalError),
    /// The reference gives a type that no model output has.
    #[error("the reference's output of case {case} is of type {found}, which no output may have")]
    ReferenceType {
        /// Which case, from 0.
        case: usize,
        /// Its element type.
        found: String,
    },
    /// The engine, asked in place of the reference, does not compute the float model.
    #[error("no reference outputs: the engine does not compute the model as it came")]
    Engine(#[source] BoxError),
    /// No onnxruntime, or it does not compute the model.
    #[error(
        "{} did not compute the reference outputs with onnxruntime; install the packages \
         onnxruntime and numpy for it, or name another Python with --python: {message}",
        .python.display()
    )]
    Ort {
        /// Which Python.
        python: PathBuf,
        /// What it said last.
        message: String,
    },
    /// Files to and from Python.
    #[error("files for onnxruntime cannot be written or read")]
    Exchange(#[source] BoxError),
    /// A bound on what this compile cannot measure.
    #[error("the bound {bound} cannot be held against this model: {why}")]
    Bound {
        /// The bound.
        bound: String,
        /// What is missing, and what to do.
        why: &'static str,
    },
    /// More was lost than the bound allows.
    #[error(
        "the compiled model loses more than its bound: {figure}, the bound is {bound} \
         ({reference} reference, {cases} cases, {numerics} numerics); raise the bound if that \
         is acceptable{advice}"
    )]
    Lost {
        /// What was measured.
        figure: String,
        /// The bound.
        bound: String,
        /// Who computed the reference.
        reference: &'static str,
        /// Inputs it was measured on.
        cases: usize,
        /// In which numerics.
        numerics: &'static str,
        /// What else may help, with its separator; may be empty.
        advice: &'static str,
    },
}
