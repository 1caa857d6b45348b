//! The model on its way into a bundle: compiled and proven, or as it came.
//!
//! Without the crate's feature `compile` every model goes in as it came, whatever the spec
//! says: that is for the agent, which runs specs during development.

use drover_bundle::{Spec, Tensor, Validated};

use super::BuildError;
use super::golden::Given;
use crate::engine::{Engine as _, LoadOptions, Model, TractEngine};

/// A loaded model whose golden outputs are not known yet.
pub(super) enum Subject<'a> {
    /// As it came.
    Kept {
        bytes: &'a [u8],
        model: Box<dyn Model>,
    },
    /// Compiled.
    #[cfg(feature = "compile")]
    Compiled(Box<crate::compile::Draft<'a>>),
}

/// A model with its golden inputs and outputs.
pub(super) struct Proven {
    pub(super) bytes: Vec<u8>,
    pub(super) model: Box<dyn Model>,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    pub(super) numerics: Option<Validated>,
}

impl<'a> Subject<'a> {
    pub(super) fn load(
        spec: &Spec,
        bytes: &'a [u8],
        options: &LoadOptions,
    ) -> Result<Self, BuildError> {
        #[cfg(feature = "compile")]
        if let Some(numerics) = spec.compile.numerics {
            let draft = crate::compile::prepare(bytes, numerics, options);
            return draft
                .map(|draft| Self::Compiled(Box::new(draft)))
                .map_err(|source| BuildError::Compile {
                    path: spec.model.clone(),
                    source: Box::new(source),
                });
        }
        let model = TractEngine.load(bytes, options);
        let model = model.map_err(|source| BuildError::Model {
            path: spec.model.clone(),
            source,
        })?;
        Ok(Self::Kept { bytes, model })
    }

    pub(super) fn model(&self) -> &dyn Model {
        match self {
            Self::Kept { model, .. } => model.as_ref(),
            #[cfg(feature = "compile")]
            Self::Compiled(draft) => draft.model(),
        }
    }

    /// Finds the outputs that are absent, and compares a compiled model with them.
    pub(super) fn prove(self, spec: &Spec, given: Given) -> Result<Proven, BuildError> {
        match self {
            Self::Kept { bytes, model } => keep(spec, bytes, model, given),
            #[cfg(feature = "compile")]
            Self::Compiled(draft) => prove(spec, *draft, given),
        }
    }
}

fn keep(
    spec: &Spec,
    bytes: &[u8],
    model: Box<dyn Model>,
    given: Given,
) -> Result<Proven, BuildError> {
    let (Some(inputs), Some(outputs)) = (given.inputs, given.outputs) else {
        return Err(BuildError::NoGolden {
            path: spec.model.clone(),
        });
    };
    let vectors = crate::golden::from_batches(model.as_ref(), &inputs, &outputs);
    let vectors = vectors.map_err(|e| BuildError::Golden {
        model: spec.model.clone(),
        outputs: spec.golden.outputs.clone().unwrap_or_default(),
        source: e.into(),
    })?;
    let cases = vectors.cases.into_iter().map(|c| (c.input, c.output));
    let (inputs, outputs) = cases.unzip();
    Ok(Proven {
        bytes: bytes.to_vec(),
        model,
        inputs,
        outputs,
        numerics: None,
    })
}

#[cfg(feature = "compile")]
fn prove(
    spec: &Spec,
    draft: crate::compile::Draft<'_>,
    given: Given,
) -> Result<Proven, BuildError> {
    use crate::compile::{CompileError, Options, Reference};

    let Some(numerics) = spec.compile.numerics else {
        return Err(BuildError::NoGolden {
            path: spec.model.clone(),
        });
    };
    let options = Options {
        bounds: spec.compile.bounds.clone(),
        inputs: given.inputs,
        outputs: given.outputs,
        reference: match spec.compile.onnxruntime {
            true => Reference::Ort { python: None },
            false => Reference::Own,
        },
        ..Options::new(numerics)
    };
    let proven = draft.prove(&options);
    let (compiled, model, report) =
        proven.map_err(|source| match (&spec.golden.outputs, &source) {
            (Some(outputs), CompileError::Lost { .. }) => BuildError::Lost {
                model: spec.model.clone(),
                outputs: outputs.clone(),
                source: Box::new(source),
            },
            _ => BuildError::Compile {
                path: spec.model.clone(),
                source: Box::new(source),
            },
        })?;
    Ok(Proven {
        bytes: compiled.model,
        model,
        inputs: compiled.inputs,
        outputs: compiled.outputs,
        numerics: Some(report.validated),
    })
}
