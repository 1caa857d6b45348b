//! What is known of a compiled model after its check.

use drover_bundle::Tensor;
use drover_bundle::compile::{Array, Compiled, Data, Graph, IntegerModel};
use drover_bundle::manifest::{Numerics, ReferenceKind, Validated};
use serde::Serialize;

use super::difference::{Accuracy, Difference};
use super::estimate::Estimate;
use super::step::Step;
use crate::engine::Footprint;

/// What is known of a compiled model after its check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// For a manifest.
    #[serde(skip)]
    pub validated: Validated,
    /// `exact` or `float`.
    pub numerics: &'static str,
    /// Compiler and version.
    pub compiler: String,
    /// Who computed the reference: `given`, `own`, `ort` or `engine`.
    pub reference: &'static str,
    /// What a reader of the figures should know, such as where inputs came from.
    pub notes: Vec<String>,
    /// Inputs that were compared.
    pub cases: usize,
    /// How far the compiled model is from the reference.
    pub difference: Difference,
    /// Where labels were given.
    pub accuracy: Option<Accuracy>,
    /// The bounds that held, as they are written.
    pub bounds: Vec<String>,
    /// Measured here, by the engine on one thread.
    pub latency: Latency,
    /// Not measured: least times on named cores.
    pub estimates: Vec<Estimate>,
    /// Bytes of the model as it came.
    pub source_bytes: usize,
    /// Bytes of the compiled model.
    pub model_bytes: usize,
    /// Bytes of constants in the compiled file.
    pub weight_file_bytes: usize,
    /// What the engine holds and computes.
    #[serde(flatten)]
    pub footprint: Footprint,
    /// How many places each pass changed.
    pub changes: Vec<Change>,
    /// The form in integers alone.
    pub integer: Integer,
}

/// Times of single runs on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Runs that were measured, after some that were not.
    pub runs: usize,
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 are at most this, in microseconds.
    pub p99_us: f64,
}

/// What one pass did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The pass.
    pub pass: &'static str,
    /// Places it changed.
    pub places: usize,
}

/// The form in integers alone, for interpreters without floating point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Integer {
    /// Why there is none; nothing when there is one.
    pub why_not: Option<String>,
    /// Bytes of its serialised form.
    pub bytes: Option<usize>,
    /// How far it is from the same reference.
    pub difference: Option<Difference>,
}

impl Integer {
    /// Runs the integer form, where there is one, on the same cases.
    pub(super) fn of(
        form: &Result<IntegerModel, String>,
        cases: &[Tensor],
        wanted: &[Tensor],
        step: Step,
    ) -> Self {
        let none = |why: String| Self {
            why_not: Some(why),
            bytes: None,
            difference: None,
        };
        let model = match form {
            Ok(model) => model,
            Err(why) => return none(why.clone()),
        };
        let run = |case: &Tensor| {
            let made = model.run(&Array::from(case)).map_err(|e| e.to_string())?;
            made.to_tensor()
                .ok_or_else(|| "its output is of no type of outputs".to_owned())
        };
        let made: Result<Vec<Tensor>, String> = cases.iter().map(run).collect();
        match (made, model.encode()) {
            (Ok(made), Ok(bytes)) => Self {
                why_not: None,
                bytes: Some(bytes.len()),
                difference: Some(Difference::new(wanted, &made, step)),
            },
            (Err(why), _) => none(why),
            (_, Err(error)) => none(error.to_string()),
        }
    }
}

/// What a manifest records.
pub(super) fn validated(
    numerics: Numerics,
    source_sha256: [u8; 32],
    compiler: &str,
    reference: ReferenceKind,
    cases: usize,
    found: &Difference,
) -> Validated {
    Validated {
        numerics,
        source_sha256,
        compiler: compiler.to_owned(),
        reference,
        cases: u32::try_from(cases).unwrap_or(u32::MAX),
        max_abs: found.max_abs,
        mean_abs: found.mean_abs,
        range: found.range,
        step: found.step,
        argmax: found.argmax,
    }
}

pub(super) fn changes(compiled: &Compiled) -> Vec<Change> {
    let change = |&(pass, places): &(&'static str, usize)| Change { pass, places };
    compiled.changes.iter().map(change).collect()
}

/// Bytes of all constants of a graph.
pub(super) fn constant_bytes(graph: &Graph) -> usize {
    let bytes = |array: &Array| {
        let element = match array.data() {
            Data::I8(_) | Data::U8(_) | Data::Bool(_) | Data::Other { .. } => 1,
            Data::I16(_) | Data::U16(_) => 2,
            Data::F32(_) | Data::I32(_) | Data::U32(_) => 4,
            Data::F64(_) | Data::I64(_) | Data::U64(_) => 8,
        };
        array.data().len() * element
    };
    graph.constants().map(|(_, array)| bytes(array)).sum()
}
