//! Mergeable drift sketches and the statistics on them.
//!
//! A bundle carries a [`Baseline`]: per feature the quantile edges of the training data and the
//! counts between them. A device counts its live data into the same bins ([`Sketcher`]) and sends
//! the counts as a [`Profile`]; merging profiles is addition, and [`stat`] compares the sums with
//! the baseline. Everything here is deterministic: no clock, no randomness, no allocation while
//! values stream in. This crate never decides what an alarm is; `drover-drift` does.
#![cfg_attr(not(test), no_std)]
#![warn(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing
)]

extern crate alloc;

/// Compiles the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod autocorrelation;
mod baseline;
mod codec;
mod counts;
mod edges;
mod error;
mod profile;
mod sketch;
mod sketcher;
pub mod stat;

pub use baseline::{Baseline, FeatureBaseline, MAX_FEATURES, MAX_NAME_BYTES};
pub use codec::{MAX_BASELINE_BYTES, MAX_PROFILE_BYTES};
pub use counts::FeatureCounts;
pub use edges::{Edges, MAX_BINS, MIN_BINS};
pub use error::SketchError;
pub use profile::Profile;
pub use sketch::BinSketch;
pub use sketcher::Sketcher;
