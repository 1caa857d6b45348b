//! Why a model is not loaded, and why a run of it failed.
//!
//! Display says what is wrong and what to do about it; what the engine's library said is in
//! `source()`. The errors of streams are in [`crate::pipeline`].

use drover_bundle::golden::GoldenError;
use drover_bundle::{DType, TensorSpec};

/// A cause from a library whose types do not show in this crate's interface.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a model was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Over [`crate::LoadOptions::max_model_bytes`].
    #[error("model of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Length of the model.
        bytes: usize,
        /// The limit.
        limit: u64,
    },
    /// Not a protobuf of an ONNX model.
    #[error("model bytes are not ONNX: the file is cut short, damaged or of another format")]
    NotOnnx(#[source] BoxError),
    /// A model without a graph.
    #[error("model has no graph: the file is empty or not ONNX")]
    NoGraph,
    /// Weights outside the file.
    #[error(
        "tensor \"{tensor}\" keeps its data in another file; save the model with its weights \
         inside it (`onnx.save_model` with `save_as_external_data=False`)"
    )]
    ExternalData {
        /// The tensor.
        tensor: String,
    },
    /// Another number of inputs than one.
    #[error(
        "graph has {} inputs ({}), exactly one is supported; join them into one or turn the \
         others into constants",
        .names.len(), .names.join(", ")
    )]
    Inputs {
        /// All inputs that are not initialisers.
        names: Vec<String>,
    },
    /// A graph that gives nothing.
    #[error("graph has no output")]
    NoOutput,
    /// A size that is not known before the data are there.
    #[error(
        "{tensor} has no fixed size along axis {axis} ({symbol}); only the first axis of the \
         input may be left open, export the model with fixed sizes"
    )]
    Symbolic {
        /// Which tensor, such as `input "x"`.
        tensor: String,
        /// Axis, from 0.
        axis: usize,
        /// What stands in place of the size.
        symbol: String,
    },
    /// Operators that the engine does not have.
    #[error(
        "{engine} does not implement {}; rewrite the graph without {}",
        .nodes.join(", "), if .nodes.len() == 1 { "it" } else { "them" }
    )]
    Operators {
        /// The engine.
        engine: &'static str,
        /// Operator and node, the first few.
        nodes: Vec<String>,
    },
    /// An attribute that asks for what no tensor has.
    #[error("attribute {attribute} of {node} {why}; the model is damaged or was made by hand")]
    Attribute {
        /// Operator and node.
        node: String,
        /// Name of the attribute.
        attribute: String,
        /// What it asks for.
        why: &'static str,
    },
    /// An element type that tensors do not have.
    #[error("{tensor} holds {found}; supported are f32, i8, u8, i32 and i64")]
    ElementType {
        /// Which tensor, such as `output "y"`.
        tensor: String,
        /// Its element type.
        found: String,
    },
    /// A value in the graph is over [`crate::LoadOptions::max_tensor_bytes`].
    #[error("node \"{node}\" makes a value of {bytes} bytes, over the limit of {limit}")]
    ValueTooLarge {
        /// The node.
        node: String,
        /// Bytes of the value.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The engine's library refused the graph.
    #[error("{engine} could not {stage} the graph")]
    Graph {
        /// The engine.
        engine: &'static str,
        /// What it was doing.
        stage: &'static str,
        /// What it said; names the node.
        source: BoxError,
    },
    /// The engine's library panicked on the graph.
    #[error("{engine} broke down while it tried to {stage} the graph: {message}")]
    Panicked {
        /// The engine.
        engine: &'static str,
        /// What it was doing.
        stage: &'static str,
        /// The panic's message.
        message: String,
    },
    /// The manifest was validated with another engine.
    #[error("bundle asks for engine \"{wanted}\", this is \"{offered}\"")]
    Engine {
        /// What the manifest asks for.
        wanted: String,
        /// What there is.
        offered: &'static str,
    },
    /// Manifest and graph disagree.
    #[error(transparent)]
    Spec(#[from] SpecMismatch),
    /// The golden vectors do not parse, or the model's outputs do not match them.
    #[error(
        "model is refused by its golden vectors: this engine does not compute it as the \
         reference did"
    )]
    Golden(#[from] GoldenError),
    /// The model did not run on a golden input.
    #[error("model did not run on golden case {case}")]
    GoldenRun {
        /// Which case, from 0.
        case: usize,
        /// What happened.
        source: RunError,
    },
}

/// Why one run of a model failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The input does not have the element type and shape of the model's.
    #[error("input is {got_dtype} {got:?}, the model takes {dtype} {wanted:?}")]
    Input {
        /// Element type of the model's input.
        dtype: DType,
        /// Shape of the model's input.
        wanted: Vec<u32>,
        /// Element type given.
        got_dtype: DType,
        /// Shape given.
        got: Vec<usize>,
    },
    /// The engine's library failed.
    #[error("model run failed")]
    Engine(#[source] BoxError),
    /// The engine's library panicked; the model was set up anew.
    #[error("model run broke down: {0}")]
    Panicked(String),
}

/// Manifest and model disagree on an input or output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "manifest says {what} is {}, the model has {}; build the bundle from this model",
    describe(.manifest), describe(.model)
)]
pub struct SpecMismatch {
    /// `input` or `output`.
    pub what: &'static str,
    /// As in the manifest.
    pub manifest: Box<TensorSpec>,
    /// As in the graph.
    pub model: Box<TensorSpec>,
}

fn describe(spec: &TensorSpec) -> String {
    format!("\"{}\" {} {:?}", spec.name, spec.dtype, spec.shape)
}
