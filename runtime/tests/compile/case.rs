//! One model with inputs and reference outputs, compiled in both numerics and compared.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use drover_bundle::compile::{Compiled, Numerics, compile};
use drover_bundle::{DType, Tensor};
use drover_runtime::{Engine, LoadOptions, Model, TractEngine};

use crate::quantiser::{self, Quantiser};

/// Runs that a latency is the least of.
const TIMED: usize = 5;
/// Share of the reference's range that is allowed where no quantiser makes the output.
pub(crate) const RANGE: f64 = 1e-4;

/// A model to compile.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: Vec<u8>,
    /// The same network before it was quantised.
    pub(crate) float: Vec<u8>,
    pub(crate) inputs: Tensor,
    pub(crate) wanted: Tensor,
    /// Steps of the last quantiser that an output may be off.
    pub(crate) steps: f64,
    /// Whether the largest output is the answer.
    pub(crate) classifier: bool,
}

/// One model in one numerics beside its reference.
pub(crate) struct Figures {
    /// Largest difference over what is allowed in exact numerics.
    pub(crate) of_bound: f64,
    /// The same in steps, or in shares of the range where there are none.
    pub(crate) largest: f64,
    /// Mean absolute difference from the reference, in real units.
    pub(crate) mean: f64,
    /// Rows with another largest element, and by how much of the bound the reference itself
    /// tells its two largest apart there.
    pub(crate) flipped: Vec<(usize, f64)>,
    /// Of one run.
    pub(crate) micros: f64,
}

pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) exact: Result<Figures, String>,
    pub(crate) float: Result<Figures, String>,
    /// Mean absolute difference of the quantised reference from the float network.
    pub(crate) own: f64,
    /// What the difference is counted in.
    pub(crate) unit: &'static str,
}

/// What a model answers to each row, and the least time of a run in microseconds.
pub(crate) fn run(model: &mut dyn Model, inputs: &Tensor) -> Result<(Vec<Vec<f32>>, f64), String> {
    let shape: Vec<usize> = model.input().shape.iter().map(|&d| d as usize).collect();
    let dtype = model.input().dtype;
    if dtype != inputs.dtype() {
        return Err(format!("takes {dtype}, the inputs are {}", inputs.dtype()));
    }
    let item = shape.iter().product::<usize>() * dtype.size();
    let mut answers = Vec::new();
    for row in inputs.bytes().chunks(item) {
        let row = Tensor::from_bytes(dtype, shape.clone(), row.to_vec()).unwrap();
        answers.push(model.run(&row).map_err(|e| text(&e))?.to_f32());
    }
    let first = &inputs.bytes()[..item];
    let first = Tensor::from_bytes(dtype, shape, first.to_vec()).unwrap();
    let mut least = f64::INFINITY;
    for _ in 0..TIMED {
        let started = Instant::now();
        model.run(&first).map_err(|e| text(&e))?;
        least = least.min(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok((answers, least))
}

pub(crate) fn load(model: &[u8]) -> Result<Box<dyn Model>, String> {
    let loaded = TractEngine.load(model, &LoadOptions::default());
    loaded.map_err(|e| text(&e))
}

/// An error with its causes.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

pub(crate) fn first_of_largest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

impl Case {
    /// Compiles in both numerics, runs both and compares.
    pub(crate) fn judge(&self) -> Report {
        let one = |numerics| {
            let judged = catch_unwind(AssertUnwindSafe(|| self.figures(numerics)));
            judged.unwrap_or_else(|_| Err("a panic".to_owned()))
        };
        let (exact, float) = (one(Numerics::Exact), one(Numerics::Float));
        let original = drover_bundle::compile::import(&self.model).unwrap();
        let last = quantiser::last(&original);
        Report {
            name: self.name.clone(),
            exact,
            float,
            own: self.own(quantiser::first(&original), last).unwrap(),
            unit: match (self.wanted.dtype(), last) {
                (DType::F32, None) => "range",
                _ => "steps",
            },
        }
    }

    fn figures(&self, numerics: Numerics) -> Result<Figures, String> {
        let compiled: Compiled = compile(&self.model, numerics).map_err(|e| text(&e))?;
        let mut model = load(&compiled.model)?;
        let (answers, micros) = run(model.as_mut(), &self.inputs)?;
        let last = quantiser::last(&compiled.original);
        let reference = self.wanted.to_f32();
        let item = reference.len() / answers.len();
        let low = reference.iter().copied().fold(f32::INFINITY, f32::min);
        let high = reference.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let range = f64::from(high - low).max(1e-9);
        let (unit, allowed) = match (self.wanted.dtype(), last) {
            (DType::F32, None) => (range, RANGE),
            (DType::F32, Some(last)) => (last.scale, self.steps),
            (_, _) => (1.0, self.steps),
        };
        let (mut largest, mut sum, mut flipped) = (0.0f64, 0.0, Vec::new());
        for (row, (wanted, got)) in reference.chunks(item).zip(&answers).enumerate() {
            if wanted.len() != got.len() {
                return Err(format!("{} outputs, not {}", got.len(), wanted.len()));
            }
            for (w, g) in wanted.iter().zip(got) {
                let difference = f64::from(w - g).abs();
                if !difference.is_finite() {
                    return Err(format!("row {row}: {g} instead of {w}"));
                }
                sum += difference;
                largest = largest.max(difference);
            }
            let (best, ours) = (first_of_largest(wanted), first_of_largest(got));
            if best != ours {
                let margin = f64::from(wanted[best] - wanted[ours]) / unit;
                flipped.push((row, margin / allowed));
            }
        }
        let step = match self.wanted.dtype() {
            DType::F32 => 1.0,
            _ => last.map_or(1.0, |last| last.scale),
        };
        Ok(Figures {
            of_bound: largest / unit / allowed,
            largest: largest / unit,
            mean: sum / reference.len() as f64 * step,
            flipped,
            micros,
        })
    }

    /// Mean absolute difference of the reference from what the float network answers to the
    /// same inputs.
    fn own(&self, first: Option<Quantiser>, last: Option<Quantiser>) -> Result<f64, String> {
        let real = |tensor: &Tensor, by: Option<Quantiser>| match (tensor.dtype(), by) {
            (DType::I8 | DType::U8, Some(by)) => {
                let values = tensor.to_f32().into_iter();
                values.map(|v| by.real(v)).collect()
            }
            _ => tensor.to_f32(),
        };
        let inputs = real(&self.inputs, first);
        let inputs = Tensor::from_f32(self.inputs.shape().to_vec(), &inputs).unwrap();
        let (float, _) = run(load(&self.float)?.as_mut(), &inputs)?;
        let float: Vec<f32> = float.into_iter().flatten().collect();
        let wanted = real(&self.wanted, last);
        if float.len() != wanted.len() {
            return Err(format!("{} float outputs", float.len()));
        }
        let pairs = wanted.iter().zip(&float);
        let sum: f64 = pairs.map(|(w, f)| f64::from(w - f).abs()).sum();
        Ok(sum / wanted.len() as f64)
    }
}

/// Judges all cases on every processor; reports come in the order of the cases.
pub(crate) fn judge_all(cases: &[Case]) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = case.judge();
                    done.lock().unwrap().push(report);
                }
            });
        }
    });
    let mut reports = done.into_inner().unwrap();
    let place = |name: &str| cases.iter().position(|case| case.name == name);
    reports.sort_by_key(|report| place(&report.name));
    assert_eq!(reports.len(), cases.len(), "every case was judged");
    reports
}

/// One line per model: what each numerics is off, and how long a run takes.
pub(crate) fn print(reports: &[Report]) {
    println!(
        "{:<32} {:>10} {:<5} {:>5} {:>9} | {:>10} {:>10} {:>5} {:>9}",
        "model", "exact", "", "flips", "us", "float", "own", "flips", "us"
    );
    for report in reports {
        let exact = match &report.exact {
            Ok(f) => format!(
                "{:>10.5} {:<5} {:>5} {:>9.0}",
                f.largest,
                report.unit,
                f.flipped.len(),
                f.micros
            ),
            Err(why) => format!("refused: {why}"),
        };
        let float = match &report.float {
            Ok(f) => format!(
                "{:>10.6} {:>10.6} {:>5} {:>9.0}",
                f.mean,
                report.own,
                f.flipped.len(),
                f.micros
            ),
            Err(why) => format!("refused: {why}"),
        };
        println!("{:<32} {exact} | {float}", report.name);
    }
}

/// What is wrong with a report, as lines. `near_tie` judges a row with another answer by the
/// share of the bound that the reference tells the two apart by. Float numerics may be off by
/// `float` times what the quantised model itself is.
pub(crate) fn faults(
    report: &Report,
    float: f64,
    near_tie: impl Fn(usize, f64) -> bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    match &report.exact {
        Ok(figures) => {
            if figures.of_bound > 1.0001 {
                faults.push(format!(
                    "exact is off by {:.5} {}, {:.2} times what is allowed",
                    figures.largest, report.unit, figures.of_bound
                ));
            }
            for &(row, margin) in &figures.flipped {
                if !near_tie(row, margin) {
                    faults.push(format!(
                        "exact answers row {row} otherwise, which the reference tells apart \
                         by {margin:.3} of what is allowed"
                    ));
                }
            }
        }
        Err(why) => faults.push(format!("exact: {why}")),
    }
    match &report.float {
        // A network that loses nothing by its quantisation is still rounded by f32.
        Ok(figures) if figures.mean > (float * report.own).max(1e-6) => faults.push(format!(
            "float is off by {:.6} on average, the quantised model itself by {:.6}",
            figures.mean, report.own
        )),
        Ok(_) => {}
        Err(why) => faults.push(format!("float: {why}")),
    }
    faults
        .into_iter()
        .map(|fault| format!("{}: {fault}", report.name))
        .collect()
}
