//! The whole suite: through tract as it comes, through the compiler, and by the reference.
//!
//! What tract computes of ONNX must not shrink with an update; what the compiler makes of a
//! model must not be worse than the model itself; and the reference, by which compiled models
//! are judged, must compute what ONNX says or say that it does not know.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use drover_bundle::compile::{eval, import};

use super::attempt;
use super::case::{self, Case};
use super::judge;

/// Tests that must pass in one of the ways; more do.
const LEAST: usize = 1170;
/// Tests that a compiled model fails and the model itself passes, and why that is right.
const WORSE: &[(&str, &str)] = &[
    ("reshape_allowzero_reordered", EMPTY),
    ("split_zero_size_splits_opset13", EMPTY),
    ("split_zero_size_splits_opset18", EMPTY),
    ("triu_zero", EMPTY),
];
/// Exporters write a size of zero for one that they leave open, and the compiler makes it one.
const EMPTY: &str = "an axis of size zero";
/// Tests of which the reference computes something else, and why that is right.
const OTHERWISE: &[(&str, &str)] = &[
    ("l2normalization_axis_0", "the test divides zero by zero"),
    ("qlinearmatmul_2D_int8_float32", OVERFLOWN),
    ("qlinearmatmul_3D_int8_float32", OVERFLOWN),
    ("resize_downsample_scales_cubic_align_corners", CORNERS),
    ("resize_downsample_scales_linear_align_corners", CORNERS),
];
/// The reference aligns the last element with the last, which is what the mode is for.
const CORNERS: &str = "the test aligns a fraction of an element";
const OVERFLOWN: &str = "the test wants a value that overflowed";
/// Tests that the reference must compute right; more it does.
const KNOWN: usize = 850;

/// What came of one test.
struct Outcome {
    /// With everything given when it runs.
    inputs: Result<(), String>,
    /// With constants where exporters make constants.
    constants: Result<(), String>,
    /// The latter, compiled first.
    compiled: Result<(), String>,
    /// Whether the compiler said that it does not take it.
    is_refused: bool,
}

impl Outcome {
    fn passes(&self) -> bool {
        self.inputs.is_ok() || self.constants.is_ok() || self.compiled.is_ok()
    }
}

fn through_tract(case: Result<Case, String>) -> Outcome {
    match case {
        Ok(case) => {
            let inputs = attempt::directly(case.clone());
            let case = case.with_constants();
            let (compiled, is_refused) = attempt::compiled(case.clone());
            Outcome {
                inputs,
                constants: attempt::directly(case),
                compiled,
                is_refused,
            }
        }
        Err(why) => Outcome {
            inputs: Err(why.clone()),
            constants: Err(why.clone()),
            compiled: Err(why),
            is_refused: true,
        },
    }
}

/// Applies `f` to every test on all processors.
fn each<T: Send>(names: &[String], f: impl Fn(&str) -> T + Sync) -> BTreeMap<&str, T> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let worker = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = f(name);
            results.lock().unwrap().insert(name.as_str(), result);
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
    results.into_inner().unwrap()
}

/// Compares what failed with what was known to fail.
fn only_listed(what: &str, failed: &BTreeMap<&str, String>, listed: &[(&str, &str)]) {
    let listed: Vec<&str> = listed.iter().map(|(name, _)| *name).collect();
    let new = failed.iter().filter(|(name, _)| !listed.contains(name));
    let new: Vec<String> = new.map(|(name, why)| format!("{name}: {why}")).collect();
    assert!(new.is_empty(), "{what}:\n{}", new.join("\n"));
    let gone: Vec<_> = listed.iter().filter(|n| !failed.contains_key(*n)).collect();
    assert!(gone.is_empty(), "no longer {what}: {gone:?}");
}

#[test]
fn most_of_the_suite_passes() {
    let Some(folder) = case::folder() else { return };
    attempt::hush();
    let names = case::names(&folder);
    let results = each(&names, |name| through_tract(Case::read(&folder, name)));

    let mut worse = BTreeMap::new();
    let mut counts = [0usize; 5];
    for (name, outcome) in &results {
        let seen = [
            outcome.inputs.is_ok(),
            outcome.inputs.is_err() && outcome.constants.is_ok(),
            outcome.inputs.is_err() && outcome.constants.is_err() && outcome.compiled.is_ok(),
            outcome.is_refused,
            outcome.compiled.is_ok(),
        ];
        for (count, seen) in counts.iter_mut().zip(seen) {
            *count += usize::from(seen);
        }
        if !outcome.passes() {
            for (way, why) in [
                ("as it is", &outcome.constants),
                ("compiled", &outcome.compiled),
            ] {
                let why = why.as_ref().err().map_or("", String::as_str);
                println!("fails: {name}, {way}: {}", attempt::first_line(why));
            }
        }
        if let (Ok(()), Err(why), false) =
            (&outcome.constants, &outcome.compiled, outcome.is_refused)
        {
            worse.insert(*name, why.clone());
        }
    }
    let [inputs, constants, rescued, refused, compiled] = counts;
    let passed = inputs + constants + rescued;
    println!(
        "{} tests: {inputs} pass with runtime inputs, {constants} more with constants, \
         {rescued} more compiled: {passed}",
        results.len(),
    );
    println!("compiled: {compiled} pass, {refused} refused");
    assert!(passed >= LEAST, "only {passed} tests pass");
    only_listed("worse when compiled", &worse, WORSE);
}

/// Computes a test by the reference; nothing where it says that it does not know how.
fn by_reference(case: Result<Case, String>) -> Option<Result<(), String>> {
    let case = case.ok()?;
    let wanted: Vec<_> = case.outputs.iter().map(attempt::tensor).collect();
    let bytes = case.all_constant().bytes();
    let computed = attempt::guarded(move || {
        let graph = import(&bytes).ok();
        Ok(graph.and_then(|graph| eval::run(&graph, &[]).ok()))
    });
    let outputs = match computed {
        Ok(outputs) => outputs?,
        Err(why) => return Some(Err(why)),
    };
    let judged = outputs.iter().zip(wanted).map(|(got, wanted)| {
        let values = got.to_f64().ok_or("gave no numbers")?;
        judge::same(got.element().0, got.shape(), &values, &wanted?)
    });
    Some(judged.collect())
}

#[test]
fn the_reference_computes_what_onnx_says() {
    let Some(folder) = case::folder() else { return };
    attempt::hush();
    let names = case::names(&folder);
    let results = each(&names, |name| by_reference(Case::read(&folder, name)));
    let known = results.values().flatten().count();
    let failed = results.into_iter().filter_map(|(name, result)| {
        let why = result?.err()?;
        Some((name, why))
    });
    println!("the reference computes {known} of {} tests", names.len());
    only_listed(
        "computed otherwise by the reference",
        &failed.collect(),
        OTHERWISE,
    );
    assert!(known >= KNOWN, "only {known} tests are computed");
}
