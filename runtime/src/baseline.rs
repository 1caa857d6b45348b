//! The drift baseline of a bundle: what its channels and its score look like on held-out
//! rows that go through the deployed model.
//!
//! Rows go through the same pipeline as on a device, so that a baseline holds the score of
//! the model as it is deployed, quantisation included.

use drover_bundle::Manifest;
use drover_sketch::{Baseline, FeatureBaseline, SketchError};

use crate::engine::Model;
use crate::pipeline::{Pipeline, PipelineError};

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// A row could not be run.
    #[error("baseline row {row} could not be run through the model")]
    Row {
        /// Which row, from 0.
        row: u64,
        /// What happened.
        source: PipelineError,
    },
    /// The pipeline could not be made, or its last windows not be run.
    #[error("baseline rows could not be run through the model")]
    Pipeline(#[from] PipelineError),
    /// Too few rows, or all with missing values.
    #[error(
        "no window could be scored: {rows} baseline rows were given, a window takes {window} \
         rows without missing values"
    )]
    NoWindow {
        /// Rows given.
        rows: u64,
        /// Rows of a window.
        window: u32,
    },
    /// The values make no baseline.
    #[error("baseline cannot be built from these rows")]
    Sketch(#[from] SketchError),
}

/// Runs one stream of baseline rows and sketches every channel and the score, named as
/// [`Pipeline::features`] names them, in at most `bins` bins.
///
/// # Errors
/// [`BaselineError`]; a row that the model fails on ends it, because a baseline with holes
/// would hide the failure for the life of the bundle.
pub fn compute<R: AsRef<[f32]>>(
    manifest: &Manifest,
    model: Box<dyn Model>,
    rows: impl IntoIterator<Item = R>,
    bins: usize,
) -> Result<Baseline, BaselineError> {
    let mut pipeline = Pipeline::new(manifest, model)?;
    let channels = manifest.input.channels.len();
    let mut columns: Vec<Vec<f32>> = vec![Vec::new(); channels];
    let mut scores = Vec::new();
    for (row, values) in (0..).zip(rows) {
        let values = values.as_ref();
        let outcomes = pipeline.push_row(values);
        let outcomes = outcomes.map_err(|source| BaselineError::Row { row, source })?;
        scores.extend(outcomes.iter().map(|o| o.score));
        for (column, &value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    scores.extend(pipeline.finish()?.iter().map(|o| o.score));
    if scores.is_empty() {
        return Err(BaselineError::NoWindow {
            rows: pipeline.counts().rows,
            window: manifest.input.window.rows,
        });
    }
    columns.push(scores);
    let features = pipeline.features().iter().zip(&columns);
    let features: Result<_, _> = features
        .map(|(name, values)| FeatureBaseline::from_values(name, values, bins))
        .collect();
    Ok(Baseline::new(features?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::{Echo, manifest};
    use drover_bundle::{Decision, Normalisation};

    #[test]
    fn every_channel_and_the_score_has_its_baseline() {
        let manifest = manifest(&["a", "b"], 2, 1, Normalisation::None, Decision::None);
        let rows: Vec<[f32; 2]> = (0..400u16)
            .map(|i| [f32::from(i % 17), f32::from(i * 31 % 101)])
            .collect();
        let baseline = compute(&manifest, Echo::boxed(&manifest), &rows, 16).unwrap();
        let names: Vec<&str> = baseline.features().iter().map(|f| f.name()).collect();
        assert_eq!(names, ["a", "b", "score"]);
        let counts: Vec<u64> = baseline.features().iter().map(|f| f.n_ref()).collect();
        assert_eq!(counts, [400, 400, 399], "one score per window of two rows");
        assert_eq!(baseline.features()[1].max(), 100.0);
    }

    #[test]
    fn rows_that_make_no_window_are_refused_with_their_number() {
        let manifest = manifest(&["a"], 4, 1, Normalisation::None, Decision::None);
        let error = compute(&manifest, Echo::boxed(&manifest), [[1.0], [2.0]], 16).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no window could be scored: 2 baseline rows were given, a window takes 4 rows \
             without missing values"
        );
    }
}
