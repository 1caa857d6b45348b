//! Drift watching: counts what the active model sees and says into the bins of its baseline.
//!
//! Features are matched by name, channels once per row, the score once per window. A
//! profile is a period's counters; the part of a period that a crash takes is lost and
//! nothing else.

use std::time::{Duration, Instant};

use drover_runtime::pipeline::SCORE_FEATURE;
use drover_sketch::{Baseline, Profile, SketchError, Sketcher};
use drover_wire::message::Digest;
use sha2::{Digest as _, Sha256};

/// When a profile is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) windows: u64,
    pub(super) time: Duration,
}

/// The sketches of one model.
pub(super) struct Watch {
    sketcher: Sketcher,
    /// Channel in the row, feature in the baseline.
    channels: Vec<(usize, usize)>,
    score: Option<usize>,
    since: Instant,
    values: u64,
}

impl Watch {
    /// Watches as `encoded`, a bundle's baseline, asks for.
    pub(super) fn new(
        encoded: &[u8],
        features: &[String],
        bundle: Digest,
        now: Instant,
        now_unix_ms: u64,
    ) -> Result<Self, SketchError> {
        let baseline = Baseline::decode(encoded)?;
        let index_of = |name: &str| {
            baseline
                .features()
                .iter()
                .position(|feature| feature.name() == name)
        };
        let channels = features.iter().enumerate();
        Ok(Self {
            channels: channels
                .filter(|(_, name)| *name != SCORE_FEATURE)
                .filter_map(|(channel, name)| Some((channel, index_of(name)?)))
                .collect(),
            score: index_of(SCORE_FEATURE),
            sketcher: Sketcher::new(
                &baseline,
                Sha256::digest(encoded).into(),
                bundle,
                now_unix_ms,
            ),
            since: now,
            values: 0,
        })
    }

    /// Counts a row, in the order of the model's channels.
    pub(super) fn row(&mut self, row: &[f32]) {
        for &(channel, feature) in &self.channels {
            if let Some(&value) = row.get(channel) {
                self.values += 1;
                // Indices come from the baseline itself.
                let _ = self.sketcher.observe(feature, value);
            }
        }
    }

    /// Counts a window that was scored.
    pub(super) fn window(&mut self, score: f32) {
        if let Some(feature) = self.score {
            let _ = self.sketcher.observe(feature, score);
        }
        self.sketcher.count_window();
    }

    /// The profile of a period that is over.
    pub(super) fn due(
        &mut self,
        period: Period,
        now: Instant,
        unix_ms: fn() -> u64,
    ) -> Option<Profile> {
        let over = self.sketcher.windows() >= period.windows
            || now.duration_since(self.since) >= period.time;
        over.then(|| self.close(now, unix_ms())).flatten()
    }

    /// The profile of the period so far, if anything came in.
    pub(super) fn close(&mut self, now: Instant, unix_ms: u64) -> Option<Profile> {
        let profile = self.sketcher.close(unix_ms);
        self.since = now;
        (std::mem::take(&mut self.values) > 0).then_some(profile)
    }
}
