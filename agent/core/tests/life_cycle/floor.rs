//! Floors that only rise: security epoch, time, and what an end may stop.

use drover_agent_core::Event;
use drover_wire::message::{Down, FailureCode, Phase};

use crate::world::{
    Bundle, CREATED_S, DAY_S, Device, FLEET_KEY, Fate, RELEASE_KEYS, ROOT_KEY, assignment,
    assignment_bytes, committed, device_id, down, reconnect, roots, settle, tell, updates,
};

/// A bundle of this counter and security epoch.
fn of_epoch(counter: u64, epoch: u64) -> Bundle {
    Bundle::altered(counter, &RELEASE_KEYS, |m| m.epoch = epoch)
}

fn lose(device: &mut Device, bundle: &Bundle) {
    device.running = None;
    let lost = Event::ActiveLost {
        digest: bundle.digest,
        code: FailureCode::GoldenMismatch,
        detail: "computes wrongly".into(),
    };
    device.on(lost).unwrap();
}

#[test]
fn falling_back_needs_the_epoch_and_not_the_counter() {
    let (old, new) = (of_epoch(1, 1), of_epoch(2, 1));
    let (mut device, mut server) = committed(&old);
    updates(&mut device, &mut server, 2, &new);
    lose(&mut device, &new);
    assert_eq!(device.running, Some(old.digest), "same epoch");
    // A server cannot order what the device may do by itself.
    let counter_1 = Bundle::altered(1, &RELEASE_KEYS, |m| m.description = "again".into());
    server.assign(3, &counter_1);
    reconnect(&mut device, &server);
    assert_eq!(device.refusals().last(), Some(&FailureCode::Rollback));
    updates(&mut device, &mut server, 4, &of_epoch(3, 1));
}

#[test]
fn a_bundle_from_before_a_security_release_never_runs_again() {
    let (old, new) = (of_epoch(1, 1), of_epoch(2, 2));
    let (mut device, mut server) = committed(&old);
    updates(&mut device, &mut server, 2, &new);
    assert_eq!(device.machine.durable().epoch_floor, 2);
    lose(&mut device, &new);
    assert_eq!(device.running, None, "safe mode");
    device.restart(true).unwrap();
    assert_eq!(device.running, None, "safe mode after a restart");
    // Nor when both online roles and the release role say so.
    server.assign(3, &of_epoch(3, 1));
    settle(&mut device, &server).unwrap();
    assert_eq!(device.refusals().last(), Some(&FailureCode::Rollback));
    assert_eq!(device.running, None);
    updates(&mut device, &mut server, 4, &of_epoch(4, 2));
}

#[test]
fn the_epoch_floor_is_raised_by_a_commit_only() {
    let old = of_epoch(1, 1);
    let (mut device, mut server) = committed(&old);
    device.fate = Fate::TrialFails;
    let bad = of_epoch(2, 7);
    server.assign(2, &bad);
    device.signed.insert(bad.digest);
    reconnect(&mut device, &server);
    assert_eq!(device.machine.durable().epoch_floor, 1);
    device.fate = Fate::Good;
    updates(&mut device, &mut server, 3, &of_epoch(3, 1));
}

#[test]
fn a_root_can_ask_for_a_higher_epoch() {
    let old = of_epoch(1, 1);
    let (mut device, mut server) = committed(&old);
    server.rotate(&[ROOT_KEY], |root| root.epoch = 3);
    device.on(roots(&server.roots)).unwrap();
    let before = device.disk.durable.clone();
    server.assign(2, &of_epoch(2, 2));
    device.up.clear();
    reconnect(&mut device, &server);
    assert_eq!(device.refusals(), [FailureCode::Rollback]);
    assert_eq!(device.disk.durable, before);
    assert_eq!(device.running, Some(old.digest), "committed before");
    updates(&mut device, &mut server, 3, &of_epoch(3, 3));
}

#[test]
fn the_time_floor_never_steps_back() {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    let say = |device: &mut Device, at_s| {
        let bytes = down(Down::Resync, device_id().as_str(), at_s, FLEET_KEY);
        device.message(&bytes).unwrap();
    };
    assert!(device.machine.trusted_now_s(device.now_ms) >= CREATED_S);
    say(&mut device, 500_000);
    say(&mut device, 2000);
    assert!(device.machine.trusted_now_s(device.now_ms) >= 500_000);
    device.restart(true).unwrap();
    assert!(device.machine.trusted_now_s(device.now_ms) >= 500_000);
    // What ended meanwhile is not accepted after a restart either.
    device.on(Event::Connected).unwrap();
    let ended = assignment(2, vec![]);
    server.now_s = 500_000;
    let desired = server.desired(assignment_bytes(&ended, FLEET_KEY));
    server.now_s = 2000;
    tell(&mut device, &server, desired);
    assert_eq!(device.refusals(), [FailureCode::Expired]);
    // A newer image was built later than that.
    device.built_s = 900_000;
    device.restart(true).unwrap();
    assert_eq!(device.machine.trusted_now_s(device.now_ms), 900_000);
    server.now_s = 950_000;
    updates(&mut device, &mut server, 2, &Bundle::new(2, &RELEASE_KEYS));
}

#[test]
fn an_end_between_staging_and_activation_aborts_nothing() {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    let new = Bundle::new(2, &RELEASE_KEYS);
    device.signed.insert(new.digest);
    device.fate = Fate::Hangs;
    server.assign(2, &new);
    reconnect(&mut device, &server);
    assert_eq!(device.phase(), Phase::Trial { digest: new.digest });
    // Assignment, catalog and root end.
    let late = down(Down::Resync, device_id().as_str(), 6000 * DAY_S, FLEET_KEY);
    device.message(&late).unwrap();
    let digest = new.digest;
    device.on(Event::TrialPassed { digest }).unwrap();
    assert_eq!(device.phase(), Phase::Committed { digest });
    device.fate = Fate::Good;
    device.restart(true).unwrap();
    assert_eq!(device.running, Some(digest));
    // New instructions are not accepted under the root that ended, but its successor is.
    server.now_s = 6000 * DAY_S;
    server.assign(3, &Bundle::new(3, &RELEASE_KEYS));
    settle(&mut device, &server).unwrap();
    assert_eq!(device.refusals().last(), Some(&FailureCode::Frozen));
    server.rotate(&[ROOT_KEY], |root| root.expires_unix_s = 9000 * DAY_S);
    updates(&mut device, &mut server, 4, &Bundle::new(4, &RELEASE_KEYS));
}
