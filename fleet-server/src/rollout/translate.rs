//! Between the words of the REST interface and those of the planner.

use drover_api::{DeviceStatus, Phase, RolloutState, Selector};
use drover_rollout::Progress;

use crate::store::DeviceRow;

/// Whether a selector means a device.
pub(super) fn selects(selector: &Selector, device: &DeviceRow) -> bool {
    let named = selector.devices.is_empty()
        || selector
            .devices
            .iter()
            .any(|d| *d == device.id || (!d.is_empty() && *d == device.name));
    named
        && selector
            .labels
            .iter()
            .all(|(key, value)| device.labels.get(key) == Some(value))
}

pub(super) fn strategy(strategy: &drover_api::Strategy) -> drover_rollout::Strategy {
    match strategy {
        drover_api::Strategy::AllAtOnce => drover_rollout::Strategy::AllAtOnce,
        drover_api::Strategy::Staged { stages } => {
            let stage = |stage: &drover_api::Stage| match *stage {
                drover_api::Stage::Count(n) => drover_rollout::Stage::Count(n),
                drover_api::Stage::Percent(p) => drover_rollout::Stage::Percent(p),
            };
            drover_rollout::Strategy::Staged(stages.iter().map(stage).collect())
        }
    }
}

pub(super) fn policy(policy: &drover_api::Policy) -> drover_rollout::Policy {
    drover_rollout::Policy {
        min_success_share: policy.min_success_share,
        max_failed_share: policy.max_failed_share,
        deadline_ms: policy.deadline_secs.saturating_mul(1000),
    }
}

pub(super) fn phase(state: RolloutState) -> drover_rollout::Phase {
    match state {
        RolloutState::Waiting => drover_rollout::Phase::Waiting,
        RolloutState::Active => drover_rollout::Phase::Active,
        RolloutState::Paused => drover_rollout::Phase::Paused,
        RolloutState::Completed => drover_rollout::Phase::Completed,
    }
}

/// A device's progress, as the planner sees it.
pub(crate) fn progress_of(status: &DeviceStatus) -> Progress {
    match *status {
        DeviceStatus::Pending => Progress::Pending,
        DeviceStatus::Assigned => Progress::Assigned,
        DeviceStatus::Fetching { have, total } => Progress::Fetching { have, total },
        DeviceStatus::Staged => Progress::Staged,
        DeviceStatus::Trial => Progress::Trial,
        DeviceStatus::Committed => Progress::Committed,
        DeviceStatus::Failed { .. } => Progress::Failed,
        DeviceStatus::Expired => Progress::Expired,
        DeviceStatus::Superseded => Progress::Superseded,
    }
}

/// A device's progress, as operators see it; `reported` explains a failure.
pub(crate) fn status_of(progress: &Progress, reported: &Phase) -> DeviceStatus {
    match *progress {
        Progress::Pending => DeviceStatus::Pending,
        Progress::Assigned => DeviceStatus::Assigned,
        Progress::Fetching { have, total } => DeviceStatus::Fetching { have, total },
        Progress::Staged => DeviceStatus::Staged,
        Progress::Trial => DeviceStatus::Trial,
        Progress::Committed => DeviceStatus::Committed,
        Progress::Expired => DeviceStatus::Expired,
        Progress::Superseded => DeviceStatus::Superseded,
        Progress::Failed => match reported {
            Phase::Failed {
                step, code, detail, ..
            } => DeviceStatus::Failed {
                step: step.clone(),
                code: code.clone(),
                detail: detail.clone(),
            },
            _ => DeviceStatus::Failed {
                step: String::new(),
                code: String::new(),
                detail: String::new(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_part_of_a_selector_has_to_match() {
        let device = DeviceRow {
            id: "id1".into(),
            name: "pump-3".into(),
            labels: BTreeMap::from([("site".into(), "a".into())]),
        };
        let selector = |label: Option<&str>, devices: &[&str]| Selector {
            labels: label
                .map(|l| ("site".into(), l.into()))
                .into_iter()
                .collect(),
            devices: devices.iter().map(|d| (*d).into()).collect(),
        };
        assert!(selects(&selector(None, &[]), &device));
        assert!(selects(&selector(Some("a"), &["pump-3", "x"]), &device));
        assert!(selects(&selector(None, &["id1"]), &device));
        assert!(!selects(&selector(Some("b"), &[]), &device));
        assert!(!selects(&selector(Some("a"), &["x"]), &device));
    }
}
