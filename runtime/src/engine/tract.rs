//! The engine for arbitrary ONNX graphs, over tract.
//!
//! tract computes some quantised graphs wrongly without a word, so what this engine loads is
//! to be run only behind golden vectors ([`crate::LoadedBundle`]). It never opens a file:
//! graphs come as bytes, and references to data outside them are refused.

use std::sync::Arc;

#[cfg(feature = "compile")]
use super::footprint::Footprint;
use drover_bundle::{DType, Tensor, TensorSpec};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable,
    IntoTValue, Tensor as TractTensor, TypedFact, TypedModel, TypedRunnableModel, TypedSimpleState,
    tvec,
};
use tract_onnx::tract_hir::internal::ToDim;

use super::graph::{self, Declared, OpenAxis};
use super::{Engine, LoadOptions, Model};
use crate::error::{BoxError, LoadError, RunError};
use crate::guard::guarded;

const NAME: &str = "tract";

// Tensors are little-endian bytes and are copied into tract's memory as they are.
#[cfg(target_endian = "big")]
compile_error!("the tract engine needs a little-endian target");

/// Runs models with tract, on one thread, in the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn Model>, LoadError> {
        if model.len() as u64 > options.max_model_bytes {
            return Err(LoadError::TooLarge {
                bytes: model.len(),
                limit: options.max_model_bytes,
            });
        }
        let mut stage = "read";
        let loaded = guarded(|| load(model, options, &mut stage));
        let loaded = loaded.map_err(|message| LoadError::Panicked {
            engine: NAME,
            stage,
            message,
        })??;
        Ok(Box::new(loaded))
    }
}

fn failed(stage: &'static str, source: impl Into<BoxError>) -> LoadError {
    LoadError::Graph {
        engine: NAME,
        stage,
        source: source.into(),
    }
}

impl TractEngine {
    /// [`Engine::load`], and what the loaded model holds and computes.
    ///
    /// # Errors
    /// Those of [`Engine::load`].
    #[cfg(feature = "compile")]
    pub fn load_measured(
        &self,
        model: &[u8],
        options: &LoadOptions,
    ) -> Result<(Box<dyn Model>, Footprint), LoadError> {
        let mut stage = "read";
        let loaded = guarded(|| {
            let (typed, declared) = typed(model, options, &mut stage)?;
            let computed = Footprint::of_operators(&typed);
            let loaded = prepare(typed, &declared, &mut stage)?;
            let footprint = computed.with_memory(&loaded.plan);
            Ok((Box::new(loaded) as Box<dyn Model>, footprint))
        });
        loaded.map_err(|message| LoadError::Panicked {
            engine: NAME,
            stage,
            message,
        })?
    }
}

fn load(
    bytes: &[u8],
    options: &LoadOptions,
    stage: &mut &'static str,
) -> Result<TractModel, LoadError> {
    let (model, declared) = typed(bytes, options, stage)?;
    prepare(model, &declared, stage)
}

/// A graph of known types and sizes, within the bounds.
fn typed(
    bytes: &[u8],
    options: &LoadOptions,
    stage: &mut &'static str,
) -> Result<(TypedModel, Declared), LoadError> {
    let onnx = tract_onnx::onnx();
    let proto = onnx
        .proto_model_for_read(&mut &*bytes)
        .map_err(|e| LoadError::NotOnnx(e.into()))?;
    let declared = graph::inspect(&proto, &onnx, NAME, options.max_tensor_bytes)?;

    *stage = "translate";
    let mut model = onnx
        .model_for_proto_model(&proto)
        .map_err(|e| failed("translate", e))?;
    drop(proto);
    keep_first_output(&mut model).map_err(|e| failed("translate", e))?;
    if let Some(axis) = &declared.batch {
        close_batch(&mut model, axis).map_err(|e| failed("translate", e))?;
    }

    *stage = "analyse";
    let model = model.into_typed().map_err(|e| failed("analyse", e))?;
    refuse_large_values(&model, options.max_tensor_bytes)?;
    Ok((model, declared))
}

fn prepare(
    model: TypedModel,
    declared: &Declared,
    stage: &mut &'static str,
) -> Result<TractModel, LoadError> {
    let (input, output) = specs(&model, declared)?;
    *stage = "optimise";
    let plan = model
        .into_optimized()
        .and_then(IntoRunnable::into_runnable)
        .map_err(|e| failed("optimise", e))?;
    let state = plan.spawn().map_err(|e| failed("prepare", e))?;
    Ok(TractModel {
        shape: input.shape.iter().map(|&d| d as usize).collect(),
        dtype: to_datum(input.dtype),
        input,
        output,
        plan,
        state,
    })
}

fn keep_first_output(model: &mut InferenceModel) -> Result<(), BoxError> {
    let first: Vec<_> = model.output_outlets()?.iter().take(1).copied().collect();
    model.select_output_outlets(&first)?;
    Ok(())
}

/// A batch of one: open sizes cost tract up to five times the run time.
fn close_batch(model: &mut InferenceModel, axis: &OpenAxis) -> Result<(), BoxError> {
    if let OpenAxis::Named(name) = axis
        && let Some(symbol) = model.symbols.get(name)
    {
        model.set_symbols(&[(symbol, 1.to_dim())].into_iter().collect())?;
    }
    let mut fact: InferenceFact = model.input_fact(0)?.clone();
    fact.shape.set_dim(0, 1.to_dim());
    model.set_input_fact(0, fact)?;
    Ok(())
}

fn refuse_large_values(model: &TypedModel, limit: u64) -> Result<(), LoadError> {
    for node in model.nodes() {
        for output in &node.outputs {
            let rank = output.fact.rank();
            if rank as u64 > graph::MAX_AXIS {
                // The optimiser moves one axis at a time, and looks at all of them for each.
                let why = format!(
                    "node \"{}\" makes a value of {rank} axes, over the limit of {}",
                    node.name,
                    graph::MAX_AXIS
                );
                return Err(failed("analyse", why));
            }
            let item = output.fact.datum_type.size_of() as u64;
            let bytes = output.fact.shape.as_concrete().map_or(0, |s| {
                s.iter().fold(item, |n, &d| n.saturating_mul(d as u64))
            });
            if bytes > limit {
                return Err(LoadError::ValueTooLarge {
                    node: node.name.clone(),
                    bytes,
                    limit,
                });
            }
        }
    }
    Ok(())
}

fn specs(model: &TypedModel, declared: &Declared) -> Result<(TensorSpec, TensorSpec), LoadError> {
    let input = model.input_fact(0).map_err(|e| failed("analyse", e))?;
    let output = model.output_fact(0).map_err(|e| failed("analyse", e))?;
    Ok((
        spec("input", &declared.input, input)?,
        spec("output", &declared.output, output)?,
    ))
}

fn spec(kind: &str, name: &str, fact: &TypedFact) -> Result<TensorSpec, LoadError> {
    let tensor = || format!("{kind} \"{name}\"");
    let dtype = from_datum(fact.datum_type).ok_or_else(|| LoadError::ElementType {
        tensor: tensor(),
        found: format!("{:?}", fact.datum_type).to_lowercase(),
    })?;
    let mut shape = Vec::with_capacity(fact.rank());
    for (axis, dim) in fact.shape.iter().enumerate() {
        let size = dim.as_i64().and_then(|d| u32::try_from(d).ok());
        shape.push(size.ok_or_else(|| LoadError::Symbolic {
            tensor: tensor(),
            axis,
            symbol: dim.to_string(),
        })?);
    }
    Ok(TensorSpec {
        name: name.to_owned(),
        dtype,
        shape,
    })
}

/// Quantised types of tract carry scale and zero point beside plain integers.
fn from_datum(datum: DatumType) -> Option<DType> {
    match datum.unquantized() {
        DatumType::F32 => Some(DType::F32),
        DatumType::I8 => Some(DType::I8),
        DatumType::U8 => Some(DType::U8),
        DatumType::I32 => Some(DType::I32),
        DatumType::I64 => Some(DType::I64),
        _ => None,
    }
}

fn to_datum(dtype: DType) -> DatumType {
    match dtype {
        DType::F32 => DatumType::F32,
        DType::I8 => DatumType::I8,
        DType::U8 => DatumType::U8,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
    }
}

struct TractModel {
    input: TensorSpec,
    output: TensorSpec,
    shape: Vec<usize>,
    dtype: DatumType,
    plan: Arc<TypedRunnableModel>,
    /// One state for all runs: spawning one per run costs allocations that are never used.
    state: TypedSimpleState,
}

impl TractModel {
    fn run_plan(&mut self, input: &Tensor) -> Result<Tensor, BoxError> {
        let mut value = TractTensor::zero_dt(self.dtype, &self.shape)?;
        value.as_bytes_mut().copy_from_slice(input.bytes());
        let outputs = self.state.run(tvec!(value.into_tvalue()))?;
        let output = outputs.first().ok_or("the plan gave no output")?;
        let dtype = from_datum(output.datum_type()).ok_or("the output changed its type")?;
        let bytes = output.as_bytes().to_vec();
        Ok(Tensor::from_bytes(dtype, output.shape().to_vec(), bytes)?)
    }
}

impl Model for TractModel {
    fn input(&self) -> &TensorSpec {
        &self.input
    }

    fn output(&self) -> &TensorSpec {
        &self.output
    }

    fn run(&mut self, input: &Tensor) -> Result<Tensor, RunError> {
        if input.dtype() != self.input.dtype
            || input.shape() != self.shape
            || !input.is_consistent()
        {
            return Err(RunError::Input {
                dtype: self.input.dtype,
                wanted: self.input.shape.clone(),
                got_dtype: input.dtype(),
                got: input.shape().to_vec(),
            });
        }
        let result = match guarded(|| self.run_plan(input)) {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(source)) => Err(RunError::Engine(source)),
            Err(message) => Err(RunError::Panicked(message)),
        };
        // A state that failed half way still holds the values of that run.
        self.state = self.plan.spawn().map_err(|e| RunError::Engine(e.into()))?;
        result
    }
}
