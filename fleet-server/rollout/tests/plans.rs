//! Plans as text: whole rollouts are played against scripted fleets, and every step is
//! compared with `tests/plans/<name>.txt`. `UPDATE_PLANS=1` rewrites those files.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

use drover_rollout::{
    Action, Member, Phase, Policy, Progress, Report, Stage, Strategy, View, plan,
};

const POLICY: Policy = Policy {
    min_success_share: 0.95,
    max_failed_share: 0.1,
    deadline_ms: 60_000,
};

struct Game {
    view: View,
    policy: Policy,
    now: u64,
    text: String,
}

impl Game {
    fn new(devices: u32, strategy: &Strategy) -> Self {
        let members = (1..)
            .zip(strategy.assign(devices))
            .map(|(n, stage)| Member {
                device: format!("d{n}"),
                stage,
                progress: Progress::Pending,
                assigned_unix_ms: None,
            })
            .collect();
        Self {
            view: View {
                phase: Phase::Active,
                stage: 0,
                members,
                arrivals: Vec::new(),
            },
            policy: POLICY,
            now: 1_000_000,
            text: String::new(),
        }
    }

    /// Plans and performs until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..10 {
            let actions = plan(&self.view, &self.policy, self.now);
            if actions.is_empty() {
                let view = &self.view;
                writeln!(self.text, "  = {:?}, stage {}", view.phase, view.stage).unwrap();
                return;
            }
            for action in &actions {
                writeln!(self.text, "  {action:?}").unwrap();
                self.perform(action);
            }
        }
        panic!("no end of actions:\n{}", self.text);
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::Admit { device, stage } => {
                self.view.arrivals.retain(|d| d != device);
                self.view.members.push(Member {
                    device: device.clone(),
                    stage: *stage,
                    progress: Progress::Pending,
                    assigned_unix_ms: None,
                });
            }
            Action::Expire { device } => self.member(device).progress = Progress::Expired,
            Action::AdvanceStage { stage } => self.view.stage = *stage,
            Action::Assign { device } => {
                let now = self.now;
                let member = self.member(device);
                member.progress = Progress::Assigned;
                member.assigned_unix_ms = Some(now);
            }
            Action::Complete => self.view.phase = Phase::Completed,
            Action::Halt { .. } => self.view.phase = Phase::Paused,
        }
    }

    fn member(&mut self, device: &str) -> &mut Member {
        let found = self.view.members.iter_mut().find(|m| m.device == device);
        found.unwrap()
    }

    fn report(&mut self, devices: impl IntoIterator<Item = u32>, report: Report) {
        for n in devices {
            writeln!(self.text, "d{n} reports {report:?}").unwrap();
            let member = self.member(&format!("d{n}"));
            if let Some(next) = member.progress.on_report(report) {
                member.progress = next;
            }
        }
        self.settle();
    }

    fn wait(&mut self, seconds: u64) {
        writeln!(self.text, "{seconds} s later").unwrap();
        self.now += seconds * 1000;
        self.settle();
    }

    fn arrive(&mut self, device: &str) {
        writeln!(self.text, "{device} appears").unwrap();
        self.view.arrivals.push(device.into());
        self.settle();
    }

    fn check(self, name: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/plans")
            .join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_PLANS").is_some() {
            std::fs::write(&path, &self.text).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            self.text, wanted,
            "the plan differs from tests/plans/{name}.txt"
        );
    }
}

#[test]
fn everyone_at_once() {
    let mut game = Game::new(3, &Strategy::AllAtOnce);
    game.settle();
    game.report([1], Report::Fetching { have: 1, total: 4 });
    game.report([1, 2, 3], Report::Committed);
    game.arrive("late");
    game.check("all-at-once");
}

#[test]
fn a_canary_then_the_rest() {
    let mut game = Game::new(3, &Strategy::Staged(vec![Stage::Count(1)]));
    game.settle();
    game.report([1], Report::Trial);
    game.arrive("d4");
    game.report([1], Report::Committed);
    game.report([2, 3, 4], Report::Committed);
    game.check("canary");
}

#[test]
fn a_failed_canary_halts() {
    let mut game = Game::new(3, &Strategy::Staged(vec![Stage::Count(1)]));
    game.settle();
    game.report([1], Report::Failed);
    game.arrive("d4");
    game.wait(1000);
    game.check("failed-canary");
}

/// Rollout criterion R1: dead devices expire, and the gate counts the reachable ones.
#[test]
fn dead_devices_hold_nobody_up() {
    let mut game = Game::new(100, &Strategy::Staged(vec![Stage::Count(40)]));
    game.settle();
    game.report(1..=35, Report::Committed);
    game.wait(61);
    game.report(41..=100, Report::Committed);
    game.report([36], Report::Committed);
    game.check("dead-devices");
}

#[test]
fn a_stage_where_nobody_answers_halts() {
    let mut game = Game::new(2, &Strategy::Staged(vec![Stage::Count(1)]));
    game.settle();
    game.wait(61);
    game.check("nobody-answers");
}

#[test]
fn a_gate_that_can_no_longer_pass_halts() {
    let mut game = Game::new(20, &Strategy::AllAtOnce);
    game.settle();
    game.report([1], Report::Failed);
    game.report([2], Report::Failed);
    game.check("cannot-pass");
}

#[test]
fn a_rollout_without_devices_waits_for_them() {
    let mut game = Game::new(0, &Strategy::AllAtOnce);
    game.settle();
    game.arrive("d1");
    game.check("empty");
}

/// Attack row F5: nothing at all happens before a second person approves.
#[test]
fn nobody_gets_anything_before_approval() {
    let mut game = Game::new(2, &Strategy::AllAtOnce);
    game.view.phase = Phase::Waiting;
    game.settle();
    game.arrive("d3");
    game.wait(61);
    game.view.phase = Phase::Active;
    game.settle();
    game.check("waiting");
}
