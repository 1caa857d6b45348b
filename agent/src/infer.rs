//! Runs a model over a `.npy` batch, sample by sample.
//!
//! The output file appears whole or not at all: it is written beside its place and renamed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use drover_bundle::{GoldenCase, GoldenVectors, Tensor, TensorSpec, Tolerance};
use drover_runtime::{Model, npy};

use crate::AgentError;

/// A batch and what a model made of it.
pub(crate) struct Batch {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// Runs every sample of the file `input` through `model`.
pub(crate) fn run(model: &mut dyn Model, name: &str, input: &Path) -> Result<Batch, AgentError> {
    let samples = cut(&npy::read(input)?, model.input(), input)?;
    let mut outputs = Vec::with_capacity(samples.len());
    for sample in &samples {
        outputs.push(model.run(sample).map_err(|error| AgentError::Run {
            model: name.to_owned(),
            source: error.into(),
        })?);
    }
    Ok(Batch {
        inputs: samples,
        outputs,
    })
}

impl Batch {
    /// Samples that were run.
    pub(crate) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Compares the outputs with those in the file `expected`.
    pub(crate) fn check(
        &self,
        spec: &TensorSpec,
        expected: &Path,
        tolerance: Tolerance,
    ) -> Result<(), AgentError> {
        let wanted = cut(&npy::read(expected)?, spec, expected)?;
        let refuse = |why: String| {
            let place = format!("the outputs differ from {}", expected.display());
            AgentError::Refused { place, why }
        };
        if wanted.len() != self.outputs.len() {
            return Err(refuse(format!(
                "it holds {} samples, the input {}",
                wanted.len(),
                self.outputs.len()
            )));
        }
        let pairs = self.inputs.iter().zip(wanted);
        let vectors = GoldenVectors {
            cases: pairs
                .map(|(input, output)| GoldenCase {
                    input: input.clone(),
                    output,
                })
                .collect(),
        };
        vectors
            .compare(&self.outputs, tolerance, false)
            .map_err(|error| refuse(error.to_string()))
    }

    /// Writes the outputs, stacked on their first axis.
    pub(crate) fn write(&self, spec: &TensorSpec, path: &Path) -> Result<(), AgentError> {
        let one = spec.shape.iter().skip(1).map(|&axis| axis as usize);
        let shape: Vec<usize> = std::iter::once(self.outputs.len()).chain(one).collect();
        let bytes: Vec<u8> = self
            .outputs
            .iter()
            .flat_map(Tensor::bytes)
            .copied()
            .collect();
        let stacked =
            Tensor::from_bytes(spec.dtype, shape, bytes).map_err(|error| AgentError::Run {
                model: spec.name.clone(),
                source: error.into(),
            })?;
        let failed = || AgentError::file("write", path);
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let draft = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed())?;
        npy::write(draft.path(), &stacked)?;
        draft.as_file().sync_all().map_err(failed())?;
        draft.persist(path).map_err(|error| failed()(error.error))?;
        Ok(())
    }
}

/// Cuts a batch along its first axis into samples of the model's shape.
fn cut(batch: &Tensor, spec: &TensorSpec, path: &Path) -> Result<Vec<Tensor>, AgentError> {
    let shape: Vec<usize> = spec.shape.iter().map(|&axis| axis as usize).collect();
    let sample_bytes = shape.iter().product::<usize>() * spec.dtype.size();
    let samples = batch.shape().first().copied().unwrap_or(0);
    let fits = batch.dtype() == spec.dtype
        && samples > 0
        && sample_bytes > 0
        && samples.checked_mul(sample_bytes) == Some(batch.bytes().len());
    if !fits {
        let per_sample = shape.get(1..).unwrap_or_default();
        return Err(AgentError::Refused {
            place: path.display().to_string(),
            why: format!(
                "holds {} of shape {:?}; its first axis is the samples, and each must be {} with \
                 the elements of {per_sample:?}, as tensor \"{}\" of the model is",
                batch.dtype(),
                batch.shape(),
                spec.dtype,
                spec.name
            ),
        });
    }
    let cut = batch
        .bytes()
        .chunks_exact(sample_bytes)
        .map(|bytes| Tensor::from_bytes(spec.dtype, shape.clone(), bytes.to_vec()));
    cut.collect::<Result<_, _>>()
        .map_err(|error| AgentError::Run {
            model: spec.name.clone(),
            source: error.into(),
        })
}
