//! Roots, revocation, epochs and time: what a device trusts, and how it recovers.

use drover_agent_core::{Effect, Event};
use drover_trust::{Domain, Envelope, Role, Voucher};
use drover_wire::message::{self, Down, FailureCode, Phase, RootChain, Up};

use crate::world::{
    Bundle, CREATED_S, DAY_S, DEVICE_KEY, Device, FLEET_KEY, Fate, RELEASE_KEYS, ROOT_KEY, Server,
    assignment, assignment_bytes, catalog, catalog_bytes, committed, deliver, device_id, down, key,
    root_envelope, root_metadata, set_role, settle,
};

/// Lets the device connect anew and run what the server assigns.
fn updates(device: &mut Device, server: &mut Server, sequence: u64, bundle: &Bundle) {
    device.signed.insert(bundle.digest);
    server.assign(sequence, bundle);
    reconnect(device, server);
    assert_eq!(device.running, Some(bundle.digest), "{:?}", device.phase());
}

fn reconnect(device: &mut Device, server: &Server) {
    device.on(Event::Disconnected).unwrap();
    settle(device, server).unwrap();
}

/// All keys but the root's own change to `n` and the next ones.
fn rekey(server: &mut Server, n: u8) {
    server.rotate(&[ROOT_KEY], |root| {
        set_role(root, Role::Release, 2, &[n, n + 1]);
        set_role(root, Role::Catalog, 1, &[n + 2]);
        set_role(root, Role::Fleet, 1, &[n + 3]);
    });
    server.catalog_key = n + 2;
    server.fleet_key = n + 3;
}

fn send(device: &mut Device, server: &Server, message: Down) {
    deliver(device, server.message(message)).unwrap();
}

fn roots(roots: &[Envelope]) -> Event {
    let roots = roots.iter().map(|r| r.encode().unwrap()).collect();
    let bytes = RootChain { roots }.encode().unwrap();
    Event::Roots { bytes }
}

#[test]
fn five_rotations_are_caught_up_with_in_one_session() {
    let old = Bundle::new(1, &RELEASE_KEYS);
    let (mut device, mut server) = committed(&old);
    device.restart(true).unwrap();
    for n in 0..5u8 {
        server.now_s += 80 * DAY_S;
        device.now_ms += 80 * DAY_S * 1000;
        // The root's own key changes each time: signed by the old one and the new one.
        let signers = if n == 0 {
            vec![ROOT_KEY, 200]
        } else {
            vec![199 + n, 200 + n]
        };
        server.rotate(&signers, |root| {
            let first = 100 + 4 * n;
            set_role(root, Role::Root, 1, &[200 + n]);
            set_role(root, Role::Release, 2, &[first, first + 1]);
            set_role(root, Role::Catalog, 1, &[first + 2]);
            set_role(root, Role::Fleet, 1, &[first + 3]);
        });
        (server.catalog_key, server.fleet_key) = (102 + 4 * n, 103 + 4 * n);
    }
    // 400 days without a connection: the model ran all along.
    assert_eq!(device.running, Some(old.digest));
    let new = Bundle::new(2, &[116, 117]);
    updates(&mut device, &mut server, 1, &new);
    assert_eq!(device.machine.root().root().version, 6);
    assert_eq!(device.refusals(), []);
    // It is the newest root that counts after a restart, whatever the image says.
    device.restart(true).unwrap();
    assert_eq!(device.root.root().version, 6);
    updates(&mut device, &mut server, 2, &Bundle::new(3, &[116, 117]));
}

#[test]
fn chains_that_do_not_follow_change_nothing() {
    let second = |signers: &[u8]| {
        let mut root = root_metadata();
        root.version = 2;
        set_role(&mut root, Role::Root, 1, &[200]);
        root_envelope(&root, signers)
    };
    let third = |fleet: &str, version| {
        let mut root = root_metadata();
        root.version = version;
        root.fleet = fleet.into();
        root_envelope(&root, &[ROOT_KEY])
    };
    let cases = [
        ("only new keys", roots(&[second(&[200])])),
        ("only old keys", roots(&[second(&[ROOT_KEY])])),
        ("nobody", roots(&[second(&[])])),
        ("version 3 directly", roots(&[third("test", 3)])),
        ("the last version of all", roots(&[third("test", u64::MAX)])),
        ("another fleet", roots(&[third("other", 2)])),
        ("not a root", roots(&[Envelope::unsigned(vec![2; 90])])),
        ("not a chain", Event::Roots { bytes: vec![9; 50] }),
    ];
    for (what, event) in cases {
        let old = Bundle::new(1, &RELEASE_KEYS);
        let (mut device, mut server) = committed(&old);
        let before = device.disk.durable.clone();
        device.on(event).unwrap();
        assert_eq!(device.refusals(), [FailureCode::RootInvalid], "{what}");
        assert_eq!(device.disk.durable, before, "{what} left a trace");
        assert_eq!(device.machine.root().root().version, 1, "{what}");
        updates(&mut device, &mut server, 2, &Bundle::new(2, &RELEASE_KEYS));
    }
}

#[test]
fn a_chain_is_followed_as_far_as_it_is_signed() {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    rekey(&mut server, 100);
    let mut chain = server.roots.clone();
    chain.push(Envelope::unsigned(vec![0; 5]));
    device.up.clear();
    device.on(roots(&chain)).unwrap();
    assert_eq!(device.machine.root().root().version, 2);
    assert_eq!(device.refusals(), [FailureCode::RootInvalid]);
    // Who it is and what it trusts is said anew.
    let hello = device.up.iter().position(|up| matches!(up, Up::Hello(_)));
    let trust = device
        .up
        .iter()
        .position(|up| matches!(up, Up::Trust(report) if report.root_version == 2));
    assert!(trust.unwrap() < hello.unwrap(), "{:?}", device.up);
    // The same chain again is no news.
    device.up.clear();
    device.on(roots(&server.roots)).unwrap();
    assert!(device.up.is_empty(), "{:?}", device.up);
}

#[test]
fn what_a_revoked_key_signed_dies_before_its_commit() {
    type Rotate = fn(&mut Server);
    let release: Rotate = |server| {
        server.rotate(&[ROOT_KEY], |root| {
            set_role(root, Role::Release, 2, &[2, 6])
        });
    };
    let fleet: Rotate = |server| {
        server.rotate(&[ROOT_KEY], |root| set_role(root, Role::Fleet, 1, &[7]));
        server.fleet_key = 7;
    };
    for rotate in [release, fleet] {
        for stage in ["chunks", "trial", "restarted"] {
            let old = Bundle::new(1, &RELEASE_KEYS);
            let new = Bundle::new(2, &RELEASE_KEYS);
            let (mut device, mut server) = committed(&old);
            device.signed.insert(new.digest);
            device.fate = Fate::Hangs;
            device.disk_full = stage == "chunks";
            server.assign(2, &new);
            reconnect(&mut device, &server);
            let is_trial = matches!(device.phase(), Phase::Trial { .. });
            assert_eq!(is_trial, stage != "chunks", "{:?}", device.phase());

            rotate(&mut server);
            if stage == "restarted" {
                // The new root comes with an image, not over the network.
                device.image_root = device.root.walk(server.roots.clone()).0;
                device.restart(true).unwrap();
                if device.machine.durable().candidate.is_some() {
                    settle(&mut device, &server).unwrap();
                }
            } else {
                device.on(roots(&server.roots)).unwrap();
            }
            let phase = device.phase();
            let wanted = [FailureCode::Revoked, FailureCode::SignatureInvalid];
            let failed = matches!(&phase, Phase::Failed { digest, code, .. }
                if *digest == new.digest && wanted.contains(code));
            assert!(failed, "{stage}: {phase:?}");
            assert_eq!(device.trial, None, "{stage}");
            assert!(!device.disk.files.contains(&new.digest), "{stage}");
            // What is committed runs on, over restarts too.
            device.restart(true).unwrap();
            assert_eq!(device.running, Some(old.digest), "{stage}");

            // The old manifest, assigned anew, is not taken either.
            device.fate = Fate::Good;
            device.disk_full = false;
            let signers: &[u8] = if server.fleet_key == FLEET_KEY {
                device.signed.remove(&new.digest);
                server.assign(3, &new);
                reconnect(&mut device, &server);
                assert_eq!(device.running, Some(old.digest), "{stage}");
                &[2, 6]
            } else {
                &RELEASE_KEYS
            };
            updates(&mut device, &mut server, 4, &Bundle::new(9, signers));
        }
    }
}

#[test]
fn fast_forward_by_stolen_keys_ends_with_a_rotation() {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    // The attacker pushes everything up that the online keys count.
    let mut last = assignment(u64::MAX, vec![]);
    last.bundles = vec![Bundle::new(1, &RELEASE_KEYS).assigned()];
    last.expires_unix_s = u64::MAX;
    let mut newest = catalog(u64::MAX, 2000, &last.bundles);
    newest.expires_unix_s = u64::MAX;
    let message = Down::Desired {
        assignment: assignment_bytes(&last, server.fleet_key),
        catalog: catalog_bytes(&newest, server.catalog_key),
    };
    send(&mut device, &server, message);
    let far = down(Down::Resync, device_id().as_str(), u64::MAX, FLEET_KEY);
    device.message(&far).unwrap();
    let durable = device.machine.durable();
    assert_eq!(durable.sequence, u64::MAX);
    assert_eq!(durable.catalog.version, u64::MAX);
    assert_eq!(durable.time_floor_s, u64::MAX);
    // The jump of the clock was reported.
    assert_eq!(device.refusals(), [FailureCode::Frozen]);
    // At the end of time nothing is written any more, however much is said.
    let before = device.disk.durable.clone();
    (0..100).for_each(|_| device.message(&far).unwrap());
    assert_eq!(device.disk.durable, before);

    // Honest instructions are locked out ...
    let next = Bundle::new(2, &RELEASE_KEYS);
    server.assign(2, &next);
    reconnect(&mut device, &server);
    assert_ne!(device.running, Some(next.digest));
    // ... until a root takes the stolen keys away; then counting starts anew.
    server.rotate(&[ROOT_KEY], |root| {
        set_role(root, Role::Catalog, 1, &[8]);
        set_role(root, Role::Fleet, 1, &[9]);
    });
    (server.catalog_key, server.fleet_key) = (8, 9);
    updates(&mut device, &mut server, 1, &Bundle::new(3, &RELEASE_KEYS));
    let durable = device.machine.durable();
    assert_eq!(durable.sequence, 1);
    assert!(durable.time_floor_s < 3000, "{}", durable.time_floor_s);
}

#[test]
fn a_rotation_that_revokes_nothing_restarts_nothing() {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    let before = device.machine.durable().clone();
    server.rotate(&[ROOT_KEY], |root| {
        set_role(root, Role::Fleet, 1, &[FLEET_KEY, 9]);
    });
    device.on(roots(&server.roots)).unwrap();
    let after = device.machine.durable();
    assert_eq!(after.sequence, before.sequence);
    assert_eq!(after.catalog, before.catalog);
    assert!(after.time_floor_s >= before.time_floor_s);
    assert!(after.assignment.is_some());
}

#[test]
fn a_power_cut_during_a_rotation_leaves_the_old_or_the_new_root() {
    let world = || {
        let (device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
        rekey(&mut server, 100);
        let new = Bundle::new(2, &[100, 101]);
        server.assign(1, &new);
        (device, server, new)
    };
    let run = |device: &mut Device, server: &Server| {
        device.on(Event::Disconnected)?;
        settle(device, server)
    };
    let (mut device, server, new) = world();
    device.signed.insert(new.digest);
    device.points = 0;
    run(&mut device, &server).unwrap();
    let points = device.points;
    assert!(points > 40, "only {points} points to cut at");
    for at in 0..points {
        let (mut device, server, new) = world();
        device.signed.insert(new.digest);
        device.points = 0;
        device.cut_at = Some(at);
        run(&mut device, &server).unwrap_err();
        device.restart(true).unwrap();
        assert!(device.running.is_some(), "at {at}");
        settle(&mut device, &server).unwrap();
        assert_eq!(device.running, Some(new.digest), "at {at}");
        assert_eq!(device.root.root().version, 2, "at {at}");
    }
}

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
    send(&mut device, &server, desired);
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

#[test]
fn a_device_that_moves_to_another_fleet_counts_anew() {
    let old = Bundle::new(5, &RELEASE_KEYS);
    let (mut device, server) = committed(&old);
    let voucher = Voucher {
        from_fleet: "test".into(),
        device: device_id(),
        to_fleet: "new".into(),
        to_root: [1; 32],
        server: "https://new".into(),
        claim: "c".into(),
        issued_unix_s: 2000,
        expires_unix_s: 9000,
    };
    let signed = |signer| {
        let payload = voucher.encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Voucher, &key(signer));
        let voucher = envelope.encode().unwrap();
        Down::Transfer { voucher }
    };
    send(&mut device, &server, signed(FLEET_KEY));
    send(&mut device, &server, signed(DEVICE_KEY));
    assert_eq!(device.refusals(), [FailureCode::SignatureInvalid; 2]);
    assert_eq!(device.other, []);
    send(&mut device, &server, signed(ROOT_KEY));
    assert_eq!(device.other, [Effect::Transfer(Box::new(voucher))]);

    // The agent enrols there and starts with the new fleet's root.
    let mut root = root_metadata();
    root.fleet = "new".into();
    set_role(&mut root, Role::Root, 1, &[50]);
    let envelope = root_envelope(&root, &[50]);
    device.image_root = drover_trust::TrustedRoot::self_signed(envelope).unwrap();
    device.forget_seen();
    device.restart(true).unwrap();
    assert_eq!(
        device.running,
        Some(old.digest),
        "runs on until it is told otherwise"
    );
    let durable = device.machine.durable();
    assert_eq!((durable.sequence, durable.floors.len()), (0, 0));
    assert_eq!(device.root.root().fleet, "new");
}

#[test]
fn content_keys_go_to_the_driver_and_are_asked_for() {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    let new = Bundle::new(2, &RELEASE_KEYS);
    device.disk_full = true;
    server.assign(2, &new);
    reconnect(&mut device, &server);
    device.up.clear();
    let digest = new.digest;
    // Chunks came encrypted; many events are one question.
    (0..9).for_each(|_| device.on(Event::KeyMissing { digest }).unwrap());
    let asked: Vec<_> = device.up.drain(..).collect();
    assert_eq!(asked, [Up::WantManifest { digest }]);
    for digest in [[9; 32], digest] {
        let key = Down::ContentKey {
            digest,
            encapsulated: [1; 32],
            wrapped: vec![2; 48],
        };
        send(&mut device, &server, key);
    }
    let wanted = Effect::ContentKey {
        digest,
        encapsulated: [1; 32],
        wrapped: vec![2; 48],
    };
    assert_eq!(device.other, [wanted], "only the candidate's");
}

#[test]
fn refusals_are_counted_and_told_without_a_write_of_their_own() {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    let before = device.disk.durable.clone();
    device.up.clear();
    for _ in 0..1000 {
        device.message(&[0; 40]).unwrap();
    }
    assert_eq!(device.disk.durable, before, "a flood wears the flash");
    assert!(device.up.len() < 40 && device.records.len() < 40);
    let told = device.machine.trust(device.now_ms).refused;
    assert_eq!(told, [(FailureCode::SignatureInvalid, 1000)]);
    // They go along with the next change, and are there after a restart.
    updates(&mut device, &mut server, 2, &Bundle::new(2, &RELEASE_KEYS));
    device.restart(true).unwrap();
    assert_eq!(device.machine.trust(device.now_ms).refused, told);
    let recorded = |e: &message::Event| matches!(e, message::Event::Refused { .. });
    assert!(device.records.iter().any(recorded));
}
