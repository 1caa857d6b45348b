//! What the pipeline says of one window.

use drover_bundle::Tensor;

/// One window that the model has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Number of the window in its stream, from 0; windows that were skipped or failed leave
    /// gaps.
    pub window: u64,
    /// Number of the window's first row in its stream, from 0.
    pub first_row: u64,
    /// Raw sensor values, row-major, rows x channels.
    pub rows: Vec<f32>,
    /// The same after normalisation, as the model's input means them.
    pub normalised: Vec<f32>,
    /// The model's output as it came.
    pub output: Tensor,
    /// As the manifest's scoring says.
    pub score: f32,
    /// Median of this and earlier scores, which the verdict is about; the score itself where
    /// the manifest asks for no median. A score that is not finite stays out of it.
    pub smoothed: f32,
    /// Index of the largest output, for classifiers.
    pub class: Option<u32>,
    /// What was decided.
    pub verdict: Verdict,
    /// What `smoothed` was compared with, if it was.
    pub threshold: Option<f32>,
    /// Time that the model took for this window, in microseconds.
    pub latency_us: u32,
}

/// What was decided of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The manifest asks for no decision, the stream ended before it was calibrated, or the
    /// score is not finite.
    None,
    /// At or below the threshold.
    Normal,
    /// Above the threshold.
    Anomalous,
}

/// What has gone through a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows taken.
    pub rows: u64,
    /// Windows completed, whatever became of them.
    pub windows: u64,
    /// Windows not scored because a value in them was missing or could not be normalised.
    pub skipped: u64,
    /// Windows that the model failed on.
    pub failed: u64,
}
