//! Outputs to compare with, from whoever can compute the model as it came.

use std::path::PathBuf;

use drover_bundle::Tensor;
use drover_bundle::compile::eval::{self, EvalError};
use drover_bundle::compile::{Array, Graph};
use drover_bundle::manifest::ReferenceKind;

use super::{CompileError, ort};
use crate::engine::{Engine as _, LoadOptions, TractEngine};

/// Who computes what nobody has given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// The compiler's evaluator: integer operators in integers, all others in `f32`.
    #[default]
    Own,
    /// onnxruntime, in this Python or in `python3`.
    Ort {
        /// Program to run.
        python: Option<PathBuf>,
    },
}

/// The first output of the model as it came for each case, who computed them, and why it was
/// somebody else than asked for.
pub(super) fn outputs(
    model: &[u8],
    original: &Graph,
    cases: &[Tensor],
    reference: &Reference,
    load: &LoadOptions,
) -> Result<(Vec<Tensor>, ReferenceKind, Option<String>), CompileError> {
    if let Reference::Ort { python } = reference {
        let outputs = ort::outputs(model, cases, python.as_deref())?;
        return Ok((outputs, ReferenceKind::Ort, None));
    }
    match own(original, cases) {
        Ok(outputs) => Ok((outputs?, ReferenceKind::Own, None)),
        Err(error @ EvalError::Unknown(_)) if !quantises(original) => {
            let note = format!("{error}; the engine computed the float model in its place");
            Ok((
                engine(model, cases, load)?,
                ReferenceKind::Engine,
                Some(note),
            ))
        }
        Err(error) => Err(CompileError::Reference(error)),
    }
}

fn own(original: &Graph, cases: &[Tensor]) -> Result<Result<Vec<Tensor>, CompileError>, EvalError> {
    let mut outputs = Vec::with_capacity(cases.len());
    for (case, input) in cases.iter().enumerate() {
        let made = eval::run(original, &[Array::from(input)])?;
        let first = made.first();
        let Some(output) = first.and_then(Array::to_tensor) else {
            let found = first.map_or("nothing".to_owned(), |a| a.element().to_string());
            return Ok(Err(CompileError::ReferenceType { case, found }));
        };
        outputs.push(output);
    }
    Ok(Ok(outputs))
}

/// Whether an engine that is wrong on quantised graphs may be wrong on this one.
fn quantises(graph: &Graph) -> bool {
    let quantises = |op: &str| {
        let marks = ["Quantize", "QLinear", "QGemm", "QAttention", "Integer"];
        marks.iter().any(|mark| op.contains(mark))
    };
    graph.nodes.iter().any(|n| quantises(&n.op))
}

fn engine(model: &[u8], cases: &[Tensor], load: &LoadOptions) -> Result<Vec<Tensor>, CompileError> {
    let loaded = TractEngine.load(model, load);
    let mut loaded = loaded.map_err(|e| CompileError::Engine(e.into()))?;
    let run = |case| loaded.run(case).map_err(|e| CompileError::Engine(e.into()));
    cases.iter().map(run).collect()
}
