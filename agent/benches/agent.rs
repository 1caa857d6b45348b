//! Throughput of the agent with the pump model, from the CSV file to records in a real store
//! on disk, and what all of that costs beside the bare engine.
//!
//! One line of JSON per figure on standard output. `--quick` takes fewer rounds. Rounds of
//! pipeline and bare engine alternate, so that a change of clock speed meets both.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use drover_agent::clock;
use drover_agent::config::{self, SourceKind, Speed};
use drover_agent::ota::Prepared;
use drover_agent::runner::{
    self, Bundle, Capture, Numbered, Recording, Rules, Shared, Sinks, Slot, Stage,
};
use drover_agent::source::{self, Feed, csv::Replay};
use drover_agent_store::{SledJournal, SledOptions};
use drover_bundle::{FileRole, Spec, Tensor, container};
use drover_runtime::{LoadedBundle, TractEngine, build};
use tokio::sync::{broadcast, mpsc};

/// Rows of a round of the whole agent.
const ROWS: usize = 20_000;
/// Windows of a round of pipeline or engine.
const WINDOWS: usize = 1000;

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let bundle = pump()?;
    let folder = tempfile::tempdir()?;
    let recording = recording(folder.path())?;

    let rounds = if quick { 3 } else { 7 };
    let mut rates = Vec::new();
    // The first warms caches and is not counted.
    for round in 0..=rounds {
        let rate = whole_agent(&bundle, &recording)?;
        if round > 0 {
            rates.push(rate);
        }
    }
    print("windows_per_s", "1/s", "higher", rates)?;

    let rounds = if quick { 5 } else { 21 };
    let (ratios, bare) = overhead(&bundle, &recording, rounds)?;
    print("pipeline_overhead_ratio", "ratio", "lower", ratios)?;
    print("bare_engine_us_per_window", "us", "lower", bare)
}

/// The pump bundle, as the scripts build it.
fn pump() -> anyhow::Result<Bundle> {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models/pump/pump-1.0.0.toml");
    let built = build::build(&Spec::read(&spec)?, 0)?;
    let file = |role| container::file(&built.manifest, &built.payload, role).map(<[u8]>::to_vec);
    Ok(Bundle {
        model: file(FileRole::Model).context("no model")?,
        golden: file(FileRole::Golden).context("no golden vectors")?,
        baseline: file(FileRole::Baseline),
        digest: [1; 32],
        manifest: built.manifest,
    })
}

/// The rows of normal operation, repeated.
fn recording(folder: &Path) -> anyhow::Result<PathBuf> {
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models/pump/baseline.csv");
    let text = std::fs::read_to_string(rows)?;
    let (header, rows) = text.split_once('\n').context("no header")?;
    let path = folder.join("rows.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    writeln!(file, "{header}")?;
    for row in rows.lines().cycle().take(ROWS) {
        writeln!(file, "{row}")?;
    }
    file.flush()?;
    Ok(path)
}

fn settings(recording: &Path) -> config::Source {
    config::Source {
        kind: SourceKind::Csv,
        path: recording.to_owned(),
        speed: Speed::Max,
        ..config::Source::default()
    }
}

/// A stage that records into a store of its own, with the pump model running.
fn stage(bundle: &Bundle, prepared: &Prepared) -> anyhow::Result<Stage> {
    let recorder = prepared.recorder();
    let record: Recording = Box::new(move |body| Numbered {
        boot: 1,
        sequence: recorder.record(body).unwrap_or(0),
        unix_ms: clock::unix_ms(),
    });
    let sinks = Sinks {
        record,
        fleet: true,
        results: broadcast::channel(1024).0,
        lines: None,
        report: Box::new(|_, _| ()),
        capture: Capture::default(),
        now_unix_ms: clock::unix_ms,
    };
    let rules = Rules::new(&config::Runner::default(), true);
    let mut stage = Stage::new(rules, sinks, "bench".into());
    let slot = Slot::load(bundle.clone()).map_err(|error| anyhow::anyhow!("{error}"))?;
    stage.run(slot, Instant::now());
    Ok(stage)
}

fn prepared(folder: &Path) -> anyhow::Result<Prepared> {
    let (journal, _) = SledJournal::open(folder, SledOptions::default())?;
    Ok(Prepared::open(Box::new(journal))?)
}

/// Windows per second of source thread, inference thread and recorder together, until the
/// last record is on the disk.
fn whole_agent(bundle: &Bundle, recording: &Path) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let prepared = prepared(folder.path())?;
    let shared = Shared::new(stage(bundle, &prepared)?);
    let (rows, queue) = mpsc::channel(config::Runner::default().queue_rows);
    let started = Instant::now();
    let end = runner::start(shared.clone(), queue, true)?;
    source::start(&settings(recording), rows)?;
    end.blocking_recv()??;
    prepared.recorder().flush()?;
    let seconds = started.elapsed().as_secs_f64();
    let active = shared.lock().snapshot().active.context("no model")?;
    ensure!(active.windows as usize == ROWS - 15, "{active:?}");
    prepared.recorder().close();
    Ok(active.windows as f64 / seconds)
}

/// Ratios of the time per window of row, pipeline, sketches and record to that of the bare
/// engine, and the latter in microseconds.
fn overhead(
    bundle: &Bundle,
    recording: &Path,
    rounds: usize,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let folder = tempfile::tempdir()?;
    let prepared = prepared(folder.path())?;
    let mut stage = stage(bundle, &prepared)?;
    let mut bare = LoadedBundle::load(
        &TractEngine,
        &bundle.manifest,
        &bundle.model,
        &bundle.golden,
    )?;
    let mut replay = Replay::open(&config::Source {
        repeat: true,
        ..settings(recording)
    })?;
    let shape = &bundle.manifest.input.tensor.shape;
    let shape: Vec<usize> = shape.iter().map(|&axis| axis as usize).collect();
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|index| (index as f32 * 0.37).sin())
        .collect();
    let input = Tensor::from_f32(shape, &values)?;

    let (mut ratios, mut alone) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let mut rows = Vec::with_capacity(WINDOWS);
        for _ in 0..WINDOWS {
            rows.push(replay.next_row()?.context("the recording repeats")?);
        }
        let started = Instant::now();
        for row in rows {
            stage.feed(Feed::Row(row), Instant::now())?;
        }
        let pipeline = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for _ in 0..WINDOWS {
            std::hint::black_box(bare.model_mut().run(std::hint::black_box(&input))?);
        }
        let engine = started.elapsed().as_secs_f64();
        // The first round fills the window and warms caches.
        if round > 0 {
            ratios.push(pipeline / engine);
            alone.push(engine / WINDOWS as f64 * 1e6);
        }
    }
    prepared.recorder().close();
    Ok((ratios, alone))
}

/// One figure: the median, and the spread as (max - min) / median.
fn print(figure: &str, unit: &str, better: &str, mut values: Vec<f64>) -> anyhow::Result<()> {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).context("nothing measured")?;
    let range = values.last().zip(values.first()).map(|(l, f)| l - f);
    let line = serde_json::json!({
        "bench": "agent",
        "figure": figure,
        "value": median,
        "unit": unit,
        "goal": null,
        "better": better,
        "n": values.len(),
        "spread": range.unwrap_or(0.0) / median,
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
