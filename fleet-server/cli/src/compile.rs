//! `drover compile`: one model, compiled, proven on this machine and described.
//!
//! Files are written when everything has passed, each as a whole or not at all: a model that
//! loses more than its bound leaves nothing behind.

mod text;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use drover_bundle::manifest::MAX_TOTAL_BYTES;
use drover_bundle::{DType, Numerics, Tensor};
use drover_runtime::compile::{self, Bound, Options, Reference, Report};
use drover_runtime::npy;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Compile {
    /// Model to compile, an ONNX file
    model: PathBuf,
    /// Where to write the compiled model
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present = "show_passes"
    )]
    output: Option<PathBuf>,
    /// In which numbers it computes
    #[arg(long, value_enum, default_value_t = Numbers::Exact)]
    numerics: Numbers,
    /// What it may lose: steps=2 (of the last quantiser), range=0.01 (share of the output's
    /// range), accuracy=0.4 (percentage points) or argmax=0.99 (share of the cases); all that
    /// are given must hold
    #[arg(long, value_name = "FIGURE=N")]
    bound: Vec<Bound>,
    /// Inputs to check it on, .npy, the first axis is the case; drawn at random when absent
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Outputs of a reference for these inputs, .npy; computed when absent
    #[arg(long, value_name = "FILE", requires = "inputs")]
    outputs: Option<PathBuf>,
    /// Right class of each input, .npy, for figures of accuracy
    #[arg(long, value_name = "FILE", requires = "inputs")]
    labels: Option<PathBuf>,
    /// Who computes reference outputs that are absent
    #[arg(long, value_enum, default_value_t = By::Own)]
    reference: By,
    /// Python that has onnxruntime, for --reference ort
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// Where to write the model's form in integers alone
    #[arg(long, value_name = "FILE")]
    integer: Option<PathBuf>,
    /// Print the graph after each pass instead of a report
    #[arg(long, conflicts_with = "integer")]
    show_passes: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Numbers {
    /// As the quantised model means it: every quantiser rounds and clamps
    Exact,
    /// Quantisers clamp and do not round
    Float,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// This compiler, operator by operator as ONNX defines them
    Own,
    /// onnxruntime
    Ort,
}

/// One text of `--show-passes`.
#[derive(Serialize)]
struct Shown {
    title: String,
    graph: String,
}

/// A report with the files it is about.
#[derive(Serialize)]
struct View<'a> {
    model: &'a Path,
    output: Option<&'a Path>,
    integer_output: Option<&'a Path>,
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) fn run(args: &Compile, out: &Output) -> Result<()> {
    let model = file::read(&args.model, MAX_TOTAL_BYTES, "a model of a bundle")?;
    let failed = |source| CliError::Compile {
        model: args.model.clone(),
        source: Box::new(source),
    };
    let numerics = match args.numerics {
        Numbers::Exact => Numerics::Exact,
        Numbers::Float => Numerics::Float,
    };
    if args.show_passes {
        let passes = compile::passes(&model, numerics).map_err(failed)?;
        show_passes(passes, out)?;
        if args.output.is_none() {
            return Ok(());
        }
    }
    let tensor = |path: &Option<PathBuf>| path.as_deref().map(npy::read).transpose();
    let options = Options {
        bounds: args.bound.clone(),
        inputs: tensor(&args.inputs)?,
        outputs: tensor(&args.outputs)?,
        labels: args.labels.as_deref().map(labels).transpose()?,
        reference: match args.reference {
            By::Own => Reference::Own,
            By::Ort => Reference::Ort {
                python: Some(args.python.clone()),
            },
        },
        ..Options::new(numerics)
    };
    let (compiled, report) = compile::compile(&model, &options).map_err(failed)?;
    if let Some(path) = &args.integer {
        let integer = compiled.integer.ok_or_else(|| CliError::NoInteger {
            model: args.model.clone(),
            why: report.integer.why_not.clone().unwrap_or_default(),
        })?;
        file::replace(path, &integer)?;
    }
    if let Some(path) = &args.output {
        file::replace(path, &compiled.model)?;
    }
    if args.show_passes {
        return Ok(());
    }
    let view = View {
        model: &args.model,
        output: args.output.as_deref(),
        integer_output: args.integer.as_deref(),
        report: &report,
    };
    out.show(&view, || text::table(&report))
}

fn show_passes(passes: Vec<(String, String)>, out: &Output) -> Result<()> {
    let shown = passes.into_iter();
    let shown: Vec<Shown> = shown.map(|(title, graph)| Shown { title, graph }).collect();
    out.show_lines(&shown, || {
        let texts = shown.iter().map(|s| format!("== {}\n{}", s.title, s.graph));
        texts.collect::<Vec<_>>().join("\n")
    })
}

/// One class a case, whatever integers the file has.
fn labels(path: &Path) -> Result<Vec<usize>> {
    let tensor = npy::read(path)?;
    let wrong = || CliError::Labels {
        path: path.to_owned(),
    };
    if tensor.dtype() == DType::F32 || Tensor::is_empty(&tensor) {
        return Err(wrong());
    }
    let class = |value: f32| (value >= 0.0).then_some(value as usize).ok_or_else(wrong);
    tensor.to_f32().into_iter().map(class).collect()
}
