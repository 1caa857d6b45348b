//! The compiler: an ONNX model in, one that runs right and fast out.
//!
//! Exporters write the same quantised network in many forms, and the engine computes some of
//! them wrongly and most of them slowly. [`compile`] reads any of them ([`import()`]), brings
//! them into one canonical form ([`pass`]), and writes that for the engine ([`lower`]) in one
//! of two [`Numerics`]. Beside it stays the model in integers alone ([`integer`]), where there
//! is one. [`eval`] computes what a graph means, for comparison.
//!
//! Nothing is measured here and no engine is run; `drover-runtime` does both.

pub mod array;
#[cfg(test)]
mod draft;
pub mod error;
pub mod eval;
mod export;
pub mod graph;
mod import;
pub mod integer;
mod lower;
pub mod pass;
mod proto;
mod text;

pub use array::{Array, Data, ElementType};
pub use error::CompileError;
pub use export::export;
pub use graph::Graph;
pub use import::import;
pub use integer::IntegerModel;

pub use crate::manifest::Numerics;

/// A compiled model.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The bytes of the ONNX file for the engine.
    pub model: Vec<u8>,
    /// The model as it came, to compute references with.
    pub original: Graph,
    /// After all passes, before it was written for the engine.
    pub canonical: Graph,
    /// As the engine gets it.
    pub lowered: Graph,
    /// The quantised model in integers alone, or why it has no such form.
    pub integer: Result<IntegerModel, String>,
    /// How many places each pass changed, by its name.
    pub changes: Vec<(&'static str, usize)>,
}

/// Compiles a model.
///
/// # Errors
/// [`CompileError`] names the node, the reason and what would help.
pub fn compile(model: &[u8], numerics: Numerics) -> Result<Compiled, CompileError> {
    let original = import(model)?;
    let mut graph = original.clone();
    let mut changes = Vec::with_capacity(pass::PASSES.len());
    for pass in pass::PASSES {
        changes.push((pass.name, (pass.run)(&mut graph)?));
    }
    let integer = integer::build(&graph);
    let lowered = lower::lower(&graph, numerics)?;
    Ok(Compiled {
        model: export(&lowered),
        original,
        canonical: graph,
        lowered,
        integer,
        changes,
    })
}
