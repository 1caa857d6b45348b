//! What a model bundle is: a signed manifest, the files that it names, and the chunks in
//! which they travel.
//!
//! This crate owns the formats (manifest, golden vectors, container) and their checks. It
//! never runs a model and never talks to a network; it reads and writes bytes that its
//! caller hands over.

#[cfg(feature = "compile")]
pub mod compile;
pub mod container;
pub mod golden;
pub mod manifest;
pub mod spec;
pub mod tensor;

pub use container::{BundleError, Container, VerifiedManifest};
pub use golden::{GoldenCase, GoldenVectors};
pub use manifest::{
    Channel, Chunking, Component, Decision, FileEntry, FileRole, InputSpec, Lineage, Manifest,
    Normalisation, Numerics, OutputSpec, Quantisation, ReferenceKind, Requires, Scoring,
    TensorSpec, Tolerance, Validated, Window,
};
pub use spec::Spec;
pub use tensor::{DType, Tensor, TensorError};
