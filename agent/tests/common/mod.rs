//! What tests of the runner need: a model that adds numbers up, and a stage that remembers
//! what it gave out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drover_agent::config;
use drover_agent::runner::{Capture, Numbered, Rules, Sinks, Slot, Stage};
use drover_agent::source::{Columns, Feed, Row};
use drover_bundle::{
    Channel, Chunking, DType, Decision, InputSpec, Manifest, Normalisation, OutputSpec, Requires,
    Scoring, Tensor, TensorSpec, Tolerance, Window,
};
use drover_runtime::{Model, RunError};
use drover_wire::message::{Body, Digest};
use tokio::sync::broadcast;

/// Rows of a window of [`manifest`].
pub(crate) const WINDOW: u32 = 3;

/// A manifest for a model over windows of three rows.
pub(crate) fn manifest(version: &str, channels: &[&str]) -> Manifest {
    let shape = vec![1, WINDOW * u32::try_from(channels.len()).unwrap()];
    Manifest {
        name: "adder".into(),
        version: version.into(),
        counter: 1,
        epoch: 0,
        lineage: Default::default(),
        components: Vec::new(),
        numerics: None,
        created_unix_s: 0,
        description: String::new(),
        files: Vec::new(),
        chunking: Chunking {
            chunk_bytes: 4096,
            digests: Vec::new(),
        },
        requires: Requires {
            engine: "tract".into(),
            arch: Vec::new(),
            memory_bytes: 0,
        },
        input: InputSpec {
            tensor: TensorSpec {
                name: "x".into(),
                dtype: DType::F32,
                shape,
            },
            channels: channels
                .iter()
                .map(|name| Channel {
                    name: (*name).into(),
                    unit: String::new(),
                })
                .collect(),
            window: Window {
                rows: WINDOW,
                stride: 1,
            },
            normalisation: Normalisation::None,
            quantisation: None,
        },
        output: OutputSpec {
            tensor: TensorSpec {
                name: "y".into(),
                dtype: DType::F32,
                shape: vec![1, 1],
            },
            quantisation: None,
            scoring: Scoring::First,
            decision: Decision::Threshold {
                threshold: 100.0,
                median_of: 1,
            },
        },
        tolerance: Tolerance::RangeFraction(0.0),
    }
}

/// How an [`Adder`] behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// The sum of the window.
    Well,
    /// Not a number.
    Nan,
    /// An error.
    Broken,
    /// The sum, late.
    Slow,
}

struct Adder {
    input: TensorSpec,
    output: TensorSpec,
    manner: Manner,
}

impl Model for Adder {
    fn input(&self) -> &TensorSpec {
        &self.input
    }

    fn output(&self) -> &TensorSpec {
        &self.output
    }

    fn run(&mut self, input: &Tensor) -> Result<Tensor, RunError> {
        let sum = match self.manner {
            Manner::Well => input.to_f32().iter().sum(),
            Manner::Nan => f32::NAN,
            Manner::Broken => return Err(RunError::Panicked("by order".into())),
            Manner::Slow => {
                let until = Instant::now() + Duration::from_millis(2);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                input.to_f32().iter().sum()
            }
        };
        Ok(Tensor::from_f32(vec![1, 1], &[sum]).unwrap())
    }
}

/// A model of one channel, loaded.
pub(crate) fn slot(version: &str, digest: u8, manner: Manner, baseline: Option<Vec<u8>>) -> Slot {
    slot_of(&manifest(version, &["a"]), digest, manner, baseline)
}

/// A model as `manifest` describes it, loaded.
pub(crate) fn slot_of(
    manifest: &Manifest,
    digest: u8,
    manner: Manner,
    baseline: Option<Vec<u8>>,
) -> Slot {
    let model = Adder {
        input: manifest.input.tensor.clone(),
        output: manifest.output.tensor.clone(),
        manner,
    };
    Slot::with_model(manifest, [digest; 32], Box::new(model), baseline).unwrap()
}

/// A trial's candidate, and why it failed if it did.
pub(crate) type Ending = (Digest, Result<(), String>);

/// What a stage gave out.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    /// Records.
    pub(crate) bodies: Arc<Mutex<Vec<Body>>>,
    /// Endings of trials.
    pub(crate) endings: Arc<Mutex<Vec<Ending>>>,
}

impl Heard {
    /// Sinks that remember.
    pub(crate) fn sinks(&self, results: broadcast::Sender<Arc<str>>) -> Sinks {
        let bodies = Arc::clone(&self.bodies);
        let endings = Arc::clone(&self.endings);
        Sinks {
            record: Box::new(move |body| {
                let mut bodies = bodies.lock().unwrap();
                bodies.push(body);
                Numbered {
                    boot: 1,
                    sequence: bodies.len() as u64,
                    unix_ms: 0,
                }
            }),
            fleet: true,
            results,
            lines: None,
            report: Box::new(move |digest, ending| {
                endings.lock().unwrap().push((digest, ending));
            }),
            capture: Capture::default(),
            now_unix_ms: || 0,
        }
    }

    /// Models and scores of all observations so far, in order.
    pub(crate) fn observations(&self) -> Vec<(u8, f32)> {
        let bodies = self.bodies.lock().unwrap();
        let observation = |body: &Body| match body {
            Body::Observation(o) => Some((o.model[0], o.score)),
            _ => None,
        };
        bodies.iter().filter_map(observation).collect()
    }

    /// Endings of trials so far.
    pub(crate) fn endings(&self) -> Vec<Ending> {
        self.endings.lock().unwrap().clone()
    }
}

/// A stage with `settings` that `heard` listens to.
pub(crate) fn stage(heard: &Heard, settings: &config::Runner) -> Stage {
    let (results, _) = broadcast::channel(4);
    let rules = Rules::new(settings, false);
    Stage::new(rules, heard.sinks(results), "test".into())
}

/// A row of one column `a`.
pub(crate) fn row(value: f32) -> Feed {
    let columns: Columns = ["a".to_owned()].into();
    Feed::Row(Row {
        columns,
        values: vec![value],
        time: None,
    })
}
