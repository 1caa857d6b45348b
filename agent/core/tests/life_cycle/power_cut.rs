//! The power is cut before and after every persist and every effect of a whole update.

use crate::world::{self, Bundle, Device, Fate, RELEASE_KEYS, Server, committed, settle};
use drover_agent_core::Event;
use drover_wire::message::Phase;

/// The world just before the update from the first to the second bundle.
fn before_update() -> (Device, Server, Bundle, Bundle) {
    let old = Bundle::new(1, &RELEASE_KEYS);
    let new = Bundle::new(2, &RELEASE_KEYS);
    let (mut device, mut server) = committed(&old);
    device.signed.insert(new.digest);
    server.assign(2, &new);
    device.on(Event::Disconnected).unwrap();
    device.points = 0;
    (device, server, old, new)
}

#[test]
fn a_cut_at_any_point_leaves_old_or_new_and_converges() {
    let (mut device, server, _, _) = before_update();
    settle(&mut device, &server).unwrap();
    let points = device.points;
    assert!(points > 40, "only {points} points to cut at");

    for at in 0..points {
        for keep_chunks in [false, true] {
            let (mut device, server, old, new) = before_update();
            device.cut_at = Some(at);
            let cut = settle(&mut device, &server).is_err();
            assert!(cut, "no cut at {at}");
            device.restart(keep_chunks).unwrap();
            let running = device.running.unwrap();
            assert!([old.digest, new.digest].contains(&running), "at {at}");
            let durable = device.machine.durable();
            assert_eq!(durable.active.as_ref().unwrap().running.digest, running);

            settle(&mut device, &server).unwrap();
            let digest = new.digest;
            assert_eq!(device.phase(), Phase::Committed { digest }, "at {at}");
            assert_eq!(device.running, Some(digest));
            assert_eq!(device.machine.durable().floor(world::MODEL), 2);
            assert!(device.machine.durable().quarantine.is_empty());

            // Nothing is left over but the two slots.
            device.restart(true).unwrap();
            let kept: Vec<_> = device.disk.files.iter().copied().collect();
            assert_eq!(kept.len(), 2, "at {at}");
            assert!(device.disk.chunks.is_empty(), "at {at}");
        }
    }
}

#[test]
fn two_cuts_never_leave_nothing_running() {
    let (mut device, server, _, _) = before_update();
    settle(&mut device, &server).unwrap();
    let points = device.points;
    for first in (0..points).step_by(3) {
        for second in 0..12 {
            let (mut device, server, old, new) = before_update();
            device.cut_at = Some(first);
            settle(&mut device, &server).unwrap_err();
            device.points = 0;
            device.cut_at = Some(second);
            let again = device
                .restart(true)
                .and_then(|()| settle(&mut device, &server));
            if again.is_err() {
                device.restart(true).unwrap();
            }
            device.cut_at = None;
            settle(&mut device, &server).unwrap();
            let running = device.running.unwrap();
            // Two interrupted attempts look like a candidate that takes the device down.
            let state = device.phase();
            match state {
                Phase::Committed { .. } => assert_eq!(running, new.digest),
                Phase::Failed { .. } => assert_eq!(running, old.digest),
                other => panic!("not settled after cuts at {first}, {second}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_cut_at_any_point_of_a_failing_update_keeps_the_old() {
    let (mut device, server, _, _) = before_update();
    device.fate = Fate::TrialFails;
    settle(&mut device, &server).unwrap();
    let points = device.points;
    for at in 0..points {
        let (mut device, server, old, new) = before_update();
        device.fate = Fate::TrialFails;
        device.cut_at = Some(at);
        settle(&mut device, &server).unwrap_err();
        device.restart(true).unwrap();
        assert_eq!(device.running, Some(old.digest), "at {at}");
        settle(&mut device, &server).unwrap();
        let phase = device.phase();
        let failed = matches!(phase, Phase::Failed { digest, .. } if digest == new.digest);
        assert!(failed, "at {at}: {phase:?}");
        assert_eq!(device.running, Some(old.digest), "at {at}");
        assert!(!device.disk.files.contains(&new.digest), "at {at}");
    }
}

#[test]
fn a_first_installation_survives_a_cut_at_any_point() {
    let bundle = Bundle::new(1, &RELEASE_KEYS);
    let fresh = || {
        let mut device = Device::new();
        device.signed.insert(bundle.digest);
        let mut server = Server::default();
        server.assign(1, &bundle);
        device.points = 0;
        (device, server)
    };
    let (mut device, server) = fresh();
    settle(&mut device, &server).unwrap();
    for at in 0..device.points {
        let (mut device, server) = fresh();
        device.cut_at = Some(at);
        settle(&mut device, &server).unwrap_err();
        device.restart(false).unwrap();
        settle(&mut device, &server).unwrap();
        assert_eq!(device.running, Some(bundle.digest), "at {at}");
    }
}

#[test]
fn a_stop_in_good_order_is_not_held_against_the_candidate() {
    let (mut device, server, old, new) = before_update();
    device.fate = Fate::Hangs;
    for _ in 0..5 {
        settle(&mut device, &server).unwrap();
        assert_eq!(device.phase(), Phase::Trial { digest: new.digest });
        assert_eq!(device.running, Some(old.digest));
        device.on(Event::Stopping).unwrap();
        device.restart(true).unwrap();
    }
    device.fate = Fate::Good;
    device.restart(true).unwrap();
    assert_eq!(device.running, Some(new.digest));
}
