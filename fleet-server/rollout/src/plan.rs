//! One step of a rollout.
//!
//! Gates count reachable devices: whoever expired or was taken over by a newer rollout is in
//! no denominator, so a dead board holds nobody up. A gate that can no longer pass halts the
//! rollout instead of letting it wait for ever.

use crate::{Policy, Progress};

/// What a rollout is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not begun: a second person has to approve it.
    Waiting,
    /// Stages are under way.
    Active,
    /// Halted; no other device starts.
    Paused,
    /// Every stage has passed; devices that come later are still assigned.
    Completed,
}

/// One device of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity.
    pub device: String,
    /// Its stage, from 1.
    pub stage: u32,
    /// Where it is.
    pub progress: Progress,
    /// When it was assigned, in milliseconds since 1970.
    pub assigned_unix_ms: Option<u64>,
}

/// One rollout, as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What it is doing.
    pub phase: Phase,
    /// Stage that is under way; 0 before the first.
    pub stage: u32,
    /// Its devices, in their stable order.
    pub members: Vec<Member>,
    /// Devices that match and are not members yet, in their stable order.
    pub arrivals: Vec<String>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a device a member of a stage.
    Admit {
        /// Which device.
        device: String,
        /// Its stage.
        stage: u32,
    },
    /// The deadline of a device passed.
    Expire {
        /// Which device.
        device: String,
    },
    /// Begin a stage.
    AdvanceStage {
        /// Which one.
        stage: u32,
    },
    /// Give a device the release.
    Assign {
        /// Which device.
        device: String,
    },
    /// Every stage has passed.
    Complete,
    /// Stop: no other device starts.
    Halt {
        /// Why, for people.
        reason: String,
    },
}

/// The next step of the rollout at `now_unix_ms`; nothing when there is nothing to do now.
pub fn plan(view: &View, policy: &Policy, now_unix_ms: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    if view.phase == Phase::Waiting {
        return actions;
    }
    let mut members = view.members.clone();
    for member in &mut members {
        let overdue = member
            .assigned_unix_ms
            .is_some_and(|at| now_unix_ms.saturating_sub(at) > policy.deadline_ms);
        if overdue && member.progress.is_updating() {
            member.progress = Progress::Expired;
            let device = member.device.clone();
            actions.push(Action::Expire { device });
        }
    }
    let last = members.iter().map(|m| m.stage).max().unwrap_or(0);
    if view.phase != Phase::Paused {
        admit(view, last, &mut members, &mut actions);
    }
    match view.phase {
        Phase::Waiting | Phase::Paused => {}
        Phase::Completed => assign(&members, last, &mut actions),
        Phase::Active => advance(view, policy, &members, &mut actions),
    }
    actions
}

/// Devices that match later join the last stage: they are no canaries.
fn admit(view: &View, last: u32, members: &mut Vec<Member>, actions: &mut Vec<Action>) {
    let stage = last.max(1);
    for device in &view.arrivals {
        actions.push(Action::Admit {
            device: device.clone(),
            stage,
        });
        members.push(Member {
            device: device.clone(),
            stage,
            progress: Progress::Pending,
            assigned_unix_ms: None,
        });
    }
}

fn advance(view: &View, policy: &Policy, members: &[Member], actions: &mut Vec<Action>) {
    let started = Tally::of(members.iter().filter(|m| m.stage <= view.stage));
    if policy.breached(started.failed, started.reachable) {
        actions.push(Action::Halt {
            reason: format!(
                "{} of {} reachable devices failed, at most {} % may",
                started.failed,
                started.reachable,
                policy.max_failed_share * 100.0
            ),
        });
        return;
    }
    let last = members.iter().map(|m| m.stage).max().unwrap_or(0);
    let mut stage = view.stage;
    if stage > 0 {
        let tally = Tally::of(members.iter().filter(|m| m.stage == stage));
        match tally.gate(policy) {
            Gate::Wait => {
                assign(members, stage, actions);
                return;
            }
            Gate::Never(reason) => {
                let reason = format!("stage {stage} cannot pass: {reason}");
                actions.push(Action::Halt { reason });
                return;
            }
            Gate::Pass if stage >= last => {
                assign(members, stage, actions);
                actions.push(Action::Complete);
                return;
            }
            Gate::Pass => {}
        }
    }
    if last == 0 {
        actions.push(Action::Complete);
        return;
    }
    stage += 1;
    actions.push(Action::AdvanceStage { stage });
    assign(members, stage, actions);
}

fn assign(members: &[Member], up_to_stage: u32, actions: &mut Vec<Action>) {
    for member in members {
        if member.stage <= up_to_stage.max(1) && member.progress == Progress::Pending {
            let device = member.device.clone();
            actions.push(Action::Assign { device });
        }
    }
}

enum Gate {
    Wait,
    Pass,
    Never(String),
}

#[derive(Default)]
struct Tally {
    members: u32,
    reachable: u32,
    committed: u32,
    failed: u32,
    expired: u32,
}

impl Tally {
    fn of<'a>(members: impl Iterator<Item = &'a Member>) -> Self {
        let mut tally = Self::default();
        for member in members {
            tally.members += 1;
            match member.progress {
                Progress::Expired => tally.expired += 1,
                Progress::Superseded => {}
                _ => tally.reachable += 1,
            }
            match member.progress {
                Progress::Committed => tally.committed += 1,
                Progress::Failed => tally.failed += 1,
                _ => {}
            }
        }
        tally
    }

    fn gate(&self, policy: &Policy) -> Gate {
        if self.reachable == 0 && self.expired > 0 {
            return Gate::Never("none of its devices answered in time".into());
        }
        let needed = policy.needed(self.reachable);
        if self.committed >= needed {
            Gate::Pass
        } else if self.reachable - self.failed < needed {
            Gate::Never(format!(
                "{} of {} reachable devices failed, {needed} have to commit",
                self.failed, self.reachable
            ))
        } else {
            Gate::Wait
        }
    }
}
