//! What compiling costs and brings: time, size, and the engine's time per run beside that of
//! the float network and of the file as it came.
//!
//! One line of JSON per figure on standard output, for every model of `../shared/models`.
//! `--quick` takes fewer rounds. The four forms of a network take turns within a round, so
//! that a change of clock speed meets all of them. A form that the engine does not load gives
//! a line with its reason; whether it computes the right thing is not asked here.

use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use drover_bundle::Tensor;
use drover_bundle::compile::{Numerics, compile};
use drover_runtime::{Engine as _, LoadOptions, Model, TractEngine};
use serde_json::{Value, json};

/// Least time that one form is run for in one round, in seconds.
const SLICE: f64 = 0.01;

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 3 } else { 11 };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    if !folder.is_dir() {
        let why = format!("{} is not there", folder.display());
        return missing("all", "ratio", &why);
    }
    let mut names = Vec::new();
    for file in std::fs::read_dir(&folder)? {
        let name = file?.file_name().into_string().unwrap_or_default();
        if let Some(name) = name.strip_suffix(".onnx") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    for name in &names {
        let family = names.iter().filter_map(|n| n.strip_suffix("_f32"));
        let family = family
            .filter(|family| {
                name.strip_prefix(family)
                    .is_some_and(|v| v.starts_with('_'))
            })
            .max_by_key(|family| family.len());
        let Some(family) = family else { continue };
        let bytes = |name: &str| std::fs::read(folder.join(format!("{name}.onnx")));
        let float = bytes(&format!("{family}_f32"))?;
        measure(name, &bytes(name)?, &float, rounds).with_context(|| name.clone())?;
    }
    Ok(())
}

/// All figures of one model; `float` is its network before it was quantised.
fn measure(name: &str, original: &[u8], float: &[u8], rounds: usize) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut compiled = None;
    for _ in 0..=rounds {
        let started = Instant::now();
        compiled = Some(compile(original, Numerics::Exact));
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let exact = match compiled.context("nothing was compiled")? {
        Ok(compiled) => compiled.model,
        Err(error) => return missing(&format!("{name}_compile_ms"), "ms", &error.to_string()),
    };
    // The first warms caches.
    print(
        &format!("{name}_compile_ms"),
        "ms",
        None,
        times.split_off(1),
    )?;
    let lowered = compile(original, Numerics::Float)?.model;
    let sizes = vec![exact.len() as f64];
    print(&format!("{name}_bundle_bytes"), "bytes", None, sizes)?;
    let ratio = exact.len() as f64 / original.len() as f64;
    let figure = format!("{name}_bytes_ratio_to_uncompiled");
    print(&figure, "ratio", None, vec![ratio])?;

    let forms = [float, original, &exact, &lowered];
    let mut forms = forms.map(|form| TractEngine.load(form, &LoadOptions::default()));
    let mut medians = [(); 4].map(|()| Vec::new());
    for round in 0..=rounds {
        for (form, medians) in forms.iter_mut().zip(&mut medians) {
            if let Ok(model) = form {
                let median = p50(model.as_mut())?;
                // The first round warms caches and is not counted.
                if round > 0 {
                    medians.push(median);
                }
            }
        }
    }
    for (form, place) in [("exact", 2), ("float", 3)] {
        let micros = medians[place].iter().map(|seconds| seconds * 1e6).collect();
        let figure = format!("{name}_{form}_p50_us");
        match &forms[place] {
            Ok(_) => print(&figure, "us", None, micros)?,
            Err(error) => missing(&figure, "us", &error.to_string())?,
        }
        for (peer, against, goal) in [("f32", 0, Some(1.0)), ("uncompiled", 1, None)] {
            let figure = format!("{name}_{form}_p50_ratio_to_{peer}");
            match (&forms[place], &forms[against]) {
                (Ok(_), Ok(_)) => {
                    let pairs = medians[place].iter().zip(&medians[against]);
                    print(&figure, "ratio", goal, pairs.map(|(a, b)| a / b).collect())?;
                }
                (Err(error), _) | (_, Err(error)) => {
                    missing(&figure, "ratio", &error.to_string())?;
                }
            }
        }
    }
    Ok(())
}

/// The median time of one run, in seconds.
fn p50(model: &mut dyn Model) -> anyhow::Result<f64> {
    let shape: Vec<usize> = model.input().shape.iter().map(|&d| d as usize).collect();
    let dtype = model.input().dtype;
    let elements: usize = shape.iter().product();
    let input = match dtype.size() {
        1 => {
            let steps = (0..elements).map(|at| (at * 37 % 251) as u8).collect();
            Tensor::from_bytes(dtype, shape, steps)?
        }
        _ => {
            let values: Vec<f32> = (0..elements).map(|at| (at as f32 * 0.37).sin()).collect();
            Tensor::from_f32(shape, &values)?
        }
    };
    let (mut times, started) = (Vec::new(), Instant::now());
    while started.elapsed().as_secs_f64() < SLICE || times.len() < 5 {
        let run = Instant::now();
        black_box(model.run(black_box(&input))?);
        times.push(run.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// One figure: the median, and the spread as (max - min) / median.
fn print(figure: &str, unit: &str, goal: Option<f64>, mut values: Vec<f64>) -> anyhow::Result<()> {
    values.sort_by(f64::total_cmp);
    ensure!(!values.is_empty(), "{figure}: nothing measured");
    let median = values[values.len() / 2];
    let range = values[values.len() - 1] - values[0];
    line(&json!({
        "bench": "compile", "figure": figure, "value": median, "unit": unit, "goal": goal,
        "better": "lower", "n": values.len(), "spread": range / median,
    }))
}

fn missing(figure: &str, unit: &str, why: &str) -> anyhow::Result<()> {
    line(&json!({
        "bench": "compile", "figure": figure, "value": null, "unit": unit, "goal": null,
        "better": "lower", "why": why,
    }))
}

fn line(line: &Value) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
