//! Why a stream cannot be run through a model.
//!
//! What the model itself said is in `source()`.

use drover_bundle::TensorError;

use crate::error::{RunError, SpecMismatch};

/// Why a pipeline was refused, or a row or window failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The model is another one than the manifest describes.
    #[error(transparent)]
    Spec(#[from] SpecMismatch),
    /// Windows do not fill the model's input.
    #[error("windows of {rows} rows x {channels} channels do not fill an input of shape {shape:?}")]
    Window {
        /// Rows of a window.
        rows: usize,
        /// Values of a row.
        channels: usize,
        /// The model's input.
        shape: Vec<usize>,
    },
    /// The normalisation cannot be computed.
    #[error("normalisation needs {0}")]
    Normalisation(&'static str),
    /// Over [`super::MAX_HELD_BYTES`].
    #[error(
        "calibration would hold back {bytes} bytes, over the limit of {}; calibrate on fewer \
         rows or windows",
        super::MAX_HELD_BYTES
    )]
    Calibration {
        /// Bytes that would be held.
        bytes: u64,
    },
    /// The input tensor could not be made.
    #[error("model input cannot be built")]
    Tensor(#[from] TensorError),
    /// A row of another length than the manifest has channels.
    #[error("row has {got} values, the model takes {wanted} channels")]
    Row {
        /// Values given.
        got: usize,
        /// Channels of the manifest.
        wanted: usize,
    },
    /// The model failed on a window.
    #[error("window {window} of the stream was not scored")]
    Run {
        /// Number of the window in its stream.
        window: u64,
        /// What happened.
        source: RunError,
    },
    /// The source lacks channels that the model takes.
    #[error(
        "source has no column for {}; it has {}",
        quoted(.missing), quoted(.present)
    )]
    MissingChannels {
        /// Channels of the model that the source lacks.
        missing: Vec<String>,
        /// Columns of the source.
        present: Vec<String>,
    },
    /// A channel's name stands for several columns.
    #[error("source has more than one column named \"{channel}\"; rename all but one")]
    AmbiguousChannel {
        /// The channel.
        channel: String,
    },
}

fn quoted(names: &[String]) -> String {
    if names.is_empty() {
        return "no columns".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
    quoted.join(", ")
}
