//! A rollout, as operators see it.

use drover_api::{
    DeviceCounts, DeviceStatus, ReleaseRef, Rollout, RolloutDevice, RolloutState, StageStatus,
};

use crate::ServerError;
use crate::state::Core;
use crate::store::{MemberRow, RolloutRow};

/// A rollout and its progress; its devices only if asked for.
pub(crate) async fn describe(
    core: &Core,
    row: &RolloutRow,
    with_devices: bool,
) -> Result<Rollout, ServerError> {
    let release = core.store.release(&row.digest).await?;
    let release = release
        .ok_or(ServerError::Stored { what: "release" })?
        .summary;
    let members = core.store.members(row.id).await?;
    Ok(Rollout {
        id: format!("r{}", row.id),
        selector: row.selector.clone(),
        strategy: row.strategy.clone(),
        policy: row.policy.clone(),
        state: row.state,
        reason: row.reason.clone(),
        created_by: row.created_by.clone(),
        approved_by: row.approved_by.clone(),
        stage: row.stage,
        stages: stages(row, &members),
        counts: count(&members),
        bundle_bytes: release.total_bytes,
        sent_bytes: release.sent_bytes.saturating_sub(row.sent_before),
        release: ReleaseRef {
            name: release.name,
            version: release.version,
            digest: release.digest,
            counter: release.counter,
        },
        created_unix_ms: row.created_unix_ms,
        completed_unix_ms: row.completed_unix_ms,
        devices: if with_devices {
            members.into_iter().map(device).collect()
        } else {
            Vec::new()
        },
    })
}

fn device(member: MemberRow) -> RolloutDevice {
    RolloutDevice {
        device: member.device,
        name: member.name,
        stage: member.stage,
        assignment: member.sequence,
        status: member.status,
        changed_unix_ms: member.changed_unix_ms,
    }
}

fn stages(row: &RolloutRow, members: &[MemberRow]) -> Vec<StageStatus> {
    let last = members.iter().map(|m| m.stage).max().unwrap_or(0);
    let stage = |number| StageStatus {
        number,
        started: number <= row.stage,
        passed: number < row.stage || row.state == RolloutState::Completed,
        counts: count(members.iter().filter(|m| m.stage == number)),
    };
    (1..=last).map(stage).collect()
}

fn count<'a>(members: impl IntoIterator<Item = &'a MemberRow>) -> DeviceCounts {
    let mut counts = DeviceCounts::default();
    for member in members {
        counts.total += 1;
        let count = match member.status {
            DeviceStatus::Pending => &mut counts.pending,
            DeviceStatus::Assigned
            | DeviceStatus::Fetching { .. }
            | DeviceStatus::Staged
            | DeviceStatus::Trial => &mut counts.updating,
            DeviceStatus::Committed => &mut counts.committed,
            DeviceStatus::Failed { .. } => &mut counts.failed,
            DeviceStatus::Expired => &mut counts.expired,
            DeviceStatus::Superseded => &mut counts.superseded,
        };
        *count += 1;
    }
    counts
}
