//! Merges, tests and judges drift profiles.
//!
//! Pure functions from a bundle's baseline and the profiles of one window to verdicts. Broken
//! sensors are told from drift first; then every device and feature is tested at one false
//! discovery rate, and an alarm needs an effect besides its p-value, because with enough samples
//! everything differs. It never stores, sends or reads a clock: the server does.

mod assess;
mod error;
mod fdr;
mod fleet;
mod history;
mod quality;
mod verdict;

pub use assess::{EFFECT_FLOOR, FALSE_DISCOVERY_RATE, FeatureDrift, MAJOR_EFFECT, assess};
pub use error::DriftError;
pub use fdr::benjamini_hochberg;
pub use fleet::{FleetDrift, FleetWindow, assess_fleet};
pub use history::confirmed;
pub use verdict::{Fault, Verdict};
