//! What the compiler validated of a model, as the manifest records it.
//!
//! It is evidence for people and for gates, not a permission: a device still runs the golden
//! vectors itself.

use serde::{Deserialize, Serialize};

/// In which numbers a compiled model computes. Both keep weights in 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Numerics {
    /// As the quantised model means it: every quantiser rounds and clamps.
    Exact,
    /// Quantisers clamp and do not round.
    Float,
}

impl Numerics {
    /// `exact` or `float`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Float => "float",
        }
    }
}

/// By whom the outputs were computed that a compiled model was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReferenceKind {
    /// Whoever builds the bundle brought them.
    Given,
    /// The compiler's evaluator: the model as it came, operator by operator as ONNX defines it.
    Own,
    /// onnxruntime.
    Ort,
    /// The engine, on a float model as it came.
    Engine,
}

impl ReferenceKind {
    /// What files, JSON and command lines call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Own => "own",
            Self::Ort => "ort",
            Self::Engine => "engine",
        }
    }
}

/// What a compiled model computes, and how far from the model as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// In which numbers the compiled model computes.
    pub numerics: Numerics,
    /// SHA-256 of the model as it came.
    pub source_sha256: [u8; 32],
    /// The compiler and its version, one line.
    pub compiler: String,
    /// Who computed the outputs that it was compared with.
    pub reference: ReferenceKind,
    /// Inputs that it was compared on.
    pub cases: u32,
    /// Largest difference of an output element, in the output's unit; of integer outputs in
    /// steps.
    pub max_abs: f32,
    /// Mean difference of the output elements, in the same unit.
    pub mean_abs: f32,
    /// Largest minus least reference output, in the same unit.
    pub range: f32,
    /// What one step of the last quantiser is worth in the output, in the same unit; nothing
    /// of a model without quantisers, or with quantisers that set their scale as they run.
    pub step: Option<f32>,
    /// Share of the cases whose largest element is the reference's, 0 to 1.
    pub argmax: f32,
}

impl Validated {
    /// Largest difference in steps of the last quantiser.
    pub fn max_steps(&self) -> Option<f32> {
        self.step.map(|step| self.max_abs / step)
    }

    /// Mean difference in steps of the last quantiser.
    pub fn mean_steps(&self) -> Option<f32> {
        self.step.map(|step| self.mean_abs / step)
    }
}
