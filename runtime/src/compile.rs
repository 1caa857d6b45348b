//! Compiles a model and proves the result on this machine before anybody gets it.
//!
//! The compiler itself is in `drover-bundle`; here what it makes is run by the engine and held
//! against reference outputs. A model that loses more than its bound is not returned. Nothing
//! is written but temporary files for onnxruntime, where that is asked for.

mod cases;
mod difference;
mod error;
mod estimate;
mod ort;
mod reference;
mod report;
mod step;

use drover_bundle::compile as compiler;
use drover_bundle::manifest::ReferenceKind;
use drover_bundle::{Numerics, Tensor};
use sha2::{Digest as _, Sha256};

use crate::clock::timed;
use crate::engine::{Footprint, LoadOptions, Model, TractEngine};

pub use difference::{Accuracy, Difference};
pub use drover_bundle::spec::{Bound, BoundError};
pub use error::CompileError;
pub use estimate::Estimate;
pub use reference::Reference;
pub use report::{Change, Integer, Latency, Report};

/// Compiler and version, as manifests name it.
pub const COMPILER: &str = concat!("drover-compile ", env!("CARGO_PKG_VERSION"));

/// Runs before any is measured.
const WARM_UP: usize = 3;
/// Runs that are measured, at most.
const RUNS: usize = 200;
/// No run is begun after this time of measuring, in nanoseconds.
const MEASURING_NS: u128 = 500_000_000;

/// What to compile to, and how to check it.
#[derive(Clone, Debug)]
pub struct Options {
    /// In which numbers the compiled model computes.
    pub numerics: Numerics,
    /// What it may lose, each of which must hold. When empty: 2 steps of the last quantiser in
    /// exact numerics (more behind a softmax, 0.02 of the range where quantisers set their scale
    /// as they run), a tenth of the range in float numerics, and 0.0001 of the range for models
    /// without quantisers.
    pub bounds: Vec<Bound>,
    /// Inputs, the first axis is the case; drawn when absent.
    pub inputs: Option<Tensor>,
    /// Reference outputs for the inputs; computed by `reference` when absent.
    pub outputs: Option<Tensor>,
    /// The right class of each input, for figures of accuracy.
    pub labels: Option<Vec<usize>>,
    /// Who computes absent outputs.
    pub reference: Reference,
    /// What the engine loads the compiled model in.
    pub load: LoadOptions,
}

impl Options {
    /// These numerics with everything else left to defaults.
    pub fn new(numerics: Numerics) -> Self {
        Self {
            numerics,
            bounds: Vec::new(),
            inputs: None,
            outputs: None,
            labels: None,
            reference: Reference::default(),
            load: LoadOptions::default(),
        }
    }
}

/// A compiled model that has passed its check.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The ONNX file for the engine.
    pub model: Vec<u8>,
    /// The form in integers alone, as [`compiler::integer::IntegerModel::decode`] reads it.
    pub integer: Option<Vec<u8>>,
    /// The inputs it was checked on, each with its batch axis of 1.
    pub inputs: Vec<Tensor>,
    /// The reference's outputs for them.
    pub outputs: Vec<Tensor>,
}

/// Compiles `model` and compares what comes of it with its reference.
///
/// # Errors
/// [`CompileError::Refused`] names the operator that cannot be compiled, [`CompileError::Lost`]
/// the figure that is over its bound.
pub fn compile(model: &[u8], options: &Options) -> Result<(Compiled, Report), CompileError> {
    let draft = prepare(model, options.numerics, &options.load)?;
    let (compiled, _, report) = draft.prove(options)?;
    Ok((compiled, report))
}

/// A compiled model that nobody has compared with anything yet.
pub(crate) struct Draft<'a> {
    source: &'a [u8],
    compiled: compiler::Compiled,
    runnable: Box<dyn Model>,
    footprint: Footprint,
    load: LoadOptions,
}

/// Compiles `model` and loads what comes of it.
pub(crate) fn prepare<'a>(
    model: &'a [u8],
    numerics: Numerics,
    load: &LoadOptions,
) -> Result<Draft<'a>, CompileError> {
    let compiled = compiler::compile(model, numerics)?;
    let loaded = TractEngine.load_measured(&compiled.model, load);
    let (runnable, footprint) = loaded.map_err(CompileError::Load)?;
    Ok(Draft {
        source: model,
        compiled,
        runnable,
        footprint,
        load: *load,
    })
}

impl Draft<'_> {
    /// The compiled model.
    pub(crate) fn model(&self) -> &dyn Model {
        self.runnable.as_ref()
    }

    /// Compares it with its reference; the numerics of `options` are those it was made in.
    pub(crate) fn prove(
        self,
        options: &Options,
    ) -> Result<(Compiled, Box<dyn Model>, Report), CompileError> {
        let Self {
            source: model,
            compiled,
            mut runnable,
            footprint,
            load,
        } = self;
        let mut notes = Vec::new();
        let inputs = match &options.inputs {
            Some(batch) => cases::cut(batch, runnable.input(), "inputs", "input")?,
            None => {
                let drawn = cases::drawn(runnable.input(), &compiled.canonical);
                let count = drawn.len();
                notes.push(format!(
                "no inputs were given: {count} were drawn at random, the same each time; figures \
                 on real inputs say more"
            ));
                drawn
            }
        };
        let (outputs, reference) = references(
            model,
            &compiled,
            runnable.as_ref(),
            options,
            &load,
            &inputs,
            &mut notes,
        )?;
        same_count("outputs", inputs.len(), outputs.len())?;

        let made = run(runnable.as_mut(), &inputs)?;
        let step = step::of(&compiled.canonical);
        let difference = Difference::new(&outputs, &made, step);
        let accuracy = match &options.labels {
            Some(labels) => {
                same_count("labels", inputs.len(), labels.len())?;
                Some(Accuracy::new(&outputs, &made, labels))
            }
            None => None,
        };
        let bounds = check(
            options,
            (step, step::allowed(&compiled.canonical, step)),
            &difference,
            accuracy,
            reference,
            inputs.len(),
        )?;

        let report = Report {
            validated: report::validated(
                options.numerics,
                Sha256::digest(model).into(),
                COMPILER,
                reference,
                inputs.len(),
                &difference,
            ),
            numerics: options.numerics.name(),
            compiler: COMPILER.to_owned(),
            reference: reference.name(),
            notes,
            cases: inputs.len(),
            difference,
            accuracy,
            bounds: bounds.iter().map(Bound::to_string).collect(),
            latency: measure(runnable.as_mut(), &inputs),
            estimates: estimate::all(footprint.macs),
            source_bytes: model.len(),
            model_bytes: compiled.model.len(),
            weight_file_bytes: report::constant_bytes(&compiled.lowered),
            footprint,
            changes: report::changes(&compiled),
            integer: Integer::of(&compiled.integer, &inputs, &outputs, step),
        };
        let integer = compiled.integer.ok().and_then(|m| m.encode().ok());
        let compiled = Compiled {
            model: compiled.model,
            integer,
            inputs,
            outputs,
        };
        Ok((compiled, runnable, report))
    }
}

/// The graph as text after its import, after each pass that changed it, and as the engine
/// gets it, with a title each. What a pass refuses ends it; the refusal is the last entry.
///
/// # Errors
/// [`CompileError::Refused`] of a file that is no model.
pub fn passes(model: &[u8], numerics: Numerics) -> Result<Vec<(String, String)>, CompileError> {
    let mut graph = compiler::import(model)?;
    let mut shown = vec![("as it came".to_owned(), graph.to_string())];
    for pass in compiler::pass::PASSES {
        match (pass.run)(&mut graph) {
            Ok(0) => {}
            Ok(n) => shown.push((
                format!("after {}, {n} places", pass.name),
                graph.to_string(),
            )),
            Err(error) => {
                shown.push((format!("{} refuses it", pass.name), error.to_string()));
                return Ok(shown);
            }
        }
    }
    let title = format!("for the engine, {} numerics", numerics.name());
    let last = compiler::compile(model, numerics);
    let text = last.map_or_else(|e| e.to_string(), |compiled| compiled.lowered.to_string());
    shown.push((title, text));
    Ok(shown)
}

fn references(
    model: &[u8],
    compiled: &compiler::Compiled,
    runnable: &dyn Model,
    options: &Options,
    load: &LoadOptions,
    inputs: &[Tensor],
    notes: &mut Vec<String>,
) -> Result<(Vec<Tensor>, ReferenceKind), CompileError> {
    let spec = runnable.output();
    if let Some(given) = &options.outputs {
        let outputs = cases::cut(given, spec, "outputs", "output")?;
        return Ok((outputs, ReferenceKind::Given));
    }
    let (outputs, kind, note) =
        reference::outputs(model, &compiled.original, inputs, &options.reference, load)?;
    notes.extend(note);
    let batch = cases::joined(&outputs).map_err(|e| CompileError::Exchange(e.into()))?;
    Ok((cases::cut(&batch, spec, "outputs", "output")?, kind))
}

fn same_count(what: &'static str, inputs: usize, got: usize) -> Result<(), CompileError> {
    match inputs == got {
        true => Ok(()),
        false => Err(CompileError::Cases { what, inputs, got }),
    }
}

fn run(model: &mut dyn Model, inputs: &[Tensor]) -> Result<Vec<Tensor>, CompileError> {
    let mut outputs = Vec::with_capacity(inputs.len());
    for (case, input) in inputs.iter().enumerate() {
        let output = model.run(input);
        outputs.push(output.map_err(|source| CompileError::Run { case, source })?);
    }
    Ok(outputs)
}

/// The bounds that hold, or the first that does not.
fn check(
    options: &Options,
    (step, steps): (step::Step, f32),
    found: &Difference,
    accuracy: Option<Accuracy>,
    reference: ReferenceKind,
    cases: usize,
) -> Result<Vec<Bound>, CompileError> {
    let exact = options.numerics == Numerics::Exact;
    let mut bounds = options.bounds.clone();
    if bounds.is_empty() {
        bounds.push(difference::default_bound(exact, step, steps));
    }
    for &bound in &bounds {
        if let Some(figure) = difference::lost(bound, found, accuracy)? {
            return Err(CompileError::Lost {
                figure,
                bound: bound.to_string(),
                reference: reference.name(),
                cases,
                numerics: options.numerics.name(),
                advice: if exact { "" } else { ", or use exact numerics" },
            });
        }
    }
    Ok(bounds)
}

/// Times single runs; the inputs take turns.
fn measure(model: &mut dyn Model, inputs: &[Tensor]) -> Latency {
    let mut times: Vec<f64> = Vec::with_capacity(RUNS);
    let mut spent = 0;
    for (run, input) in inputs.iter().cycle().take(WARM_UP + RUNS).enumerate() {
        // What the check has run once runs again; a run that fails would only be missing here.
        let (_, time) = timed(|| model.run(input));
        if run >= WARM_UP {
            times.push(time.as_secs_f64() * 1e6);
            spent += time.as_nanos();
        }
        if spent > MEASURING_NS {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * times.len() as f64).ceil() as usize;
        times.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    Latency {
        runs: times.len(),
        p50_us: at(0.5),
        p99_us: at(0.99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy;
    use std::path::{Path, PathBuf};

    fn pump(name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models/pump");
        folder.join(name)
    }

    fn model() -> Vec<u8> {
        std::fs::read(pump("pump-1.0.0.onnx")).unwrap()
    }

    #[test]
    fn what_is_compiled_is_reported_in_full() {
        let (compiled, report) = compile(&model(), &Options::new(Numerics::Exact)).unwrap();
        assert_eq!(compiled.inputs.len(), report.cases);
        assert_eq!(report.reference, "own");
        assert!(report.notes[0].contains("drawn"), "{:?}", report.notes);
        // 96 x 96, 96 x 16, 16 x 96, 96 x 96.
        assert_eq!(report.footprint.macs, 21_504);
        assert!(report.weight_file_bytes > 21_504 && report.weight_file_bytes < 2 * 21_504);
        let in_memory = report.footprint.weight_memory_bytes;
        assert!(in_memory >= 4 * 21_504, "{in_memory} bytes");
        assert!(report.footprint.peak_bytes.unwrap() >= 2 * 4 * 96);
        assert_eq!(report.bounds, ["steps=2"]);
        assert!(report.difference.max_steps.unwrap() <= 2.0);
        assert_eq!(report.validated.max_steps(), report.difference.max_steps);
        assert!(report.latency.p50_us > 0.0 && report.latency.p99_us >= report.latency.p50_us);
    }

    #[test]
    fn a_model_that_loses_more_than_its_bound_is_refused_with_both_figures() {
        let inputs = npy::read(&pump("golden_in.npy")).unwrap();
        let outputs = npy::read(&pump("golden_out-1.0.0.npy")).unwrap();
        let off: Vec<f32> = outputs.to_f32().iter().map(|v| v + 5.0).collect();
        let options = Options {
            inputs: Some(inputs),
            outputs: Tensor::from_f32(outputs.shape().to_vec(), &off).ok(),
            bounds: vec![Bound::Range(0.25)],
            ..Options::new(Numerics::Float)
        };
        let message = compile(&model(), &options).unwrap_err().to_string();
        for part in [
            "of the output's range",
            "range=0.25",
            "8 cases",
            "given",
            "exact numerics",
        ] {
            assert!(message.contains(part), "{message} lacks {part}");
        }
        let fewer = Options {
            labels: Some(vec![0; 3]),
            outputs: None,
            ..options
        };
        let message = compile(&model(), &fewer).unwrap_err().to_string();
        assert!(message.contains("8 inputs and 3 labels"), "{message}");
    }

    #[test]
    fn without_onnxruntime_the_message_says_what_to_install() {
        let options = Options {
            reference: Reference::Ort {
                python: Some("no-such-python".into()),
            },
            ..Options::new(Numerics::Exact)
        };
        let message = compile(&model(), &options).unwrap_err().to_string();
        assert!(message.contains("no-such-python"), "{message}");
        assert!(
            message.contains("install the packages onnxruntime"),
            "{message}"
        );
    }

    #[test]
    fn passes_are_shown_one_by_one() {
        let shown = passes(&model(), Numerics::Exact).unwrap();
        assert_eq!(shown[0].0, "as it came");
        assert!(shown.last().unwrap().0.contains("exact numerics"));
        assert!(shown.iter().all(|(_, text)| text.starts_with("opset ")));
    }
}
