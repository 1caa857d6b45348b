//! The device's side: all sketches of one bundle, closed period by period.
//!
//! The open period lives in memory only; a power cut loses its counts and nothing else, and the
//! next period starts clean. Closed profiles are the caller's to store.

use crate::{Baseline, BinSketch, Profile, SketchError};
use alloc::vec::Vec;

/// Sketches every feature of a baseline and cuts the stream into profiles.
#[derive(Debug, Clone)]
pub struct Sketcher {
    schema: [u8; 32],
    bundle: [u8; 32],
    start_unix_ms: u64,
    windows: u64,
    sketches: Vec<BinSketch>,
}

impl Sketcher {
    /// Starts the first period. `schema` is the digest of the encoded baseline, `bundle` that of
    /// the bundle it came in.
    #[must_use]
    pub fn new(baseline: &Baseline, schema: [u8; 32], bundle: [u8; 32], now_unix_ms: u64) -> Self {
        Self {
            schema,
            bundle,
            start_unix_ms: now_unix_ms,
            windows: 0,
            sketches: baseline.features().iter().map(BinSketch::new).collect(),
        }
    }

    /// Takes the next value of the feature at `index` of the baseline.
    ///
    /// # Errors
    /// `UnknownFeature` if the baseline has no such index.
    pub fn observe(&mut self, index: usize, value: f32) -> Result<(), SketchError> {
        let features = self.sketches.len();
        let sketch = self
            .sketches
            .get_mut(index)
            .ok_or(SketchError::UnknownFeature { index, features })?;
        sketch.update(value);
        Ok(())
    }

    /// Counts one model window.
    pub fn count_window(&mut self) {
        self.windows = self.windows.saturating_add(1);
    }

    /// Model windows in the open period.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Start of the open period, milliseconds since 1970 UTC.
    #[must_use]
    pub fn start_unix_ms(&self) -> u64 {
        self.start_unix_ms
    }

    /// Ends the period and starts the next. A clock that stepped back ends the period where it
    /// began.
    pub fn close(&mut self, now_unix_ms: u64) -> Profile {
        let profile = Profile {
            schema: self.schema,
            bundle: self.bundle,
            start_unix_ms: self.start_unix_ms,
            end_unix_ms: now_unix_ms.max(self.start_unix_ms),
            windows: self.windows,
            features: self.sketches.iter().map(|s| s.counts().clone()).collect(),
        };
        self.sketches.iter_mut().for_each(BinSketch::reset);
        self.start_unix_ms = now_unix_ms;
        self.windows = 0;
        profile
    }
}
