//! Golden vectors run against a loaded model.
//!
//! The comparison itself, and what a tolerance means, is in `drover_bundle::golden`; this is
//! the part that needs an engine. Building vectors from batches is here too, because only
//! an engine's user has inputs and reference outputs at hand.

use drover_bundle::golden::GoldenError;
use drover_bundle::{GoldenCase, GoldenVectors, Tensor, Tolerance};

use crate::engine::Model;
use crate::error::LoadError;

/// Runs every golden case and compares the outputs. With `classifier`, the largest element
/// must also be the right one in at least 93 % of the cases.
///
/// # Errors
/// [`LoadError::GoldenRun`] when a case does not run, [`LoadError::Golden`] when an output
/// lies outside `tolerance`.
pub fn check(
    model: &mut dyn Model,
    vectors: &GoldenVectors,
    tolerance: Tolerance,
    classifier: bool,
) -> Result<(), LoadError> {
    let mut outputs = Vec::with_capacity(vectors.cases.len());
    for (case, golden) in vectors.cases.iter().enumerate() {
        let output = model.run(&golden.input);
        outputs.push(output.map_err(|source| LoadError::GoldenRun { case, source })?);
    }
    Ok(vectors.compare(&outputs, tolerance, classifier)?)
}

/// Cuts batches of inputs and reference outputs along their first axis into cases of one.
///
/// The cases take the shapes that `model` declares, so that a batch of `[32, 8, 8]` serves a
/// model that takes `[1, 1, 8, 8]`.
///
/// # Errors
/// [`GoldenError::Inconsistent`] when the batches are empty, differ in length, or their
/// items do not have the element type and number of elements of the model's tensors.
pub fn from_batches(
    model: &dyn Model,
    inputs: &Tensor,
    outputs: &Tensor,
) -> Result<GoldenVectors, GoldenError> {
    let inputs = cut(inputs, model.input())
        .ok_or(GoldenError::Inconsistent("inputs do not fit the model"))?;
    let outputs = cut(outputs, model.output())
        .ok_or(GoldenError::Inconsistent("outputs do not fit the model"))?;
    if inputs.is_empty() || inputs.len() != outputs.len() {
        return Err(GoldenError::Inconsistent("one output per input"));
    }
    let pairs = inputs.into_iter().zip(outputs);
    Ok(GoldenVectors {
        cases: pairs
            .map(|(input, output)| GoldenCase { input, output })
            .collect(),
    })
}

fn cut(batch: &Tensor, spec: &drover_bundle::TensorSpec) -> Option<Vec<Tensor>> {
    let shape: Vec<usize> = spec.shape.iter().map(|&d| d as usize).collect();
    let item = shape.iter().product::<usize>() * spec.dtype.size();
    let items = *batch.shape().first()?;
    if batch.dtype() != spec.dtype || item == 0 || batch.bytes().len() != items * item {
        return None;
    }
    let chunks = batch.bytes().chunks_exact(item);
    chunks
        .map(|b| Tensor::from_bytes(spec.dtype, shape.clone(), b.to_vec()).ok())
        .collect()
}
