//! End to end over real sockets: three agents, while broker, server and an agent are killed.
//! Once on the embedded broker and once on mosquitto, by the same steps.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_api::RolloutState;
use xtask::agent::{Agent, is_connected, outbox, windows};
use xtask::fleet::{Broker, Fleet, repository};
use xtask::poll::{Look, wait_for};
use xtask::rig::{pump_rig, replay};

const MINUTE: Duration = Duration::from_secs(60);

fn rig(folder: &Path) -> PathBuf {
    let path = folder.join("rows.csv");
    pump_rig(&path, 6000, &["--seed", "7"]).unwrap();
    path
}

/// Waits until `more` windows have run beyond what has run now.
fn run_on(agent: &mut Agent, more: u64) {
    let now = agent
        .wait_for("a status", MINUTE, |s| Some(windows(s)))
        .unwrap();
    agent
        .wait_for("inference to go on", MINUTE, |s| {
            (windows(s) >= now + more).then_some(())
        })
        .unwrap();
}

/// Lets the outbox run empty, then compares both sides: what the server holds of every start
/// of the agent is gapless, and nothing newer than it is left on the board.
fn assert_everything_arrived_once(fleet: &Fleet, agent: &mut Agent, boots: u64) {
    let (boot, sequence) = agent.observed().unwrap();
    agent.stop().unwrap();
    agent.start_without_rows().unwrap();
    agent
        .wait_for("the outbox to run empty", MINUTE, |s| {
            (is_connected(s) && outbox(s) == 0).then_some(())
        })
        .unwrap();
    let stored = fleet.stored(&agent.id).unwrap();
    // One more start than before: the one that emptied the outbox.
    assert_eq!(stored.len() as u64, boots + 1, "{stored:?}");
    let mut observations = 0;
    for start in &stored {
        assert!(start.is_gapless(), "{}: {start:?}", agent.name);
        observations += start.observations;
    }
    // Gapless alone would not notice a lost tail: what an application saw must be there.
    let last = stored.iter().find(|s| s.boot == boot).unwrap();
    assert!(last.last_sequence >= sequence, "{sequence} seen, {last:?}");
    let summary = fleet.client().unwrap().device(&agent.id).unwrap();
    assert_eq!(summary.observations, observations);
    assert!(
        observations > 500,
        "{} sent {observations} only",
        agent.name
    );
}

fn survives_kills(broker: Broker) {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path(), broker).unwrap();
    let rows = rig(folder.path());
    let mut agents: Vec<Agent> = ["one", "two", "three"]
        .into_iter()
        .map(|name| fleet.enrol(name, "test").unwrap())
        .collect();
    for agent in &mut agents {
        agent.start(replay(&rows, "10")).unwrap();
    }
    for agent in &mut agents {
        agent
            .wait_for("its connection", MINUTE, |s| is_connected(s).then_some(()))
            .unwrap();
    }
    let models = repository().join("scripts/models/pump");
    fleet
        .publish(&models.join("pump-1.0.0.toml"), "pump.drover")
        .unwrap();
    let id = fleet.roll_out("pump-anomaly@1.0.0", true).unwrap();

    // The agent that goes first is killed while it takes the update.
    agents[0].kill_9().unwrap();
    agents[0].restart().unwrap();
    let ended = fleet.wait_for_rollout(&id, 2 * MINUTE).unwrap();
    assert_eq!(ended.state, RolloutState::Completed, "{ended:?}");
    agents.iter_mut().for_each(|a| run_on(a, 100));

    // The broker goes away in mid-stream; inference does not.
    fleet.stop_broker().unwrap();
    agents.iter_mut().for_each(|a| run_on(a, 200));
    fleet.start_broker().unwrap();
    agents.iter_mut().for_each(|a| run_on(a, 100));

    // An agent dies without a chance to tidy up.
    agents[1].kill_9().unwrap();
    agents[1].restart().unwrap();
    agents.iter_mut().for_each(|a| run_on(a, 100));

    // The server dies while batches are under way, and a successor is rolled out after.
    fleet.kill_server().unwrap();
    agents.iter_mut().for_each(|a| run_on(a, 200));
    fleet.start_server().unwrap();
    fleet
        .publish(&models.join("pump-1.1.0.toml"), "pump-1.1.0.drover")
        .unwrap();
    let id = fleet.roll_out("pump-anomaly@1.1.0", false).unwrap();
    // Once more while the second rollout is under way.
    fleet.kill_server().unwrap();
    fleet.start_server().unwrap();
    let ended = fleet.wait_for_rollout(&id, 2 * MINUTE).unwrap();
    assert_eq!(ended.state, RolloutState::Completed, "{ended:?}");
    assert_eq!(ended.counts.committed, 3);

    for (agent, boots) in agents.iter_mut().zip([2, 2, 1]) {
        agent
            .wait_for("the successor", MINUTE, |s| {
                (s["active"]["version"] == "1.1.0").then_some(())
            })
            .unwrap();
        assert_everything_arrived_once(&fleet, agent, boots);
    }

    // The device's view and the server's agree.
    let client = fleet.client().unwrap();
    for agent in &agents {
        wait_for("device and server to agree", MINUTE, || {
            let device = client.device(&agent.id)?;
            let version = device.active.map(|a| a.version);
            Ok(if version.as_deref() == Some("1.1.0") {
                Look::Ready(())
            } else {
                Look::NotYet(format!("{version:?}"))
            })
        })
        .unwrap();
    }
    for agent in &mut agents {
        agent.stop().unwrap();
    }
    fleet.stop_server().unwrap();
}

#[test]
fn nothing_is_lost_on_the_embedded_broker() {
    survives_kills(Broker::Embedded);
}

#[test]
fn nothing_is_lost_on_mosquitto() {
    survives_kills(Broker::Mosquitto);
}
