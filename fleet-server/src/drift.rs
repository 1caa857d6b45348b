//! Drift of all bundles that have profiles, against the baseline inside each bundle.
//!
//! The statistics are `drover-drift`'s; here they get their inputs and their words.

use std::collections::BTreeMap;

use drover_api::{DeviceDrift, DriftStatus, FeatureDrift, FleetFeatureDrift, Level};
use drover_bundle::container::file;
use drover_bundle::{FileRole, Manifest};
use drover_drift::{FleetWindow, Verdict, assess_fleet};
use drover_sketch::{Baseline, Profile};
use drover_trust::Envelope;
use sha2::{Digest as _, Sha256};

use crate::ServerError;
use crate::state::Core;
use crate::store::ReleaseRow;

/// Profiles count that ended within this time before the newest one's end.
const WINDOW_MS: u64 = 24 * 3_600_000;

/// Drift per bundle that has profiles and a baseline.
pub(crate) async fn status(core: &Core) -> Result<Vec<DriftStatus>, ServerError> {
    let devices = core.store.devices().await?;
    let names: BTreeMap<String, String> = devices.into_iter().map(|d| (d.id, d.name)).collect();
    let mut all = Vec::new();
    for digest in core.store.profiled_bundles().await? {
        let Some(release) = core.store.release(&digest).await? else {
            continue;
        };
        let rows = core.store.profiles(&digest, WINDOW_MS).await?;
        let data = core.data.clone();
        let names = names.clone();
        let assess = move || {
            let payload_len = usize::try_from(release.summary.total_bytes).unwrap_or(0);
            let payload = data.read_bundle(&digest, release.payload_offset, payload_len)?;
            Ok::<_, ServerError>(assess(&release, &payload, rows, &names))
        };
        match tokio::task::spawn_blocking(assess).await {
            Ok(status) => all.extend(status?),
            Err(_) => return Err(ServerError::Ended("drift assessment")),
        }
    }
    Ok(all)
}

fn assess(
    release: &ReleaseRow,
    payload: &[u8],
    rows: Vec<(String, Vec<u8>)>,
    names: &BTreeMap<String, String>,
) -> Option<DriftStatus> {
    // The container was verified when it was published.
    let envelope = Envelope::decode(&release.envelope).ok()?;
    let manifest = Manifest::decode(envelope.unverified_payload()).ok()?;
    let encoded = file(&manifest, payload, FileRole::Baseline)?;
    let baseline = Baseline::decode(encoded).ok()?;
    let window = FleetWindow {
        baseline: &baseline,
        schema: Sha256::digest(encoded).into(),
        bundle: release.digest,
    };
    let profiles: Vec<(String, Profile)> = rows
        .into_iter()
        .filter_map(|(device, bytes)| Some((device, Profile::decode(&bytes).ok()?)))
        .collect();
    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    for (device, profile) in &profiles {
        spans.entry(device.clone()).or_default().add(profile);
    }
    let drift = assess_fleet(window, profiles);
    for (device, error) in &drift.refused {
        tracing::warn!(device, %error, "drift profile set aside");
    }
    let devices: Vec<DeviceDrift> = drift
        .devices
        .iter()
        .map(|(device, features)| {
            let span = spans.get(device).copied().unwrap_or_default();
            let features: Vec<FeatureDrift> = features.iter().map(feature).collect();
            DeviceDrift {
                device: device.clone(),
                name: names.get(device).cloned().unwrap_or_default(),
                level: worst(features.iter().map(|f| f.level)),
                profiles: span.profiles,
                windows: span.windows,
                start_unix_ms: span.start_unix_ms,
                end_unix_ms: span.end_unix_ms,
                features,
            }
        })
        .collect();
    let fleet: Vec<FleetFeatureDrift> = drift
        .fleet
        .iter()
        .map(|f| fleet_feature(f, &devices))
        .collect();
    let levels = devices.iter().map(|d| d.level);
    Some(DriftStatus {
        model: release.summary.name.clone(),
        version: release.summary.version.clone(),
        digest: release.summary.digest.clone(),
        level: worst(levels.chain(fleet.iter().map(|f| f.level))),
        fleet,
        devices,
    })
}

#[derive(Clone, Copy, Default)]
struct Span {
    profiles: u64,
    windows: u64,
    start_unix_ms: u64,
    end_unix_ms: u64,
}

impl Span {
    fn add(&mut self, profile: &Profile) {
        self.start_unix_ms = match self.profiles {
            0 => profile.start_unix_ms,
            _ => self.start_unix_ms.min(profile.start_unix_ms),
        };
        self.profiles += 1;
        self.windows = self.windows.saturating_add(profile.windows);
        self.end_unix_ms = self.end_unix_ms.max(profile.end_unix_ms);
    }
}

fn feature(drift: &drover_drift::FeatureDrift) -> FeatureDrift {
    let tested = drift.thinned_n > 0;
    FeatureDrift {
        feature: drift.name.clone(),
        level: level(drift.verdict),
        samples: drift.thinned_n,
        psi: tested.then_some(drift.psi_adjusted),
        p_value: tested.then_some(drift.p_value),
        missing_rate: drift.missing_rate,
        out_of_range_rate: drift.out_of_range_rate,
        why: format!(
            "{}; mean moved by {:.2} standard deviations",
            drift.verdict, drift.mean_shift_in_std
        ),
    }
}

fn fleet_feature(drift: &drover_drift::FeatureDrift, devices: &[DeviceDrift]) -> FleetFeatureDrift {
    let count = |wanted: fn(Level) -> bool| {
        let of = |d: &&DeviceDrift| {
            let mut features = d.features.iter();
            features.any(|f| f.feature == drift.name && wanted(f.level))
        };
        u32::try_from(devices.iter().filter(of).count()).unwrap_or(u32::MAX)
    };
    FleetFeatureDrift {
        feature: drift.name.clone(),
        level: level(drift.verdict),
        devices_alarming: count(|l| l == Level::Alarm),
        devices_assessed: count(|l| l != Level::Unknown),
        psi: (drift.thinned_n > 0).then_some(drift.psi_adjusted),
    }
}

fn level(verdict: Verdict) -> Level {
    match verdict {
        Verdict::TooFew => Level::Unknown,
        Verdict::Stable => Level::Stable,
        Verdict::Drifting => Level::Warning,
        Verdict::Major | Verdict::Fault(_) => Level::Alarm,
    }
}

fn worst(levels: impl Iterator<Item = Level>) -> Level {
    levels.max().unwrap_or(Level::Unknown)
}
