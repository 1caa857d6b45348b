//! All devices of one bundle in one window.
//!
//! Two levels, because each is blind where the other sees: a strong drift on a few devices drowns
//! in the fleet's sum, a weak drift on all devices is below every single device's noise. A
//! profile that does not fit is set aside with its reason and never stops the others.

use crate::{
    DriftError, Fault, FeatureDrift, Verdict,
    assess::{by_effect, check, discover, measure, measure_feature},
};
use drover_sketch::{Baseline, FeatureCounts, Profile};
use std::collections::BTreeMap;

/// Bias-corrected PSI below which a difference of the whole fleet does not matter.
const FLEET_EFFECT_FLOOR: f64 = 0.01;
/// Without drift, one fleet alarm is expected in this time over all features: 90 days.
const EXPECTED_RUN_MS: f64 = 90.0 * 24.0 * 3_600_000.0;
/// No window is long enough to test at a laxer level than this.
const LAXEST_LEVEL: f64 = 0.05;

/// Which bundle's profiles are judged, and against what.
#[derive(Debug, Clone, Copy)]
pub struct FleetWindow<'a> {
    /// The bundle's baseline.
    pub baseline: &'a Baseline,
    /// Digest of the encoded baseline, as profiles carry it.
    pub schema: [u8; 32],
    /// Digest of the bundle, as profiles carry it.
    pub bundle: [u8; 32],
}

/// What one window says about a fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetDrift {
    /// Per device, in the baseline's order of features; false discoveries are controlled over
    /// all devices and features together.
    pub devices: BTreeMap<String, Vec<FeatureDrift>>,
    /// The devices' sum, without the features that are at fault on a device. Where at least half
    /// of the devices are at fault it is the sum of all, and the verdict is their fault.
    pub fleet: Vec<FeatureDrift>,
    /// Profiles that were set aside, by device.
    pub refused: Vec<(String, DriftError)>,
}

/// Judges the profiles of one window. Several profiles of one device are added up first; whoever
/// calls has dropped duplicates.
pub fn assess_fleet(
    window: FleetWindow<'_>,
    profiles: impl IntoIterator<Item = (String, Profile)>,
) -> FleetDrift {
    let mut refused = Vec::new();
    let mut by_device: BTreeMap<String, Profile> = BTreeMap::new();
    for (device, profile) in profiles {
        if let Err(error) = add(window, &mut by_device, &device, profile) {
            refused.push((device, error));
        }
    }

    let mut devices: BTreeMap<String, Vec<FeatureDrift>> = by_device
        .iter()
        .map(|(device, profile)| (device.clone(), measure(window.baseline, profile)))
        .collect();
    discover(&mut devices.values_mut().flatten().collect::<Vec<_>>());

    let profiles: Vec<&Profile> = by_device.values().collect();
    let judged: Vec<&[FeatureDrift]> = devices.values().map(Vec::as_slice).collect();
    let fleet = whole(window.baseline, &profiles, &judged);
    FleetDrift {
        devices,
        fleet,
        refused,
    }
}

fn add(
    window: FleetWindow<'_>,
    by_device: &mut BTreeMap<String, Profile>,
    device: &str,
    profile: Profile,
) -> Result<(), DriftError> {
    if profile.bundle != window.bundle {
        return Err(DriftError::Bundle);
    }
    if profile.schema != window.schema {
        return Err(DriftError::Schema);
    }
    // A misfit is refused here, before it can stand in the way of the device's good profiles.
    check(window.baseline, &profile)?;
    match by_device.get_mut(device) {
        Some(sum) => sum.merge(&profile).map_err(DriftError::Merge),
        None => {
            by_device.insert(device.to_owned(), profile);
            Ok(())
        }
    }
}

/// Judges the sum of all devices, feature by feature. `judged` is in the order of `profiles`.
fn whole(
    baseline: &Baseline,
    profiles: &[&Profile],
    judged: &[&[FeatureDrift]],
) -> Vec<FeatureDrift> {
    let level = level(profiles, baseline.features().len());
    let features = baseline.features().iter().enumerate();
    features
        .map(|(index, reference)| {
            let devices = || {
                let pairs = profiles.iter().zip(judged);
                pairs.filter_map(|(p, j)| Some((p.features.get(index)?, j.get(index)?.verdict)))
            };
            let shared_fault = shared_fault(devices().map(|(_, verdict)| verdict));
            let mut sum = FeatureCounts::new(reference.edges().bins());
            for (counts, verdict) in devices() {
                if shared_fault.is_some() || !verdict.is_fault() {
                    sum.merge(counts).expect("check() compared the bins");
                }
            }
            let mut drift = measure_feature(reference, &sum);
            if let Some(fault) = shared_fault {
                drift.verdict = Verdict::Fault(fault);
            } else if drift.verdict == Verdict::Stable && drift.p_value <= level {
                drift.verdict = by_effect(drift.psi_adjusted, FLEET_EFFECT_FLOOR);
            }
            drift
        })
        .collect()
}

/// The commonest fault, if at least half of the devices have one: then it is no broken sensor
/// but something they share, and leaving them out would hide it.
fn shared_fault(verdicts: impl Iterator<Item = Verdict>) -> Option<Fault> {
    let mut devices = 0usize;
    let mut counts: BTreeMap<Fault, usize> = BTreeMap::new();
    for verdict in verdicts {
        devices += 1;
        if let Verdict::Fault(fault) = verdict {
            *counts.entry(fault).or_default() += 1;
        }
    }
    let faulty: usize = counts.values().sum();
    let commonest = counts.into_iter().max_by_key(|&(_, count)| count)?;
    (2 * faulty >= devices).then_some(commonest.0)
}

/// Significance level of one fleet test: the window's share of the expected run time, divided
/// among the features. The median length is taken, so that one device's wrong clock cannot
/// loosen or tighten the test.
fn level(profiles: &[&Profile], features: usize) -> f64 {
    let mut lengths: Vec<u64> = profiles
        .iter()
        .map(|profile| profile.end_unix_ms.saturating_sub(profile.start_unix_ms))
        .collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0) as f64;
    (median / (EXPECTED_RUN_MS * features as f64)).min(LAXEST_LEVEL)
}
