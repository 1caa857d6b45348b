//! One profile against its baseline: measure every feature, then decide.
//!
//! Measuring and deciding are apart, because the decision needs the p-values of all tests that
//! are made together: the features of one device here, those of all devices in `fleet`.

use crate::{DriftError, Verdict, benjamini_hochberg, quality};
use drover_sketch::{Baseline, FeatureBaseline, FeatureCounts, Profile, stat::Pair};

/// Share of false alarms that is accepted among all alarms of a window.
pub const FALSE_DISCOVERY_RATE: f64 = 0.05;
/// Bias-corrected PSI below which a significant difference does not matter.
pub const EFFECT_FLOOR: f64 = 0.05;
/// Bias-corrected PSI from which drift is major.
pub const MAJOR_EFFECT: f64 = 0.2;
/// Thinned samples per bin below which nothing is tested.
const SAMPLES_PER_BIN: u64 = 5;

/// What one window says about one feature.
///
/// `psi`, `psi_adjusted`, `ks` and `js_distance` are 0 and `p_value` is 1 where the window holds
/// no thinned sample; the verdict says so.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureDrift {
    /// The feature's name in the baseline.
    pub name: String,
    /// Finite values in the window.
    pub n: u64,
    /// Samples in the bins, after thinning.
    pub thinned_n: u64,
    /// Population stability index.
    pub psi: f64,
    /// PSI less its expectation without drift: the effect size.
    pub psi_adjusted: f64,
    /// Of chi-square and KS together, not corrected for the number of features or devices.
    pub p_value: f64,
    /// Largest difference of the cumulative shares, 0 to 1.
    pub ks: f64,
    /// Jensen-Shannon distance, 0 to 0.833.
    pub js_distance: f64,
    /// Share of missing values, 0 to 1.
    pub missing_rate: f64,
    /// Share of values outside the baseline's range, 0 to 1.
    pub out_of_range_rate: f64,
    /// Longest run of one value.
    pub longest_run: u64,
    /// Mean less the baseline's mean, in baseline standard deviations; 0 if that is 0.
    pub mean_shift_in_std: f64,
    /// The conclusion.
    pub verdict: Verdict,
}

/// Judges one profile, with false discoveries controlled over its features.
///
/// # Errors
/// `Features` or `Bins` if the profile was not made for this baseline.
pub fn assess(baseline: &Baseline, profile: &Profile) -> Result<Vec<FeatureDrift>, DriftError> {
    check(baseline, profile)?;
    let mut features = measure(baseline, profile);
    discover(&mut features.iter_mut().collect::<Vec<_>>());
    Ok(features)
}

/// Measures every feature of a profile that [`check`] has passed. Verdicts are final where they
/// are `TooFew` or `Fault`; the others are `Stable` until [`discover`] has seen all p-values.
pub(crate) fn measure(baseline: &Baseline, profile: &Profile) -> Vec<FeatureDrift> {
    let pairs = baseline.features().iter().zip(&profile.features);
    pairs
        .map(|(b, counts)| measure_feature(b, counts))
        .collect()
}

/// Raises to `Drifting` or `Major` what passes the false discovery rate over all `features`
/// tested together and has an effect.
pub(crate) fn discover(features: &mut [&mut FeatureDrift]) {
    let mut tested: Vec<&mut FeatureDrift> = features
        .iter_mut()
        .map(|feature| &mut **feature)
        .filter(|feature| feature.verdict == Verdict::Stable)
        .collect();
    let p_values: Vec<f64> = tested.iter().map(|feature| feature.p_value).collect();
    let rejected = benjamini_hochberg(&p_values, FALSE_DISCOVERY_RATE);
    for (feature, rejected) in tested.iter_mut().zip(rejected) {
        if rejected {
            feature.verdict = by_effect(feature.psi_adjusted, EFFECT_FLOOR);
        }
    }
}

/// The verdict of a rejected test by the size of its effect.
pub(crate) fn by_effect(psi_adjusted: f64, floor: f64) -> Verdict {
    if psi_adjusted >= MAJOR_EFFECT {
        Verdict::Major
    } else if psi_adjusted >= floor {
        Verdict::Drifting
    } else {
        Verdict::Stable
    }
}

/// Refuses a profile that was made for another baseline.
pub(crate) fn check(baseline: &Baseline, profile: &Profile) -> Result<(), DriftError> {
    let features = baseline.features();
    if features.len() != profile.features.len() {
        return Err(DriftError::Features {
            baseline: features.len(),
            profile: profile.features.len(),
        });
    }
    let mut pairs = features.iter().zip(&profile.features);
    match pairs.find(|(b, counts)| b.counts().len() != counts.bins.len()) {
        None => Ok(()),
        Some((feature, counts)) => Err(DriftError::Bins {
            feature: feature.name().to_owned(),
            baseline: feature.counts().len(),
            profile: counts.bins.len(),
        }),
    }
}

pub(crate) fn measure_feature(baseline: &FeatureBaseline, counts: &FeatureCounts) -> FeatureDrift {
    let thinned_n = counts.thinned_n();
    let verdict = if let Some(fault) = quality::fault(baseline, counts) {
        Verdict::Fault(fault)
    } else if thinned_n < SAMPLES_PER_BIN * counts.bins.len() as u64 {
        Verdict::TooFew
    } else {
        Verdict::Stable
    };
    let pair = Pair::new(baseline.counts(), &counts.bins);
    FeatureDrift {
        name: baseline.name().to_owned(),
        n: counts.n,
        thinned_n,
        psi: pair.map_or(0.0, |pair| pair.psi()),
        psi_adjusted: pair.map_or(0.0, |pair| pair.psi_adjusted()),
        p_value: pair.map_or(1.0, |pair| pair.p_value()),
        ks: pair.map_or(0.0, |pair| pair.ks().statistic),
        js_distance: pair.map_or(0.0, |pair| pair.js_distance()),
        missing_rate: counts.missing_rate(),
        out_of_range_rate: counts.out_of_range_rate(),
        longest_run: counts.longest_run,
        mean_shift_in_std: mean_shift(baseline, counts),
        verdict,
    }
}

fn mean_shift(baseline: &FeatureBaseline, counts: &FeatureCounts) -> f64 {
    let std = f64::from(baseline.std());
    if counts.n == 0 || std <= 0.0 {
        return 0.0;
    }
    (counts.mean - f64::from(baseline.mean())) / std
}
