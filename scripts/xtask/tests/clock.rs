//! Clocks that are wrong, and years that pass: boards in 1970 and 2099 enrol, run and update,
//! and a fleet that was out of reach for 400 days and five roots is updated in one session.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use drover_api::RolloutState;
use xtask::agent::{Agent, is_connected};
use xtask::fleet::{Broker, Fleet, repository};
use xtask::rig::{pump_rig, replay};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: i64 = 86_400;

fn committed(fleet: &Fleet, agents: &mut [Agent], version: &str) {
    let models = repository().join("scripts/models/pump");
    let spec = models.join(format!("pump-{version}.toml"));
    fleet.publish(&spec, &format!("{version}.drover")).unwrap();
    let release = format!("pump-anomaly@{version}");
    let id = fleet.roll_out(&release, false).unwrap();
    let ended = fleet.wait_for_rollout(&id, 2 * MINUTE).unwrap();
    assert_eq!(ended.state, RolloutState::Completed, "{ended:?}");
    assert_eq!(ended.counts.committed as usize, agents.len());
    for agent in agents {
        agent
            .wait_for("the release", MINUTE, |s| {
                (s["active"]["version"] == version).then_some(())
            })
            .unwrap();
    }
}

/// Makes the roots 2 to `newest`, each signed by its holder, and publishes them.
fn rotate(fleet: &Fleet, newest: u64) {
    let mut from = fleet.path("keys/root.drover-root");
    for version in 2..=newest {
        let next = fleet.path(&format!("root-{version}.drover-root"));
        let key = fleet.path("keys/root-1.key");
        fleet
            .drover(["keys", "rotate", "--from", &from, "--out", &next])
            .unwrap();
        fleet
            .drover(["keys", "sign", &next, "--key", &key])
            .unwrap();
        fleet.drover(["root", "publish", &next]).unwrap();
        from = next;
    }
}

#[test]
fn no_clock_and_no_absence_strands_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_plain(folder.path(), Broker::Embedded).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test sets clocks by it")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let boards = [("right", 0), ("in-1970", -now), ("in-2099", 73 * 365 * DAY)];
    let mut agents: Vec<Agent> = boards
        .iter()
        .map(|(name, offset)| fleet.enrol_at(name, "test", *offset).unwrap())
        .collect();
    let rows = folder.path().join("rows.csv");
    pump_rig(&rows, 3000, &["--seed", "7"]).unwrap();
    for agent in &mut agents {
        agent.start(replay(&rows, "10")).unwrap();
    }
    committed(&fleet, &mut agents, "1.0.0");

    // Roots follow each other, and the certificates of all devices end, while nobody hears of
    // them.
    fleet.stop_broker().unwrap();
    for agent in &mut agents {
        agent
            .wait_for("the loss", MINUTE, |s| (!is_connected(s)).then_some(()))
            .unwrap();
    }
    rotate(&fleet, 6);
    fleet.stop_server().unwrap();
    fleet.set_server_clock(400 * DAY);
    fleet.start_server().unwrap();
    committed(&fleet, &mut agents, "1.1.0");
    for (name, _) in boards {
        let log = std::fs::read_to_string(fleet.path(&format!("logs/{name}.log"))).unwrap();
        assert!(log.contains("granted a certificate"), "{name}: {log}");
        assert!(log.contains("follows a new root"), "{name}: {log}");
    }
    let roots = fleet.drover(["root", "list"]).unwrap();
    let newest = roots.iter().find(|root| root["version"] == 6).unwrap();
    assert_eq!(newest["devices"], agents.len(), "{roots:?}");

    // And none of it is lost by a restart.
    for agent in &mut agents {
        agent.stop().unwrap();
        agent.restart().unwrap();
        agent
            .wait_for("its connection", MINUTE, |s| {
                (is_connected(s) && s["active"]["version"] == "1.1.0").then_some(())
            })
            .unwrap();
        agent.stop().unwrap();
    }
    fleet.stop_server().unwrap();
}
