//! Streams through a model whose answers can be computed by hand.

use drover_bundle::{
    Channel, Chunking, DType, Decision, FileEntry, FileRole, InputSpec, Manifest, Normalisation,
    OutputSpec, Requires, Scoring, TensorSpec, Tolerance, Window,
};

use super::*;
use crate::error::{BoxError, RunError};

pub(crate) fn input_spec(channels: &[&str], rows: u32, stride: u32) -> InputSpec {
    InputSpec {
        tensor: TensorSpec {
            name: "x".into(),
            dtype: DType::F32,
            shape: vec![1, rows, channels.len() as u32],
        },
        channels: channels
            .iter()
            .map(|name| Channel {
                name: (*name).into(),
                unit: String::new(),
            })
            .collect(),
        window: Window { rows, stride },
        normalisation: Normalisation::None,
        quantisation: None,
    }
}

/// Scores are the first value of the normalised window, because [`Echo`] returns it.
pub(crate) fn manifest(
    channels: &[&str],
    rows: u32,
    stride: u32,
    normalisation: Normalisation,
    decision: Decision,
) -> Manifest {
    let mut input = input_spec(channels, rows, stride);
    input.normalisation = normalisation;
    let file = |name: &str, role| FileEntry {
        name: name.into(),
        role,
        size: 0,
        sha256: [0; 32],
    };
    let output = OutputSpec {
        tensor: TensorSpec {
            name: "y".into(),
            ..input.tensor.clone()
        },
        quantisation: None,
        scoring: Scoring::First,
        decision,
    };
    Manifest {
        name: "echo".into(),
        version: "1".into(),
        counter: 1,
        epoch: 0,
        lineage: Default::default(),
        components: Vec::new(),
        numerics: None,
        created_unix_s: 0,
        description: String::new(),
        files: vec![
            file("model.onnx", FileRole::Model),
            file("golden.bin", FileRole::Golden),
        ],
        chunking: Chunking {
            chunk_bytes: 1024,
            digests: vec![],
        },
        requires: Requires {
            engine: "echo".into(),
            arch: vec![],
            memory_bytes: 0,
        },
        input,
        output,
        tolerance: Tolerance::RangeFraction(0.1),
    }
}

/// Answers with its input, and fails where the first value is 666.
pub(crate) struct Echo {
    input: TensorSpec,
    output: TensorSpec,
}

impl Echo {
    pub(crate) fn boxed(manifest: &Manifest) -> Box<dyn Model> {
        Box::new(Self {
            input: manifest.input.tensor.clone(),
            output: manifest.output.tensor.clone(),
        })
    }
}

impl Model for Echo {
    fn input(&self) -> &TensorSpec {
        &self.input
    }

    fn output(&self) -> &TensorSpec {
        &self.output
    }

    fn run(&mut self, input: &Tensor) -> Result<Tensor, RunError> {
        if input.to_f32().first() == Some(&666.0) {
            return Err(RunError::Engine(BoxError::from("the beast")));
        }
        Ok(input.clone())
    }
}

fn pipeline(manifest: &Manifest) -> Pipeline {
    Pipeline::new(manifest, Echo::boxed(manifest)).unwrap()
}

/// Scores, in the order in which outcomes came, and how many came with each row.
fn stream(pipeline: &mut Pipeline, values: &[f32]) -> (Vec<f32>, Vec<usize>) {
    let mut scores = Vec::new();
    let counts = values
        .iter()
        .map(|value| {
            let outcomes = pipeline.push_row(&[*value]).unwrap();
            scores.extend(outcomes.iter().map(|o| o.score));
            outcomes.len()
        })
        .collect();
    (scores, counts)
}

fn calibrated(windows: u32) -> Decision {
    Decision::CalibratedQuantile {
        windows,
        quantile: 1.0,
        factor: 1.0,
        median_of: 1,
    }
}

#[test]
fn windows_come_with_the_row_that_completes_them() {
    let fixed = Decision::Threshold {
        threshold: 2.5,
        median_of: 1,
    };
    let manifest = manifest(&["a"], 2, 2, Normalisation::None, fixed);
    let mut pipeline = pipeline(&manifest);
    assert!(pipeline.push_row(&[3.0]).unwrap().is_empty());
    let outcome = pipeline.push_row(&[4.0]).unwrap()[0].clone();
    assert_eq!((outcome.window, outcome.first_row), (0, 0));
    assert_eq!(outcome.rows, [3.0, 4.0]);
    assert_eq!((outcome.score, outcome.smoothed), (3.0, 3.0));
    assert_eq!(outcome.threshold, Some(2.5));
    assert_eq!(outcome.verdict, Verdict::Anomalous);

    let (scores, counts) = stream(&mut pipeline, &[1.0, 9.0, 9.0]);
    assert_eq!((scores, counts), (vec![1.0], vec![0, 1, 0]));
    assert_eq!(pipeline.features(), ["a", "score"]);
}

#[test]
fn calibrating_windows_are_held_decided_and_in_order() {
    let rule = Normalisation::CalibratedZScore {
        rows: 4,
        epsilon: 1.0,
        clip: 8.0,
    };
    let manifest = manifest(&["a"], 2, 1, rule, calibrated(4));
    let mut pipeline = pipeline(&manifest);
    // Mean 2, population deviation 1, divisor 2.
    let (scores, counts) = stream(&mut pipeline, &[1.0, 3.0, 1.0, 3.0, 6.0]);
    assert_eq!(counts, [0, 0, 0, 0, 4]);
    assert_eq!(scores, [-0.5, 0.5, -0.5, 0.5]);
    let last = pipeline.push_row(&[0.0]).unwrap()[0].clone();
    assert_eq!((last.window, last.score), (4, 2.0));
    assert_eq!(last.normalised, [2.0, -1.0]);
    assert_eq!(
        last.threshold,
        Some(0.5),
        "the largest of the first four scores"
    );
    assert_eq!(last.verdict, Verdict::Anomalous);
}

#[test]
fn a_stream_that_ends_early_is_flushed_undecided() {
    let rule = Normalisation::CalibratedZScore {
        rows: 100,
        epsilon: 1.0,
        clip: 8.0,
    };
    let fixed = Decision::Threshold {
        threshold: 0.0,
        median_of: 1,
    };
    let manifest = manifest(&["a"], 2, 1, rule, fixed);
    let mut pipeline = pipeline(&manifest);
    stream(&mut pipeline, &[1.0, 3.0, 1.0, 3.0]);
    let outcomes = pipeline.finish().unwrap().to_vec();
    let scores: Vec<f32> = outcomes.iter().map(|o| o.score).collect();
    assert_eq!(scores, [-0.5, 0.5, -0.5]);
    assert!(
        outcomes
            .iter()
            .all(|o| o.verdict == Verdict::None && o.threshold.is_none())
    );

    // The next stream counts and calibrates from its own start.
    stream(&mut pipeline, &[10.0, 10.0]);
    let outcomes = pipeline.finish().unwrap();
    assert_eq!((outcomes.len(), outcomes[0].window), (1, 0));
    assert_eq!(outcomes[0].score, 0.0);
    assert!(pipeline.finish().unwrap().is_empty());
}

#[test]
fn a_reset_drops_what_was_held() {
    let manifest = manifest(&["a"], 1, 1, Normalisation::None, calibrated(2));
    let mut pipeline = pipeline(&manifest);
    assert_eq!(stream(&mut pipeline, &[7.0]).1, [0]);
    pipeline.reset();
    assert_eq!(
        stream(&mut pipeline, &[1.0, 2.0]),
        (vec![1.0, 2.0], vec![0, 2])
    );
}

#[test]
fn windows_with_missing_values_are_counted_and_not_scored() {
    let manifest = manifest(&["a"], 2, 1, Normalisation::None, Decision::None);
    let mut pipeline = pipeline(&manifest);
    let (scores, _) = stream(&mut pipeline, &[0.0, 1.0, f32::NAN, 3.0, 4.0]);
    assert_eq!(scores, [0.0, 3.0]);
    let counts = pipeline.counts();
    assert_eq!((counts.rows, counts.windows, counts.skipped), (5, 4, 2));
}

#[test]
fn a_channel_that_is_missing_at_first_calibrates_when_it_is_there() {
    let rule = Normalisation::CalibratedZScore {
        rows: 2,
        epsilon: 1.0,
        clip: 8.0,
    };
    let manifest = manifest(&["a"], 1, 1, rule, Decision::None);
    let mut pipeline = pipeline(&manifest);
    let (scores, counts) = stream(&mut pipeline, &[f32::NAN, 5.0, 1.0, 3.0]);
    assert_eq!(counts, [0, 0, 0, 2]);
    assert_eq!(scores, [-0.5, 0.5]);
    assert_eq!(pipeline.counts().skipped, 2);
}

#[test]
fn a_model_that_fails_loses_one_window_and_no_other() {
    let manifest = manifest(&["a"], 1, 1, Normalisation::None, calibrated(3));
    let mut pipeline = pipeline(&manifest);
    stream(&mut pipeline, &[1.0, 2.0]);
    let error = pipeline.push_row(&[666.0]).unwrap_err();
    assert_eq!(error.to_string(), "window 2 of the stream was not scored");
    let (scores, counts) = stream(&mut pipeline, &[3.0]);
    assert_eq!((scores, counts), (vec![1.0, 2.0, 3.0], vec![3]));
    assert_eq!(pipeline.counts().failed, 1);

    let error = pipeline.push_row(&[1.0, 2.0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "row has 2 values, the model takes 1 channels"
    );
    assert_eq!(pipeline.counts().rows, 4);
}

#[test]
fn what_cannot_be_run_is_refused_at_once() {
    let good = manifest(&["a"], 2, 1, Normalisation::None, Decision::None);
    let mut other = good.clone();
    other.input.tensor.shape = vec![1, 4, 1];
    let error = Pipeline::new(&other, Echo::boxed(&good)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "manifest says input is \"x\" f32 [1, 4, 1], the model has \"x\" f32 [1, 2, 1]; build \
         the bundle from this model"
    );
    let error = Pipeline::new(&other, Echo::boxed(&other)).unwrap_err();
    assert!(
        matches!(error, PipelineError::Window { rows: 2, .. }),
        "{error}"
    );

    let mut greedy = good.clone();
    greedy.input.normalisation = Normalisation::CalibratedZScore {
        rows: 1_000_000_000,
        epsilon: 1.0,
        clip: 1.0,
    };
    let error = Pipeline::new(&greedy, Echo::boxed(&greedy)).unwrap_err();
    assert!(
        matches!(error, PipelineError::Calibration { .. }),
        "{error}"
    );
}
