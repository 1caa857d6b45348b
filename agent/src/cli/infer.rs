//! `drover-agent infer`: a model or bundle over a file, without a server.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use drover_bundle::{DType, Tolerance};
use drover_runtime::{LoadedBundle, Model, TractEngine};

use super::run::{Local, Output};
use crate::config::{self, SourceKind, Speed};
use crate::runner::Bundle;
use crate::{AgentError, infer, model};

/// A float output may be off by this fraction of the range where nothing else is asked for.
const FLOAT_FRACTION: f32 = 1e-4;
/// An integer output may be off by this many steps.
const INTEGER_STEPS: u32 = 2;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["input", "csv"])))]
pub(super) struct InferArgs {
    /// ONNX graph (.onnx) or bundle; not needed with --spec
    #[arg(required_unless_present = "spec")]
    model: Option<PathBuf>,
    /// Spec of a bundle (bundle.toml): how rows become inputs, and what outputs mean
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    spec: Option<PathBuf>,
    /// Root file whose release keys must have signed the bundle
    #[arg(long, value_name = "FILE", requires = "model")]
    root: Option<PathBuf>,
    /// Inputs: a .npy file whose first axis is the samples
    #[arg(long, value_name = "FILE.npy")]
    input: Option<PathBuf>,
    /// Where the outputs go, stacked on their first axis
    #[arg(long, value_name = "FILE.npy", requires = "input")]
    output: Option<PathBuf>,
    /// Outputs of a reference to compare with; a difference is a failure
    #[arg(long, value_name = "FILE.npy", requires = "input")]
    expect: Option<PathBuf>,
    /// Allowed difference as a fraction of the range of the reference [default for float
    /// outputs: 0.0001]
    #[arg(long, value_name = "FRACTION", requires = "expect")]
    tolerance_range: Option<f32>,
    /// Allowed difference in steps of an integer output [default for those: 2]
    #[arg(
        long,
        value_name = "STEPS",
        requires = "expect",
        conflicts_with = "tolerance_range"
    )]
    tolerance_steps: Option<u32>,
    /// Rows: a CSV file whose header names the channels; results are lines of JSON
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["input", "expect"])]
    csv: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl InferArgs {
    pub(super) fn execute(self) -> Result<u8, AgentError> {
        let bundle = match (&self.spec, &self.model) {
            (Some(spec), _) => Some(model::open_spec(spec)?),
            (None, Some(path)) if !model::is_onnx(path) => {
                Some(model::open_bundle(path, self.root.as_deref())?)
            }
            _ => None,
        };
        match (&self.csv, bundle) {
            (Some(csv), Some(bundle)) => stream(csv.clone(), bundle),
            (Some(_), None) => Err(AgentError::Usage(
                "a bare ONNX graph does not say which columns it takes and what its output means; \
                 give a bundle, or --spec bundle.toml"
                    .into(),
            )),
            (None, Some(bundle)) => {
                let name = bundle.manifest.name.clone();
                let mut loaded = load(bundle, &self)?;
                self.batch(loaded.model_mut(), &name)
            }
            (None, None) => {
                let path = self.model.clone().unwrap_or_default();
                let mut model = model::open_onnx(&path)?;
                if self.expect.is_none() {
                    eprintln!(
                        "note: {} comes without golden vectors, nothing vouches for the numbers; \
                         --expect compares them with a reference",
                        path.display()
                    );
                }
                self.batch(model.as_mut(), &path.display().to_string())
            }
        }
    }

    fn batch(&self, model: &mut dyn Model, name: &str) -> Result<u8, AgentError> {
        // One of input and csv is required, and csv was dealt with.
        let input = self.input.clone().unwrap_or_default();
        let batch = infer::run(model, name, &input)?;
        let spec = model.output().clone();
        if let Some(expected) = &self.expect {
            batch.check(&spec, expected, self.tolerance(spec.dtype))?;
        }
        if let Some(output) = &self.output {
            batch.write(&spec, output)?;
        }
        let samples = batch.len();
        let checked = self.expect.is_some();
        super::print(&if self.json {
            format!("{{\"samples\":{samples},\"checked\":{checked}}}\n")
        } else {
            let checked = if checked { ", all as expected" } else { "" };
            format!("{samples} samples{checked}\n")
        })
    }

    fn tolerance(&self, dtype: DType) -> Tolerance {
        match (self.tolerance_range, self.tolerance_steps, dtype) {
            (Some(fraction), _, _) => Tolerance::RangeFraction(fraction),
            (None, Some(steps), _) => Tolerance::Steps(steps),
            (None, None, DType::F32) => Tolerance::RangeFraction(FLOAT_FRACTION),
            (None, None, _) => Tolerance::Steps(INTEGER_STEPS),
        }
    }
}

fn load(bundle: Bundle, args: &InferArgs) -> Result<LoadedBundle, AgentError> {
    let Bundle {
        manifest,
        model,
        golden,
        ..
    } = bundle;
    LoadedBundle::load(&TractEngine, &manifest, &model, &golden).map_err(|error| {
        let path = args.model.as_ref().or(args.spec.as_ref());
        AgentError::Model {
            path: path.cloned().unwrap_or_default(),
            source: error.into(),
        }
    })
}

fn stream(csv: PathBuf, bundle: Bundle) -> Result<u8, AgentError> {
    let config = config::Config {
        source: config::Source {
            kind: SourceKind::Csv,
            path: csv,
            speed: Speed::Max,
            ..config::Source::default()
        },
        ..config::Config::default()
    };
    Local {
        config,
        bundle,
        output: Output::Lines,
        socket: false,
    }
    .run()
}
