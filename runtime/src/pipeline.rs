//! From sensor rows to decisions, as a manifest says: window, normalise, quantise, run,
//! score, decide.
//!
//! A pipeline serves one stream at a time. Where the manifest calibrates on the stream,
//! rows and outcomes are held back until the calibration is complete and then come out in
//! order, so that the calibrating windows are decided too. Nothing is persisted: after a
//! power cut a stream starts, and calibrates, anew.

mod channel;
mod decide;
mod error;
mod frame;
mod normalise;
mod outcome;
mod quantise;
mod score;

use drover_bundle::{Manifest, Quantisation, Tensor};

use crate::clock::timed_us;
use crate::engine::Model;
use crate::loaded::compare_specs;
use decide::{Decider, Step};
use frame::Frame;
use normalise::{Calibration, Normaliser, Start};
use score::Scorer;

pub use channel::ChannelMap;
pub use error::PipelineError;
pub use outcome::{Counts, Outcome, Verdict};

/// Name of the feature that carries the score, after those of the channels.
pub const SCORE_FEATURE: &str = "score";
/// Manifests whose calibration would hold back more than this are refused, in bytes.
pub const MAX_HELD_BYTES: u64 = 256 * 1024 * 1024;

/// Outcomes whose buffers are kept.
const SPARE: usize = 4;

/// Runs one model over one stream of rows at a time.
pub struct Pipeline {
    model: Box<dyn Model>,
    features: Vec<String>,
    channels: usize,
    /// Filled anew for each window.
    input: Tensor,
    quantisation: Option<Quantisation>,
    start: Start,
    phase: Phase,
    frame: Frame,
    scorer: Scorer,
    decider: Decider,
    held: Vec<Outcome>,
    ready: Vec<Outcome>,
    /// Whether the caller has had `ready`.
    delivered: bool,
    /// Buffers of outcomes that the caller is done with.
    spare: Vec<[Vec<f32>; 2]>,
    counts: Counts,
}

/// Where the stream is with its normalisation.
enum Phase {
    Calibrating(Calibration),
    Running(Normaliser),
}

impl Phase {
    fn begin(start: &Start) -> Self {
        match start {
            Start::Fixed(normaliser) => Self::Running(normaliser.clone()),
            Start::Calibrate(rule) => Self::Calibrating(Calibration::new(*rule)),
        }
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("features", &self.features)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A pipeline as `manifest.input` and `manifest.output` describe it; nothing else of the
    /// manifest is read, so that a draft without files will do.
    ///
    /// # Errors
    /// [`PipelineError::Spec`] when the model is another one than the manifest describes,
    /// [`PipelineError::Window`] or [`PipelineError::Calibration`] when the description
    /// cannot be run.
    pub fn new(manifest: &Manifest, model: Box<dyn Model>) -> Result<Self, PipelineError> {
        compare_specs(manifest, model.as_ref())?;
        let (input, output) = (&manifest.input, &manifest.output);
        let channels = input.channels.len();
        let rows = input.window.rows as usize;
        let shape: Vec<usize> = input.tensor.shape.iter().map(|&d| d as usize).collect();
        let elements: usize = shape.iter().product();
        if elements != rows * channels || elements == 0 || input.window.stride == 0 {
            return Err(PipelineError::Window {
                rows,
                channels,
                shape,
            });
        }
        let start = Start::new(&input.normalisation, channels)?;
        let decider = Decider::new(&output.decision);
        let output_bytes = output.tensor.shape.iter().fold(4, |n, &d| n * u64::from(d));
        let held = start.held_bytes(channels)
            + decider.held_windows() * (8 * elements as u64 + output_bytes);
        if held > MAX_HELD_BYTES {
            return Err(PipelineError::Calibration { bytes: held });
        }
        let bytes = vec![0; elements * input.tensor.dtype.size()];
        let names = input.channels.iter().map(|c| c.name.clone());
        Ok(Self {
            model,
            features: names.chain([SCORE_FEATURE.to_owned()]).collect(),
            channels,
            input: Tensor::from_bytes(input.tensor.dtype, shape, bytes)?,
            quantisation: input.quantisation,
            phase: Phase::begin(&start),
            start,
            frame: Frame::new(rows, input.window.stride as usize, channels),
            scorer: Scorer::new(&output.scoring, output.quantisation),
            decider,
            held: Vec::new(),
            ready: Vec::new(),
            delivered: false,
            spare: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// Names of what drift is watched on: every channel, once per row with the raw value,
    /// then [`SCORE_FEATURE`], once per window.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// What has gone through since the pipeline was made, over all streams.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The model, to be run beside the pipeline.
    pub fn model_mut(&mut self) -> &mut dyn Model {
        self.model.as_mut()
    }

    /// Takes the next row, raw values in the order of the manifest's channels. A value that
    /// is not finite is missing: the windows that contain it are counted and not scored.
    ///
    /// Returns the outcomes that this row completed, mostly none or one, in order of their
    /// windows. They stay valid until the next call and their buffers are used again then;
    /// clone what is to be kept.
    ///
    /// # Errors
    /// [`PipelineError::Row`] for a row of another length, which is not taken;
    /// [`PipelineError::Run`] when the model failed on a window, which is counted and left
    /// out: the stream goes on, and outcomes that were complete come with the next call.
    pub fn push_row(&mut self, row: &[f32]) -> Result<&[Outcome], PipelineError> {
        if row.len() != self.channels {
            return Err(PipelineError::Row {
                got: row.len(),
                wanted: self.channels,
            });
        }
        self.recycle();
        self.counts.rows += 1;
        match &mut self.phase {
            Phase::Running(normaliser) => {
                self.frame.push(row, normaliser);
                self.window()?;
            }
            Phase::Calibrating(calibration) => {
                calibration.push(row);
                if calibration.is_full() {
                    self.end_calibration()?;
                }
            }
        }
        self.delivered = true;
        Ok(&self.ready)
    }

    /// Ends the stream and returns what was held back. The next row begins a new stream.
    ///
    /// Where a calibration was not complete, windows are normalised by the rows there were,
    /// scored, and left undecided: [`Verdict::None`] and no threshold.
    ///
    /// # Errors
    /// [`PipelineError::Run`], as in [`Self::push_row`].
    pub fn finish(&mut self) -> Result<&[Outcome], PipelineError> {
        self.recycle();
        let mut result = Ok(());
        if let Phase::Calibrating(_) = self.phase {
            self.decider.give_up();
            result = self.end_calibration();
        }
        self.ready.append(&mut self.held);
        self.begin();
        result?;
        self.delivered = true;
        Ok(&self.ready)
    }

    /// Forgets the stream and what was held back of it. The next row begins a new stream.
    pub fn reset(&mut self) {
        self.delivered = true;
        self.recycle();
        self.held.clear();
        self.begin();
    }

    fn begin(&mut self) {
        self.phase = Phase::begin(&self.start);
        self.frame.clear();
        self.decider.clear();
    }

    fn recycle(&mut self) {
        if self.delivered {
            for Outcome {
                mut rows,
                mut normalised,
                ..
            } in self.ready.drain(..)
            {
                // Calibration delivers hundreds at once; a stream needs one from then on.
                if self.spare.len() < SPARE {
                    rows.clear();
                    normalised.clear();
                    self.spare.push([rows, normalised]);
                }
            }
            self.delivered = false;
        }
    }

    /// Runs the rows that were held back through the normalisation they calibrated.
    fn end_calibration(&mut self) -> Result<(), PipelineError> {
        let next = Phase::begin(&self.start);
        let Phase::Calibrating(calibration) = std::mem::replace(&mut self.phase, next) else {
            return Ok(());
        };
        // Where a channel was missing throughout, the rows that follow calibrate, and these
        // are lost.
        let calibrated = calibration.normaliser(self.channels);
        let unknown = Normaliser::unknown(self.channels);
        let normaliser = calibrated.as_ref().unwrap_or(&unknown);
        let mut result = Ok(());
        for row in calibration.rows().chunks_exact(self.channels) {
            self.frame.push(row, normaliser);
            let window = self.window();
            result = result.and(window);
        }
        if let Some(normaliser) = calibrated {
            self.phase = Phase::Running(normaliser);
        }
        result
    }

    /// Runs the window that the last row completed, if it did.
    fn window(&mut self) -> Result<(), PipelineError> {
        let Some(window) = self.frame.window() else {
            return Ok(());
        };
        self.counts.windows += 1;
        if window.missing {
            self.counts.skipped += 1;
            return Ok(());
        }
        quantise::fill(&mut self.input, window.normalised, self.quantisation);
        let (output, latency_us) = timed_us(|| self.model.run(&self.input));
        let output = match output {
            Ok(output) => output,
            Err(source) => {
                self.counts.failed += 1;
                return Err(PipelineError::Run {
                    window: window.index,
                    source,
                });
            }
        };
        let score = self.scorer.score(&output, window.normalised);
        let [mut rows, mut normalised] = self.spare.pop().unwrap_or_default();
        rows.extend_from_slice(window.raw);
        normalised.extend_from_slice(window.normalised);
        let (smoothed, step) = self.decider.push(score.value);
        let outcome = Outcome {
            window: window.index,
            first_row: window.first_row,
            rows,
            normalised,
            output,
            score: score.value,
            smoothed,
            class: score.class,
            verdict: Verdict::None,
            threshold: None,
            latency_us,
        };
        match step {
            Step::Hold => self.held.push(outcome),
            // The window that completes the calibration releases those before it.
            Step::Release => {
                let earlier = self.ready.len();
                self.ready.append(&mut self.held);
                self.ready.push(outcome);
                for outcome in self.ready.iter_mut().skip(earlier) {
                    self.decider.decide(outcome);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
