//! Performs what the planner plans, and tells operators how rollouts stand.
//!
//! Each action is one transaction, made before anything is sent; after a power cut the next
//! look at the database plans whatever was not done.

mod translate;
mod view;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use drover_api::{CreateRollout, DeviceStatus, Release, Rollout, RolloutState, Severity};
use drover_rollout::{Action, Member, Radius, View, plan};
use drover_trust::mutation::{Check, is_disabled};
use drover_trust::{AssignedBundle, DeviceId};
use serde_json::json;

use crate::http::Refusal;
use crate::operator::Actor;
use crate::state::Core;
use crate::store::{Approved, DeviceRow, NewEvent, NewRollout, ReleaseRow, RolloutRow};
use crate::{ServerError, clock};

pub(crate) use translate::{progress_of, status_of};
pub(crate) use view::describe;

/// Plans of one rollout in a row at most; more would mean that actions undo each other.
const MAX_STEPS: usize = 64;

/// Looks at all rollouts whenever something happened, and regularly.
pub(crate) async fn run(core: Arc<Core>) {
    let interval = Duration::from_millis(core.config.plan_interval_ms);
    loop {
        if let Err(error) = look(&core).await {
            tracing::error!(%error, cause = ?std::error::Error::source(&error),
                "rollouts could not be planned");
        }
        // Whether woken or timed out, it looks again.
        let _ = tokio::time::timeout(interval, core.replan.notified()).await;
    }
}

/// Creates a rollout.
pub(crate) async fn create(
    core: &Core,
    actor: &Actor,
    request: CreateRollout,
) -> Result<Rollout, Refusal> {
    let strategy = translate::strategy(&request.strategy);
    strategy.check().map_err(|e| Refusal::bad(e.to_string()))?;
    let policy = translate::policy(&request.policy);
    policy.check().map_err(|e| Refusal::bad(e.to_string()))?;
    let release = crate::release::find(core, &request.release).await?;
    let root = core.identity.root();
    crate::release::check_epoch(&root, &release.summary)?;
    crate::release::check_signed(&root, &release)?;
    let devices = core.store.approved_devices().await?;
    for wanted in &request.selector.devices {
        if !devices.iter().any(|d| d.id == *wanted || d.name == *wanted) {
            return Err(Refusal::bad(format!(
                "no approved device has the identity or name {wanted:?}; see `drover device list`"
            )));
        }
    }
    let selected: Vec<&DeviceRow> = devices
        .iter()
        .filter(|d| translate::selects(&request.selector, d))
        .collect();
    let stages = strategy.assign(u32::try_from(selected.len()).unwrap_or(u32::MAX));
    let members: Vec<(String, u32)> = selected.iter().map(|d| d.id.clone()).zip(stages).collect();
    check_radius(core, &release.digest, &members, devices.len()).await?;
    let new = NewRollout {
        digest: release.digest,
        name: release.summary.name.clone(),
        selector: request.selector,
        strategy: request.strategy,
        policy: request.policy,
        members,
        created_by: actor.who.account.clone(),
        waits: request.approval || core.config.require_approval,
    };
    let entry = actor.entry("rollout.create", "");
    let entry = entry.with(&json!({
        "devices": new.members.len(),
        "policy": new.policy,
        "release": release.summary.digest,
        "selector": new.selector,
        "strategy": new.strategy,
        "waits": new.waits,
    }));
    let id = core.store.add_rollout(&new, entry).await?;
    tracing::info!(rollout = id, release = %release.summary.digest, "rollout created");
    core.replan.notify_one();
    let row = core
        .store
        .rollout(id)
        .await?
        .ok_or_else(Refusal::internal)?;
    Ok(describe(core, &row, true).await?)
}

/// Lets a waiting rollout begin, if whoever asks is somebody else than who created it.
pub(crate) async fn approve(
    core: &Core,
    actor: &Actor,
    row: &RolloutRow,
) -> Result<Rollout, Refusal> {
    let (id, who) = (row.id, &actor.who.account);
    if row.created_by == *who && !is_disabled(Check::SecondPerson) {
        return Err(Refusal::not_allowed(format!(
            "r{id} was created by {who}: somebody else has to approve it"
        )));
    }
    // The fleet may have grown since it was created, and whoever came joins it.
    let devices = core.store.approved_devices().await?;
    let selected = devices.iter();
    let selected: Vec<&DeviceRow> = selected
        .filter(|d| translate::selects(&row.selector, d))
        .collect();
    let strategy = translate::strategy(&row.strategy);
    let stages = strategy.assign(u32::try_from(selected.len()).unwrap_or(u32::MAX));
    let members: Vec<(String, u32)> = selected.iter().map(|d| d.id.clone()).zip(stages).collect();
    check_radius(core, &row.digest, &members, devices.len()).await?;
    let entry = actor.entry("rollout.approve", format!("r{id}"));
    let entry = entry.with(&json!({ "created_by": row.created_by }));
    match core.store.approve_rollout(row, who, &entry).await? {
        Approved::Begins => {}
        Approved::NotWaiting => {
            return Err(Refusal::conflict(format!(
                "r{id} does not wait for approval; see `drover rollout status r{id}`"
            )));
        }
        Approved::Overtaken { by } => {
            return Err(Refusal::conflict(format!(
                "r{by} was created after r{id} and has begun; create the rollout again if it is \
                 still wanted"
            )));
        }
    }
    tracing::info!(rollout = id, "rollout approved");
    core.replan.notify_one();
    let row = core.store.rollout(id).await?;
    let row = row.ok_or_else(Refusal::internal)?;
    Ok(describe(core, &row, true).await?)
}

/// Refuses a rollout that begins with too much of the fleet. What other rollouts of the
/// release have begun with and not yet shown to work counts as well: many small rollouts are
/// one large one.
async fn check_radius(
    core: &Core,
    digest: &[u8; 32],
    members: &[(String, u32)],
    fleet: usize,
) -> Result<(), Refusal> {
    let first = members.iter().filter(|(_, stage)| *stage == 1);
    let mut reached: HashSet<&str> = first.map(|(device, _)| device.as_str()).collect();
    let begun = core.store.unproven_devices(digest).await?;
    if !reached.is_empty() {
        reached.extend(begun.iter().map(String::as_str));
    }
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let radius = Radius {
        max_share: core.config.max_unstaged_share,
        free_devices: core.config.free_unstaged_devices,
    };
    match radius.check(count(reached.len()), count(fleet)) {
        Err(error) if !is_disabled(Check::SecondPerson) => {
            Err(Refusal::not_allowed(error.to_string()))
        }
        _ => Ok(()),
    }
}

async fn look(core: &Core) -> Result<(), ServerError> {
    let rollouts = core.store.open_rollouts().await?;
    if rollouts.is_empty() {
        return Ok(());
    }
    let devices = core.store.approved_devices().await?;
    // Newest first: a device that matches several rollouts of a model joins the newest.
    let mut claimed: HashSet<(String, String)> = HashSet::new();
    for rollout in rollouts {
        let Some(release) = core.store.release(&rollout.digest).await? else {
            continue;
        };
        let mut candidates = Vec::new();
        if rollout.state != RolloutState::Paused {
            for device in &devices {
                let free = claimed.insert((rollout.name.clone(), device.id.clone()));
                if free && translate::selects(&rollout.selector, device) {
                    candidates.push(device.id.clone());
                } else if free {
                    claimed.remove(&(rollout.name.clone(), device.id.clone()));
                }
            }
        }
        settle(core, rollout, &release, &candidates).await?;
    }
    Ok(())
}

async fn settle(
    core: &Core,
    mut rollout: RolloutRow,
    release: &ReleaseRow,
    candidates: &[String],
) -> Result<(), ServerError> {
    let policy = translate::policy(&rollout.policy);
    for _ in 0..MAX_STEPS {
        let view = view_of(core, &rollout, candidates).await?;
        let actions = plan(&view, &policy, clock::unix_ms());
        if actions.is_empty() {
            return Ok(());
        }
        for action in actions {
            perform(core, &rollout, &release.summary, action).await?;
        }
        match core.store.rollout(rollout.id).await? {
            Some(row) => rollout = row,
            None => return Ok(()),
        }
    }
    tracing::error!(rollout = rollout.id, "a rollout does not come to rest");
    Ok(())
}

async fn view_of(
    core: &Core,
    rollout: &RolloutRow,
    candidates: &[String],
) -> Result<View, ServerError> {
    let members = core.store.members(rollout.id).await?;
    let known: HashSet<&str> = members.iter().map(|m| m.device.as_str()).collect();
    let arrivals = candidates
        .iter()
        .filter(|d| !known.contains(d.as_str()))
        .cloned()
        .collect();
    Ok(View {
        phase: translate::phase(rollout.state),
        stage: rollout.stage,
        arrivals,
        members: members
            .into_iter()
            // Who is kept out does not hold the others up, and joins again when let in.
            .filter(|m| !(m.is_out && m.status == DeviceStatus::Pending))
            .map(|m| Member {
                progress: progress_of(&m.status),
                device: m.device,
                stage: m.stage,
                assigned_unix_ms: m.assigned_unix_ms,
            })
            .collect(),
    })
}

async fn perform(
    core: &Core,
    rollout: &RolloutRow,
    release: &Release,
    action: Action,
) -> Result<(), ServerError> {
    let store = &core.store;
    let id = rollout.id;
    tracing::info!(rollout = id, ?action, "rollout goes on");
    match action {
        Action::Admit { device, stage } => store.admit(id, &device, stage).await,
        Action::AdvanceStage { stage } => store.set_stage(id, stage).await,
        Action::Expire { device } => {
            store
                .set_status(id, &device, &DeviceStatus::Expired)
                .await?;
            let detail = format!("no result for rollout r{id} within its deadline");
            let event = NewEvent::of(&device, Severity::Warning, "rollout-expired", detail);
            store.add_event(&event).await
        }
        Action::Assign { device } => assign(core, rollout, release, &device).await,
        Action::Complete => {
            store
                .set_rollout_state(id, RolloutState::Completed, None)
                .await?;
            note(core, Severity::Info, "rollout-completed", format!("r{id}")).await
        }
        Action::Halt { reason } => {
            store
                .set_rollout_state(id, RolloutState::Paused, Some(&reason))
                .await?;
            let detail = format!("r{id}: {reason}");
            note(core, Severity::Warning, "rollout-paused", detail).await
        }
    }
}

async fn assign(
    core: &Core,
    rollout: &RolloutRow,
    release: &Release,
    device: &str,
) -> Result<(), ServerError> {
    let device = DeviceId::parse(device).map_err(|_| ServerError::Stored { what: "device" })?;
    let bundle = AssignedBundle {
        name: release.name.clone(),
        digest: rollout.digest,
        counter: release.counter,
        total_bytes: release.total_bytes,
        epoch: release.epoch,
    };
    let wanted = [rollout.digest];
    let rollout_name = format!("r{}", rollout.id);
    let sign = core.signer(&device, rollout_name, &wanted).await?;
    let assigned = core
        .store
        .assign(rollout.id, device.as_str(), &bundle, sign)
        .await?;
    core.send_assignment(&device, assigned).await
}

async fn note(
    core: &Core,
    severity: Severity,
    kind: &'static str,
    detail: String,
) -> Result<(), ServerError> {
    let event = NewEvent {
        device: None,
        severity,
        kind,
        detail,
    };
    core.store.add_event(&event).await
}
