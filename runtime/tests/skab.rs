//! The pump recordings through the whole pipeline, with the figures that the model was
//! measured with elsewhere.
//!
//! Calibration, windows, scores, threshold and median all have to be right for the F1 score
//! to come out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use drover_bundle::compile::{Numerics, compile};
use drover_bundle::{
    Channel, Chunking, DType, Decision, InputSpec, Manifest, Normalisation, OutputSpec, Requires,
    Scoring, TensorSpec, Tolerance, Window,
};
use drover_runtime::{
    ChannelMap, Engine, LoadOptions, Outcome, Pipeline, TractEngine, Verdict, baseline,
};

const CHANNELS: [&str; 8] = [
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
];
const ROWS: usize = 16;

fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if !path.join("data/skab").is_dir() || !path.join("models").is_dir() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn manifest(model: &dyn drover_runtime::Model) -> Manifest {
    Manifest {
        name: "skab-ae".into(),
        version: "1.0.0".into(),
        counter: 1,
        epoch: 0,
        lineage: Default::default(),
        components: Vec::new(),
        numerics: None,
        created_unix_s: 0,
        description: String::new(),
        files: vec![],
        chunking: Chunking {
            chunk_bytes: 1024,
            digests: vec![],
        },
        requires: Requires {
            engine: "tract".into(),
            arch: vec![],
            memory_bytes: 0,
        },
        input: InputSpec {
            tensor: TensorSpec {
                name: model.input().name.clone(),
                dtype: DType::F32,
                shape: vec![1, 1, 16, 8],
            },
            channels: CHANNELS
                .iter()
                .map(|name| Channel {
                    name: (*name).into(),
                    unit: String::new(),
                })
                .collect(),
            window: Window {
                rows: ROWS as u32,
                stride: 1,
            },
            normalisation: Normalisation::CalibratedZScore {
                rows: 400,
                epsilon: 1e-6,
                clip: 8.0,
            },
            quantisation: None,
        },
        output: OutputSpec {
            tensor: TensorSpec {
                name: model.output().name.clone(),
                dtype: DType::F32,
                shape: vec![1, 128],
            },
            quantisation: None,
            scoring: Scoring::ReconstructionMse,
            decision: Decision::CalibratedQuantile {
                windows: 384,
                quantile: 0.99,
                factor: 1.0,
                median_of: 5,
            },
        },
        tolerance: Tolerance::RangeFraction(0.06),
    }
}

/// Rows of sensor values and whether each is labelled as an anomaly.
struct Recording {
    rows: Vec<Vec<f32>>,
    anomalous: Vec<bool>,
}

fn read(path: &Path, input: &InputSpec) -> Recording {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(';').collect();
    let map = ChannelMap::from_header(&header, input).unwrap();
    let label = header.iter().position(|name| *name == "anomaly");
    let mut recording = Recording {
        rows: Vec::new(),
        anomalous: Vec::new(),
    };
    let mut row = Vec::new();
    for line in lines {
        let fields: Vec<f32> = line
            .split(';')
            .map(|field| field.trim().parse().unwrap_or(f32::NAN))
            .collect();
        map.pick(&fields, &mut row);
        recording.rows.push(row.clone());
        recording
            .anomalous
            .push(label.is_some_and(|at| fields[at] > 0.5));
    }
    recording
}

fn recordings(shared: &Path) -> Vec<PathBuf> {
    let folders = ["valve1", "other"].map(|name| shared.join("data/skab").join(name));
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "csv"))
        .collect();
    files.sort();
    files
}

fn load(shared: &Path, name: &str) -> Box<dyn drover_runtime::Model> {
    let bytes = std::fs::read(shared.join("models").join(name)).unwrap();
    TractEngine.load(&bytes, &LoadOptions::default()).unwrap()
}

#[derive(Default)]
struct Confusion {
    hits: u32,
    misses: u32,
    false_alarms: u32,
    quiet: u32,
}

impl Confusion {
    fn add(&mut self, outcome: &Outcome, recording: &Recording) {
        let last = outcome.first_row as usize + ROWS - 1;
        assert_eq!(outcome.rows[(ROWS - 1) * 8..], recording.rows[last]);
        let cell = match (recording.anomalous[last], outcome.verdict) {
            (_, Verdict::None) => panic!("window {} is undecided", outcome.window),
            (true, Verdict::Anomalous) => &mut self.hits,
            (true, Verdict::Normal) => &mut self.misses,
            (false, Verdict::Anomalous) => &mut self.false_alarms,
            (false, Verdict::Normal) => &mut self.quiet,
        };
        *cell += 1;
    }

    fn f1(&self) -> f64 {
        let hits = 2.0 * f64::from(self.hits);
        hits / (hits + f64::from(self.false_alarms) + f64::from(self.misses))
    }

    fn far(&self) -> f64 {
        f64::from(self.false_alarms) / f64::from(self.false_alarms + self.quiet)
    }

    fn mar(&self) -> f64 {
        f64::from(self.misses) / f64::from(self.misses + self.hits)
    }
}

/// Every window of every recording through the pipeline.
fn score(shared: &Path, model: Box<dyn drover_runtime::Model>) -> Confusion {
    let manifest = manifest(model.as_ref());
    let mut pipeline = Pipeline::new(&manifest, model).unwrap();
    let mut confusion = Confusion::default();
    let files = recordings(shared);
    assert_eq!(files.len(), 30);
    for file in &files {
        let recording = read(file, &manifest.input);
        let mut next = 0;
        for row in &recording.rows {
            for outcome in pipeline.push_row(row).unwrap() {
                assert_eq!(outcome.window, next, "windows come in order, none left out");
                next += 1;
                confusion.add(outcome, &recording);
            }
        }
        assert!(pipeline.finish().unwrap().is_empty(), "all were calibrated");
        assert_eq!(next as usize, recording.rows.len() - ROWS + 1);
    }
    confusion
}

#[test]
fn the_measured_f1_score_is_reproduced() {
    let Some(shared) = shared() else { return };
    let model = load(&shared, "skab_ae_qdq_s8s8_pc.onnx");
    let confusion = score(&shared, model);
    let (f1, far, mar) = (confusion.f1(), confusion.far(), confusion.mar());
    println!("F1 {f1:.4}, false alarms {far:.4}, missed {mar:.4}");
    assert!((f1 - 0.729).abs() < 0.01, "F1 is {f1}, measured was 0.729");
    assert!(
        (far - 0.143).abs() < 0.01,
        "false alarms {far}, measured were 0.143"
    );
    assert!(
        (mar - 0.278).abs() < 0.01,
        "missed {mar}, measured were 0.278"
    );
}

/// Without the clamps of its quantisers the model has an F1 of 0.562.
#[test]
fn what_saturation_taught_the_model_outlives_compiling() {
    let Some(shared) = shared() else { return };
    let path = shared.join("models/skab_ae_qdq_s8s8_pc.onnx");
    let bytes = std::fs::read(path).unwrap();
    for numerics in [Numerics::Exact, Numerics::Float] {
        let compiled = compile(&bytes, numerics).unwrap();
        let model = TractEngine.load(&compiled.model, &LoadOptions::default());
        let f1 = score(&shared, model.unwrap()).f1();
        println!("{numerics:?}: F1 {f1:.4}");
        assert!((f1 - 0.729).abs() < 0.02, "{numerics:?}: F1 is {f1}");
    }
}

#[test]
fn the_anomaly_free_recording_makes_a_baseline() {
    let Some(shared) = shared() else { return };
    let model = load(&shared, "skab_ae_qdq_s8s8_pc.onnx");
    let manifest = manifest(model.as_ref());
    let recording = read(&shared.join("data/skab/anomaly-free.csv"), &manifest.input);
    let baseline = baseline::compute(&manifest, model, &recording.rows, 32).unwrap();
    let features = baseline.features();
    let names: Vec<&str> = features.iter().map(|f| f.name()).collect();
    assert_eq!(names[..8], CHANNELS);
    assert_eq!(names[8], "score");
    let rows = recording.rows.len() as u64;
    assert!(features[..8].iter().all(|f| f.n_ref() == rows));
    assert_eq!(features[8].n_ref(), rows - ROWS as u64 + 1);
    // An error that is a mean of squares of clipped values.
    assert!(features[8].min() > 0.0 && features[8].max() < 256.0);
}
