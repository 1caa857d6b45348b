//! Two fleets on one machine: devices of one move to the other, by voucher over the air and by
//! voucher in a file, and what runs on them runs on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use drover_api::RolloutState;
use xtask::agent::{Agent, is_connected};
use xtask::fleet::{Broker, Fleet, repository};
use xtask::rig::{pump_rig, replay};

const MINUTE: Duration = Duration::from_secs(60);

fn roll_out(fleet: &Fleet, version: &str, devices: usize) {
    let spec = repository().join(format!("scripts/models/pump/pump-{version}.toml"));
    fleet.publish(&spec, &format!("{version}.drover")).unwrap();
    let release = format!("pump-anomaly@{version}");
    let id = fleet.roll_out(&release, false).unwrap();
    let ended = fleet.wait_for_rollout(&id, 2 * MINUTE).unwrap();
    assert_eq!(ended.state, RolloutState::Completed, "{ended:?}");
    assert_eq!(ended.counts.committed as usize, devices);
}

/// A voucher for `device`; sent by the old server when `out` is none.
fn give_away(old: &Fleet, new: &Fleet, device: &str, out: Option<&str>) -> anyhow::Result<()> {
    let tokens = new.drover(["device", "token", "--for-device", device])?;
    let claim = tokens[0]["token"].as_str().unwrap_or_default();
    let root = old.path("keys/root.drover-root");
    let to_root = new.path("keys/root.drover-root");
    let key = old.path("keys/root-1.key");
    let way = out.map_or("--send".to_owned(), |out| format!("--out={out}"));
    old.drover([
        "device",
        "transfer",
        device,
        "--root",
        &root,
        "--to-root",
        &to_root,
        "--to-server",
        new.url(),
        "--claim",
        claim,
        "--root-key",
        &key,
        &way,
    ])
    .map(drop)
}

fn arrives(agent: &mut Agent) {
    agent
        .wait_for("its new fleet", MINUTE, |s| {
            let there = s["fleet"]["name"] == "new" && is_connected(s);
            there.then_some(())
        })
        .unwrap();
}

fn fleets(folder: &Path) -> (Fleet, Fleet) {
    let old = Fleet::start(&folder.join("old"), Broker::Embedded).unwrap();
    let new = Fleet::start_named(&folder.join("new"), "new").unwrap();
    (old, new)
}

#[test]
fn devices_move_to_another_fleet_and_run_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut old, mut new) = fleets(folder.path());
    let rows = folder.path().join("rows.csv");
    pump_rig(&rows, 3000, &["--seed", "7"]).unwrap();
    let mut agents = ["over-the-air", "by-file"].map(|name| old.enrol(name, "test").unwrap());
    for agent in &mut agents {
        agent.start(replay(&rows, "10")).unwrap();
    }
    roll_out(&old, "1.0.0", 2);
    let [by_air, by_file] = &mut agents;

    give_away(&old, &new, &by_air.id, None).unwrap();
    arrives(by_air);
    let status = by_air.status().unwrap();
    assert_eq!(status["active"]["version"], "1.0.0", "{status}");

    by_file.stop().unwrap();
    let voucher = old.path("by-file.voucher");
    give_away(&old, &new, &by_file.id, Some(&voucher)).unwrap();
    let other = by_air.transfer(&voucher).unwrap_err().to_string();
    assert!(other.contains("the agent runs"), "{other}");
    by_file.transfer(&voucher).unwrap();
    by_file.restart().unwrap();
    arrives(by_file);
    by_file
        .wait_for("its model", MINUTE, |s| {
            (s["active"]["version"] == "1.0.0").then_some(())
        })
        .unwrap();

    // The new fleet's word counts from now on.
    roll_out(&new, "1.1.0", 2);
    for agent in &mut agents {
        agent
            .wait_for("the release of the new fleet", MINUTE, |s| {
                (s["active"]["version"] == "1.1.0").then_some(())
            })
            .unwrap();
        agent.stop().unwrap();
    }
    old.stop_server().unwrap();
    new.stop_server().unwrap();
}
