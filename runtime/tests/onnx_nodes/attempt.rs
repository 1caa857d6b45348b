//! Ways to run a test's model, none of which may take the test program with it.
//!
//! tract panics on some models of the suite; that is caught here. Each attempt has a thread of
//! its own, which is left behind when it takes too long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::time::Duration;

use drover_bundle::compile::{Numerics, compile};
use prost::Message as _;
use tract_onnx::data_resolver;
use tract_onnx::pb::{ModelProto, TensorProto};
use tract_onnx::prelude::{Framework as _, InferenceModelExt as _, IntoRunnable as _, Tensor};
use tract_onnx::prelude::{IntoTValue as _, TVec};
use tract_onnx::tensor::load_tensor;

use super::case::Case;
use super::judge;

/// A model of one node is ready within milliseconds, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// Name of the threads, whose panics are not printed.
const THREAD: &str = "attempt";

/// Lets `f` run in a thread of its own, and gives up on it after a while.
pub(crate) fn guarded<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (done, result) = channel();
    let run = move || {
        let outcome = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or_default()))
        });
        // Nobody listens any more when it was too late.
        let _ = done.send(outcome);
    };
    let thread = std::thread::Builder::new().name(THREAD.to_owned());
    thread.spawn(run).map_err(|e| e.to_string())?;
    match result.recv_timeout(DEADLINE) {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("did not end within {DEADLINE:?}")),
    }
}

/// Keeps panics in attempts from being printed; all others are.
pub(crate) fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(THREAD) {
                print(info);
            }
        }));
    });
}

/// Runs the model as it is and compares all outputs.
pub(crate) fn directly(case: Case) -> Result<(), String> {
    guarded(move || run(&case.model, &case))
}

/// Compiles the model and runs what comes of it. Also tells whether the compiler said that it
/// does not take the model, or that the model is no ONNX.
pub(crate) fn compiled(case: Case) -> (Result<(), String>, bool) {
    let bytes = case.bytes();
    let compiled = guarded(move || match compile(&bytes, Numerics::Exact) {
        Ok(compiled) => Ok(Ok(compiled.model)),
        Err(why) => Ok(Err(why.to_string())),
    });
    match compiled {
        Ok(Ok(model)) => {
            let run = move || {
                let model = ModelProto::decode(&*model).map_err(|e| e.to_string())?;
                run(&model, &case)
            };
            (guarded(run), false)
        }
        Ok(Err(why)) => (Err(why), true),
        Err(why) => (Err(why), false),
    }
}

fn run(model: &ModelProto, case: &Case) -> Result<(), String> {
    let text = |e: tract_onnx::prelude::TractError| format!("{e:#}");
    let wanted = case.outputs.iter().map(tensor);
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let plan = tract_onnx::onnx()
        .model_for_proto_model(model)
        .and_then(|m| m.into_optimized())
        .and_then(|m| m.into_runnable())
        .map_err(text)?;
    let inputs = case.inputs.iter();
    let inputs = inputs.map(|input| Ok(tensor(input)?.into_tvalue()));
    let inputs = inputs.collect::<Result<TVec<_>, String>>()?;
    let outputs = plan.run(inputs).map_err(text)?;
    if outputs.len() != wanted.len() {
        return Err(format!("{} outputs, not {}", outputs.len(), wanted.len()));
    }
    for (output, wanted) in outputs.iter().zip(&wanted) {
        judge::similar(output, wanted)?;
    }
    Ok(())
}

/// The error and its causes in one line, without where in tract it was made.
pub(crate) fn brief(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// Messages of tract go on with where in tract they were made.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The tensor that a file holds.
pub(crate) fn tensor(proto: &TensorProto) -> Result<Tensor, String> {
    load_tensor(&*data_resolver::default(), proto, None).map_err(|e| format!("{e:#}"))
}
