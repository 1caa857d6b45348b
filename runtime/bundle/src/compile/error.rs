//! Why a model cannot be compiled.

/// What stands in the way, with the place in the model.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are no protobuf of a model.
    #[error("the file is not ONNX")]
    NotOnnx(#[source] prost::DecodeError),
    /// The file breaks a rule of ONNX.
    #[error("the model is not valid ONNX: {0}")]
    Invalid(String),
    /// Valid ONNX that this compiler does not take.
    #[error("{node} cannot be compiled: {reason}; {help}")]
    Unsupported {
        /// Operator and name of the node, or what else is meant.
        node: String,
        /// Why not.
        reason: String,
        /// What would help.
        help: String,
    },
}

impl CompileError {
    /// [`CompileError::Unsupported`] of these texts.
    pub(super) fn unsupported(
        node: impl Into<String>,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            node: node.into(),
            reason: reason.into(),
            help: help.into(),
        }
    }
}
