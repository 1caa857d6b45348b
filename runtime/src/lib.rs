//! Engines behind one trait, and the pipeline from sensor rows to decisions.
//!
//! A model is only ever run through [`Engine`] and [`Model`]; [`LoadedBundle`] is one that
//! has passed its golden vectors on this machine; a [`Pipeline`] feeds it with sensor rows
//! and makes scores and verdicts of what it answers. No type of an engine's library shows
//! in this crate's interface, and nothing here touches a network or persists anything.

pub mod baseline;
pub mod build;
mod clock;
#[cfg(feature = "compile")]
pub mod compile;
mod engine;
mod error;
pub mod golden;
mod guard;
mod loaded;
pub mod npy;
pub mod pipeline;

pub use engine::{Engine, LoadOptions, Model, TractEngine};
#[cfg(feature = "compile")]
pub use engine::{Footprint, OperatorCost};
pub use error::{BoxError, LoadError, RunError, SpecMismatch};
pub use loaded::LoadedBundle;
pub use pipeline::{ChannelMap, Counts, Outcome, Pipeline, PipelineError, Verdict};
