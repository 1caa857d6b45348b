//! What an engine is: bytes of an ONNX graph in, a model with one input and one output out.
//!
//! Engines convert to and from [`Tensor`] and keep their own types to themselves. Whatever
//! the bytes are, an engine answers with an error and never takes the process down by a
//! panic.

#[cfg(feature = "compile")]
mod footprint;
mod graph;
mod tract;

use drover_bundle::manifest::MAX_TOTAL_BYTES;
use drover_bundle::{Manifest, Tensor, TensorSpec};

use crate::error::{LoadError, RunError};

#[cfg(feature = "compile")]
pub use footprint::{Footprint, OperatorCost};
pub use tract::TractEngine;

/// Something that can run ONNX models.
pub trait Engine: Send + Sync {
    /// The name that manifests ask for, such as `tract`.
    fn name(&self) -> &'static str;

    /// Parses, optimises and prepares a model.
    ///
    /// # Errors
    /// [`LoadError`] says what the model has that this engine does not take.
    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn Model>, LoadError>;
}

/// A model that is ready to run.
pub trait Model: Send {
    /// Name, element type and concrete shape of the one input.
    fn input(&self) -> &TensorSpec;

    /// Name, element type and concrete shape of the output; of several the graph's first.
    fn output(&self) -> &TensorSpec;

    /// Runs one input.
    ///
    /// # Errors
    /// [`RunError`]; the model stays usable after any of them.
    fn run(&mut self, input: &Tensor) -> Result<Tensor, RunError>;
}

/// Bounds that a model is loaded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Larger files are refused before they are parsed, in bytes.
    pub max_model_bytes: u64,
    /// Graphs in which any one value is larger are refused before they are optimised, in
    /// bytes. It bounds single values, not their sum.
    pub max_tensor_bytes: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            max_model_bytes: MAX_TOTAL_BYTES,
            max_tensor_bytes: MAX_TOTAL_BYTES,
        }
    }
}

impl LoadOptions {
    /// The bounds that a manifest declares: no value may outgrow the memory it asks for.
    pub fn for_manifest(manifest: &Manifest) -> Self {
        let default = Self::default();
        let max_tensor_bytes = match manifest.requires.memory_bytes {
            0 => default.max_tensor_bytes,
            declared => declared.min(default.max_tensor_bytes),
        };
        Self {
            max_tensor_bytes,
            ..default
        }
    }
}
