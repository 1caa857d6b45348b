//! Roots, revocation and recovery, and what else the owner says about trust.

use drover_agent_core::{Effect, Event};
use drover_trust::{Domain, Envelope, Role, Voucher};
use drover_wire::message::{self, Down, FailureCode, Phase, Up};

use crate::world::{
    Bundle, DAY_S, DEVICE_KEY, Device, FLEET_KEY, Fate, RELEASE_KEYS, ROOT_KEY, Server, assignment,
    assignment_bytes, catalog, catalog_bytes, committed, device_id, down, key, reconnect,
    root_envelope, root_metadata, roots, set_role, settle, tell, updates,
};

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
    tell(&mut device, &server, message);
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
    tell(&mut device, &server, signed(FLEET_KEY));
    tell(&mut device, &server, signed(DEVICE_KEY));
    assert_eq!(device.refusals(), [FailureCode::SignatureInvalid; 2]);
    assert_eq!(device.other, []);
    tell(&mut device, &server, signed(ROOT_KEY));
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
        tell(&mut device, &server, key);
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
