//! Golden inputs and outputs of a bundle: the spec's files, or windows of its baseline rows.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use drover_bundle::{GoldenCase, GoldenVectors, Manifest, Spec, Tensor, TensorSpec};

use super::BuildError;
use super::rows::Rows;
use crate::engine::Model;
use crate::error::{BoxError, RunError};
use crate::npy;
use crate::pipeline::Pipeline;

/// Windows that are kept to choose golden inputs from.
const KEPT: usize = 1024;
/// Golden inputs that are chosen of baseline windows.
const CHOSEN: usize = 16;

/// Inputs and outputs as far as the spec brings them, the first axis is the case.
#[derive(Default)]
pub(super) struct Given {
    pub(super) inputs: Option<Tensor>,
    pub(super) outputs: Option<Tensor>,
}

/// Reads what the spec names, and makes inputs of the baseline where it names none.
pub(super) fn given(spec: &Spec, draft: &Manifest, model: &dyn Model) -> Result<Given, BuildError> {
    let read = |path: &Path, what, tensor: &TensorSpec| {
        let batch = npy::read(path)?;
        let cases = check_form(path, what, &batch, tensor)?;
        Ok::<_, BuildError>((batch, cases))
    };
    let files = &spec.golden;
    let (Some(inputs_path), outputs_path) = (&files.inputs, &files.outputs) else {
        if let Some(outputs) = &files.outputs {
            return Err(BuildError::GoldenInputs {
                outputs: outputs.clone(),
            });
        }
        return Ok(Given {
            inputs: of_baseline(spec, draft, model)?,
            outputs: None,
        });
    };
    let (inputs, wanted) = read(inputs_path, "input", model.input())?;
    let Some(outputs_path) = outputs_path else {
        return Ok(Given {
            inputs: Some(inputs),
            outputs: None,
        });
    };
    let (outputs, got) = read(outputs_path, "output", model.output())?;
    if wanted != got {
        return Err(BuildError::GoldenCases {
            inputs: inputs_path.clone(),
            outputs: outputs_path.clone(),
            wanted,
            got,
        });
    }
    Ok(Given {
        inputs: Some(inputs),
        outputs: Some(outputs),
    })
}

/// The number of cases in `batch`.
fn check_form(
    path: &Path,
    what: &'static str,
    batch: &Tensor,
    spec: &TensorSpec,
) -> Result<usize, BuildError> {
    let item: usize = spec.shape.iter().map(|&d| d as usize).product();
    let cases = batch.shape().first().copied().unwrap_or(0);
    if cases > 0 && batch.dtype() == spec.dtype && batch.len() == cases * item {
        return Ok(cases);
    }
    Err(BuildError::GoldenForm {
        path: path.to_owned(),
        what,
        found: format!("{} {:?}", batch.dtype(), batch.shape()),
        wanted: format!("{} {:?}", spec.dtype, spec.shape),
    })
}

/// One case for each pair.
pub(super) fn vectors(inputs: Vec<Tensor>, outputs: Vec<Tensor>) -> GoldenVectors {
    let pairs = inputs.into_iter().zip(outputs);
    let case = |(input, output)| GoldenCase { input, output };
    GoldenVectors {
        cases: pairs.map(case).collect(),
    }
}

/// Windows from all over the baseline, as the pipeline hands them to the model.
fn of_baseline(
    spec: &Spec,
    draft: &Manifest,
    model: &dyn Model,
) -> Result<Option<Tensor>, BuildError> {
    let Some(baseline) = &spec.baseline else {
        return Ok(None);
    };
    let unusable = |source: BoxError| BuildError::Baseline {
        path: baseline.csv.clone(),
        source,
    };
    let recorder = Recorder::of(model).map_err(&unusable)?;
    let seen = Arc::clone(&recorder.seen);
    let mut rows = Rows::open(&baseline.csv, &draft.input)?;
    let mut pipeline = Pipeline::new(draft, Box::new(recorder)).map_err(|e| unusable(e.into()))?;
    let full = || lock(&seen).len() >= KEPT;
    for row in rows.by_ref() {
        pipeline.push_row(&row).map_err(|e| unusable(e.into()))?;
        if full() {
            break;
        }
    }
    if let Some(error) = rows.failed {
        return Err(error);
    }
    let windows = lock(&seen);
    let every = windows.len().div_ceil(CHOSEN).max(1);
    let chosen: Vec<&Tensor> = windows.iter().step_by(every).collect();
    let Some(first) = chosen.first() else {
        // The baseline itself will say that its rows make no window.
        return Ok(None);
    };
    let shape = [&[chosen.len()], first.shape()].concat();
    let bytes = chosen.iter().flat_map(|t| t.bytes()).copied().collect();
    let batch = Tensor::from_bytes(first.dtype(), shape, bytes);
    batch.map(Some).map_err(|e| unusable(e.into()))
}

/// A poisoned list is whole: only pushes happen under the lock.
fn lock(seen: &Mutex<Vec<Tensor>>) -> std::sync::MutexGuard<'_, Vec<Tensor>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands in for a model, keeps what it is given and answers zeros.
struct Recorder {
    input: TensorSpec,
    output: TensorSpec,
    zeros: Tensor,
    seen: Arc<Mutex<Vec<Tensor>>>,
}

impl Recorder {
    fn of(model: &dyn Model) -> Result<Self, BoxError> {
        let output = model.output().clone();
        let shape: Vec<usize> = output.shape.iter().map(|&d| d as usize).collect();
        let bytes = vec![0; shape.iter().product::<usize>() * output.dtype.size()];
        Ok(Self {
            input: model.input().clone(),
            zeros: Tensor::from_bytes(output.dtype, shape, bytes)?,
            output,
            seen: Arc::default(),
        })
    }
}

impl Model for Recorder {
    fn input(&self) -> &TensorSpec {
        &self.input
    }

    fn output(&self) -> &TensorSpec {
        &self.output
    }

    fn run(&mut self, input: &Tensor) -> Result<Tensor, RunError> {
        let mut seen = lock(&self.seen);
        if seen.len() < KEPT {
            seen.push(input.clone());
        }
        Ok(self.zeros.clone())
    }
}
