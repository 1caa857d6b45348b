//! A model that is loaded: its pipeline, and the map from the source's columns to its
//! channels.
//!
//! Loading runs the golden vectors, takes as long as it takes, and happens on the thread of
//! whoever asks, never on that of inference.

use std::sync::Arc;
use std::time::Instant;

use drover_bundle::{InputSpec, Manifest, Scoring};
use drover_runtime::{
    BoxError, ChannelMap, LoadError, LoadedBundle, Model, Outcome, Pipeline, PipelineError,
    TractEngine, Verdict,
};
use drover_wire::message::Digest;

use super::latency::Latencies;
use super::watch::Watch;
use crate::source::{Columns, Row};
use crate::status::ModelStatus;

/// What a slot is loaded from; signatures and hashes were checked by whoever made it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What the model is and takes.
    pub manifest: Manifest,
    /// Identity of the bundle; zeros for a model that is in none.
    pub digest: Digest,
    /// The ONNX graph.
    pub model: Vec<u8>,
    /// Encoded golden vectors.
    pub golden: Vec<u8>,
    /// Encoded drift baseline.
    pub baseline: Option<Vec<u8>>,
}

/// A loaded model.
pub struct Slot {
    pub(super) about: Arc<About>,
    pub(super) pipeline: Pipeline,
    input: InputSpec,
    baseline: Option<Vec<u8>>,
    channels: Columns,
    fit: Option<Fit>,
    picked: Vec<f32>,
}

/// What outcomes of a model are labelled with.
#[derive(Debug)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) digest: Digest,
    pub(super) labels: Vec<String>,
    pub(super) window_rows: u64,
}

/// What a model has done since it was loaded.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) latencies: Latencies,
    pub(super) windows: u64,
    pub(super) anomalous: u64,
    pub(super) last_score: Option<f32>,
}

impl Tally {
    pub(super) fn count(&mut self, outcome: &Outcome) {
        self.latencies.push(outcome.latency_us);
        self.windows += 1;
        self.anomalous += u64::from(outcome.verdict == Verdict::Anomalous);
        self.last_score = Some(outcome.score).filter(|score| score.is_finite());
    }
}

/// How the columns of the source fit.
struct Fit {
    columns: Columns,
    map: Result<ChannelMap, Arc<PipelineError>>,
}

/// What became of a row.
pub(super) enum Taken<'a> {
    /// The row as the model takes it, and the outcomes that it completed.
    Row(&'a [f32], Result<&'a [Outcome], PipelineError>),
    /// The source lacks channels; `first` when this was not said of these columns before.
    Misfit {
        why: Arc<PipelineError>,
        first: bool,
    },
}

impl Slot {
    /// Loads with tract and runs the golden vectors.
    ///
    /// # Errors
    /// [`LoadError`] when the engine or the golden vectors refuse the model, a
    /// [`PipelineError`] when the manifest's preprocessing cannot be run.
    pub fn load(bundle: Bundle) -> Result<Self, BoxError> {
        let engine = TractEngine;
        let Bundle {
            manifest,
            digest,
            model,
            golden,
            baseline,
        } = bundle;
        let loaded: Result<_, LoadError> = LoadedBundle::load(&engine, &manifest, &model, &golden);
        Ok(Self::around(
            &manifest,
            digest,
            loaded?.into_pipeline()?,
            baseline,
        ))
    }

    /// Takes a model that is loaded already.
    ///
    /// # Errors
    /// [`PipelineError`] when the manifest does not describe the model.
    pub fn with_model(
        manifest: &Manifest,
        digest: Digest,
        model: Box<dyn Model>,
        baseline: Option<Vec<u8>>,
    ) -> Result<Self, PipelineError> {
        let pipeline = Pipeline::new(manifest, model)?;
        Ok(Self::around(manifest, digest, pipeline, baseline))
    }

    fn around(
        manifest: &Manifest,
        digest: Digest,
        pipeline: Pipeline,
        baseline: Option<Vec<u8>>,
    ) -> Self {
        let names = manifest.input.channels.iter();
        let labels = match &manifest.output.scoring {
            Scoring::Classification { labels, .. } => labels.clone(),
            Scoring::First | Scoring::ReconstructionMse => Vec::new(),
        };
        Self {
            channels: names.map(|channel| channel.name.clone()).collect(),
            about: Arc::new(About {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                digest,
                labels,
                window_rows: u64::from(manifest.input.window.rows),
            }),
            pipeline,
            input: manifest.input.clone(),
            baseline,
            fit: None,
            picked: Vec::new(),
        }
    }

    /// Names of the channels, in the model's order.
    pub fn channels(&self) -> &Columns {
        &self.channels
    }

    /// Name and version, for people.
    pub fn title(&self) -> String {
        format!("{} {}", self.about.name, self.about.version)
    }

    /// Whether a source of `columns` can feed the model.
    ///
    /// # Errors
    /// [`PipelineError`] that names what is missing.
    pub fn check_fit(&self, columns: &[String]) -> Result<(), PipelineError> {
        map_columns(columns, &self.input).map(|_| ())
    }

    /// The drift sketches that the bundle's baseline asks for.
    pub(super) fn watch(&self, now: Instant, unix_ms: u64) -> Option<Watch> {
        let features = self.pipeline.features();
        let watch = Watch::new(
            self.baseline.as_deref()?,
            features,
            self.about.digest,
            now,
            unix_ms,
        );
        watch
            .inspect_err(|error| {
                let title = self.title();
                tracing::warn!(
                    "drift of {title} is not watched, its baseline is unusable: {error}"
                );
            })
            .ok()
    }

    /// Runs one row of the source.
    pub(super) fn take(&mut self, row: &Row) -> Taken<'_> {
        let known = self.fit.as_ref().is_some_and(|fit| {
            Arc::ptr_eq(&fit.columns, &row.columns) || fit.columns == row.columns
        });
        if !known {
            self.fit = Some(Fit {
                columns: Arc::clone(&row.columns),
                map: map_columns(&row.columns, &self.input).map_err(Arc::new),
            });
        }
        match self.fit.as_ref().map(|fit| &fit.map) {
            Some(Ok(map)) => {
                map.pick(&row.values, &mut self.picked);
                let outcomes = self.pipeline.push_row(&self.picked);
                Taken::Row(&self.picked, outcomes)
            }
            Some(Err(why)) => Taken::Misfit {
                why: Arc::clone(why),
                first: !known,
            },
            // Set just above.
            None => Taken::Row(&[], Ok(&[])),
        }
    }

    /// A row without values, to be taken where rows were lost: no window spans it, and the
    /// calibration of the stream stays, for the sensor is the same. None while no row is taken.
    pub(super) fn lost_row(&self) -> Option<Row> {
        let fit = self.fit.as_ref().filter(|fit| fit.map.is_ok())?;
        Some(missing(&fit.columns))
    }

    /// The same before `row`, where rows that did not fit came before one that does.
    pub(super) fn lost_before(&self, row: &Row) -> Option<Row> {
        let was_misfit = self.fit.as_ref().is_some_and(|fit| fit.map.is_err());
        let fits = was_misfit && self.check_fit(&row.columns).is_ok();
        fits.then(|| missing(&row.columns))
    }

    pub(super) fn status(&self, tally: &Tally) -> ModelStatus {
        let counts = self.pipeline.counts();
        let digest = &self.about.digest;
        ModelStatus {
            name: self.about.name.clone(),
            version: self.about.version.clone(),
            digest: if *digest == Digest::default() {
                String::new()
            } else {
                digest.iter().map(|byte| format!("{byte:02x}")).collect()
            },
            windows: tally.windows,
            anomalous: tally.anomalous,
            skipped: counts.skipped,
            failed: counts.failed,
            last_score: tally.last_score,
            latency_us_p50: tally.latencies.median(),
        }
    }
}

fn missing(columns: &Columns) -> Row {
    Row {
        columns: Arc::clone(columns),
        values: vec![f32::NAN; columns.len()],
        time: None,
    }
}

fn map_columns(columns: &[String], input: &InputSpec) -> Result<ChannelMap, PipelineError> {
    let header: Vec<&str> = columns.iter().map(String::as_str).collect();
    ChannelMap::from_header(&header, input)
}
