//! Everything that is refused: by whom it was signed, whom it is for, how old it is, what it
//! holds. After each the old bundle runs on, the refusal is recorded, and the next honest
//! update is accepted.

use drover_agent_core::Event;
use drover_trust::{Assignment, DeviceId};
use drover_wire::message::{self, Down, FailureCode, Phase, Step};

use crate::world::{
    Bundle, DEVICE_KEY, Device, FLEET_KEY, Fate, MODEL, RELEASE_KEYS, Server, assignment,
    assignment_bytes, committed, deliver, device_id, down, key, settle,
};

/// A device that runs the first bundle, with a second one to be abused.
fn world() -> (Device, Server, Bundle, Bundle) {
    let old = Bundle::new(1, &RELEASE_KEYS);
    let (device, server) = committed(&old);
    (device, server, old, Bundle::new(2, &RELEASE_KEYS))
}

/// The old bundle runs, and an honest update passes.
fn recovers(device: &mut Device, server: &mut Server, old: &Bundle) {
    assert_eq!(device.running, Some(old.digest));
    let honest = Bundle::new(50, &RELEASE_KEYS);
    device.signed.insert(honest.digest);
    device.fate = Fate::Good;
    server.assign(1000, &honest);
    device.on(Event::Disconnected).unwrap();
    settle(device, server).unwrap();
    assert_eq!(device.running, Some(honest.digest), "{:?}", device.phase());
}

fn send(device: &mut Device, message: Down) {
    let bytes = down(message, device_id().as_str(), 2000, FLEET_KEY);
    device.message(&bytes).unwrap();
}

/// Sends an assignment with a catalog that lists what it names.
fn send_assignment(device: &mut Device, server: &mut Server, assignment: &Assignment, signer: u8) {
    for bundle in &assignment.bundles {
        server.list(bundle.clone());
    }
    let desired = server.desired(assignment_bytes(assignment, signer));
    send(device, desired);
}

#[test]
fn assignments_that_are_not_to_be_followed() {
    type Alter = fn(&mut Assignment);
    let cases: [(Alter, u8, FailureCode); 7] = [
        (|_| {}, RELEASE_KEYS[0], FailureCode::SignatureInvalid),
        (|_| {}, DEVICE_KEY, FailureCode::SignatureInvalid),
        (
            |a| a.device = DeviceId::of(&key(31).public()),
            FLEET_KEY,
            FailureCode::WrongRecipient,
        ),
        (
            |a| a.fleet = "other".into(),
            FLEET_KEY,
            FailureCode::WrongRecipient,
        ),
        (|a| a.sequence = 1, FLEET_KEY, FailureCode::Rollback),
        (|a| a.sequence = 0, FLEET_KEY, FailureCode::Rollback),
        (|a| a.expires_unix_s = 1999, FLEET_KEY, FailureCode::Expired),
    ];
    for (alter, signer, wanted) in cases {
        let (mut device, mut server, old, new) = world();
        let before = device.disk.durable.clone();
        let mut hostile = assignment(2, vec![new.assigned()]);
        alter(&mut hostile);
        send_assignment(&mut device, &mut server, &hostile, signer);
        assert_eq!(device.refusals(), [wanted]);
        assert_eq!(device.disk.durable, before, "{wanted:?} left a trace");
        recovers(&mut device, &mut server, &old);
    }
}

#[test]
fn messages_that_are_not_from_the_fleet_or_not_for_this_device() {
    let (mut device, mut server, old, new) = world();
    let good = assignment(2, vec![new.assigned()]);
    server.list(new.assigned());
    let message = |signer| server.desired(assignment_bytes(&good, signer));
    let me = device_id();
    let other = DeviceId::of(&key(31).public());
    let hostile = [
        down(message(FLEET_KEY), me.as_str(), 2000, DEVICE_KEY),
        down(message(FLEET_KEY), other.as_str(), 2000, FLEET_KEY),
        vec![],
        vec![0xff; 300],
    ];
    for bytes in &hostile {
        device.message(bytes).unwrap();
    }
    assert_eq!(device.machine.counters().refused, hostile.len() as u64);
    let mut flipped = down(message(FLEET_KEY), me.as_str(), 2000, FLEET_KEY);
    for at in 0..flipped.len() {
        flipped[at] ^= 1;
        device.message(&flipped).unwrap();
        flipped[at] ^= 1;
    }
    assert_eq!(device.machine.durable().sequence, 1);
    recovers(&mut device, &mut server, &old);
}

#[test]
fn bundles_that_the_device_must_not_run() {
    let sized = |memory_bytes| {
        move |m: &mut drover_bundle::Manifest| {
            m.requires.memory_bytes = memory_bytes;
        }
    };
    let cases: Vec<(Bundle, FailureCode, &str)> = vec![
        (
            Bundle::new(2, &RELEASE_KEYS[..1]),
            FailureCode::SignatureInvalid,
            "1 of 2",
        ),
        (
            Bundle::new(2, &[2, FLEET_KEY]),
            FailureCode::SignatureInvalid,
            "1 of 2",
        ),
        (Bundle::new(2, &[]), FailureCode::SignatureInvalid, "0 of 2"),
        (
            Bundle::altered(2, &RELEASE_KEYS, sized(1_000_000)),
            FailureCode::Incompatible,
            "memory",
        ),
        (
            Bundle::altered(2, &RELEASE_KEYS, |m| {
                m.requires.arch = vec!["x86_64".into()]
            }),
            FailureCode::Incompatible,
            "this device is arm",
        ),
        (
            Bundle::altered(2, &RELEASE_KEYS, |m| m.requires.engine = "other".into()),
            FailureCode::Incompatible,
            "engine",
        ),
    ];
    for (bundle, code, part) in cases {
        let (mut device, mut server, old, _) = world();
        server.assign(2, &bundle);
        device.on(Event::Disconnected).unwrap();
        settle(&mut device, &server).unwrap();
        match device.phase() {
            Phase::Failed {
                digest,
                step,
                code: got,
                detail,
            } => {
                assert_eq!((digest, step, got), (bundle.digest, Step::Accept, code));
                assert!(detail.contains(part), "{detail:?} lacks {part:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(device.refusals(), [code]);
        assert!(
            device.disk.chunks.is_empty(),
            "fetched before it was checked"
        );
        recovers(&mut device, &mut server, &old);
    }
}

#[test]
fn an_assignment_that_disagrees_with_the_release() {
    type Alter = fn(&mut drover_trust::AssignedBundle);
    let cases: [(Alter, FailureCode); 5] = [
        (|b| b.epoch += 1, FailureCode::Mismatch),
        (|b| b.total_bytes += 1, FailureCode::Mismatch),
        (|b| b.counter += 1, FailureCode::Mismatch),
        (|b| b.name = "other".into(), FailureCode::Mismatch),
        (|b| b.counter = 0, FailureCode::Rollback),
    ];
    for (alter, wanted) in cases {
        let (mut device, mut server, old, new) = world();
        let mut bundle = new.assigned();
        alter(&mut bundle);
        server.assign(2, &new);
        server.list(bundle.clone());
        let bytes = assignment_bytes(&assignment(2, vec![bundle]), FLEET_KEY);
        server.assignment = Some(bytes);
        device.on(Event::Disconnected).unwrap();
        settle(&mut device, &server).unwrap();
        assert_eq!(device.refusals(), [wanted]);
        recovers(&mut device, &mut server, &old);
    }
}

#[test]
fn an_older_release_is_refused_even_if_both_roles_signed_it() {
    let old = Bundle::new(5, &RELEASE_KEYS);
    let (mut device, mut server) = committed(&old);
    server.assign(2, &Bundle::new(4, &RELEASE_KEYS));
    device.on(Event::Disconnected).unwrap();
    settle(&mut device, &server).unwrap();
    assert_eq!(device.refusals(), [FailureCode::Rollback]);
    recovers(&mut device, &mut server, &old);
}

#[test]
fn another_bundles_manifest_is_not_taken() {
    let (mut device, mut server, old, new) = world();
    let other = Bundle::new(3, &RELEASE_KEYS);
    device.on(Event::Connected).unwrap();
    send_assignment(
        &mut device,
        &mut server,
        &assignment(2, vec![new.assigned()]),
        FLEET_KEY,
    );
    send(
        &mut device,
        Down::Manifest {
            digest: new.digest,
            envelope: other.envelope,
        },
    );
    assert_eq!(device.refusals(), [FailureCode::Mismatch]);
    assert!(device.disk.manifests.contains_key(&old.digest));
    assert!(!device.disk.manifests.contains_key(&new.digest));
    recovers(&mut device, &mut server, &old);
}

#[test]
fn wrong_chunks_are_refused_and_right_ones_still_taken() {
    let (mut device, mut server, old, new) = world();
    device.signed.insert(new.digest);
    send_assignment(
        &mut device,
        &mut server,
        &assignment(2, vec![new.assigned()]),
        FLEET_KEY,
    );
    let digest = new.digest;
    let envelope = new.envelope.clone();
    send(&mut device, Down::Manifest { digest, envelope });
    let chunk = |index, bytes| Event::Chunk {
        digest,
        index,
        bytes,
    };
    let mut flipped = new.chunk(0);
    flipped[3] ^= 1;
    device.on(chunk(0, flipped.clone())).unwrap();
    device.on(chunk(0, vec![])).unwrap();
    device.on(chunk(1, new.chunk(0))).unwrap();
    for index in [5, 6, u32::MAX] {
        device.on(chunk(index, new.chunk(0))).unwrap();
    }
    assert!(device.disk.chunks.is_empty(), "kept a wrong chunk");
    assert!(
        device
            .refusals()
            .iter()
            .all(|c| *c == FailureCode::Mismatch)
    );
    device.on(chunk(0, new.chunk(0))).unwrap();
    assert_eq!(device.disk.chunks[&digest].len(), 1);
    recovers(&mut device, &mut server, &old);
}

#[test]
fn golden_mismatch_is_final_for_the_bundle() {
    let (mut device, mut server, old, new) = world();
    device.fate = Fate::LoadFails(FailureCode::GoldenMismatch);
    server.assign(2, &new);
    device.on(Event::Disconnected).unwrap();
    settle(&mut device, &server).unwrap();
    assert_eq!(device.refusals(), [FailureCode::GoldenMismatch]);
    let rolled_back = device.records.iter().any(|event| {
        matches!(event, message::Event::RolledBack { from, to: Some(to), .. }
            if *from == new.digest && to.digest == old.digest)
    });
    assert!(rolled_back, "{:?}", device.records);
    // Again under a new assignment: refused without a download.
    device.fate = Fate::Good;
    server.assign(3, &new);
    device.on(Event::Disconnected).unwrap();
    settle(&mut device, &server).unwrap();
    assert_eq!(device.refusals().last(), Some(&FailureCode::Quarantined));
    recovers(&mut device, &mut server, &old);
}

#[test]
fn a_failed_load_is_tried_once_more() {
    let (mut device, mut server, _, new) = world();
    device.signed.insert(new.digest);
    device.fate = Fate::LoadFails(FailureCode::LoadFailed);
    server.assign(2, &new);
    device.on(Event::Disconnected).unwrap();
    device.on(Event::Connected).unwrap();
    let mut mails: Vec<_> = device
        .up
        .drain(..)
        .flat_map(|up| server.answer(&up))
        .collect();
    while let Some(mail) = mails.pop() {
        deliver(&mut device, mail).unwrap();
        mails.extend(device.up.drain(..).flat_map(|up| server.answer(&up)));
    }
    assert_eq!(device.phase(), Phase::Staged { digest: new.digest });
    device.fate = Fate::Good;
    assert!(device.wait().unwrap());
    assert_eq!(device.running, Some(new.digest));
    assert!(device.machine.durable().quarantine.is_empty());

    // And one that goes on failing is given up after the second attempt.
    let next = Bundle::new(3, &RELEASE_KEYS);
    device.fate = Fate::LoadFails(FailureCode::LoadFailed);
    server.assign(3, &next);
    device.on(Event::Disconnected).unwrap();
    settle(&mut device, &server).unwrap();
    assert_eq!(device.refusals().last(), Some(&FailureCode::LoadFailed));
    assert!(device.machine.durable().quarantine[&next.digest].failures >= 2);
    recovers(&mut device, &mut server, &new);
}

#[test]
fn a_full_disk_delays_and_nothing_else() {
    let (mut device, mut server, old, new) = world();
    device.signed.insert(new.digest);
    device.disk_full = true;
    server.assign(2, &new);
    device.on(Event::Disconnected).unwrap();
    settle(&mut device, &server).unwrap();
    assert_eq!(device.running, Some(old.digest));
    let phase = device.phase();
    assert!(
        matches!(phase, Phase::Fetching { have: 0, .. }),
        "{phase:?}"
    );
    assert!(device.refusals().contains(&FailureCode::StorageFull));
    device.disk_full = false;
    settle(&mut device, &server).unwrap();
    assert_eq!(device.running, Some(new.digest));
}

#[test]
fn expiry_never_stops_what_was_accepted() {
    let (mut device, mut server, _, new) = world();
    device.signed.insert(new.digest);
    server.assign(2, &new);
    device.on(Event::Disconnected).unwrap();
    device.on(Event::Connected).unwrap();
    let desired = server.desired(server.assignment.clone().unwrap());
    send(&mut device, desired);
    // 400 days pass between acceptance and the rest.
    server.now_s += 400 * 86_400;
    device.now_ms += 400 * 86_400_000;
    settle(&mut device, &server).unwrap();
    assert_eq!(device.running, Some(new.digest));
    // New instructions are judged by the newest signed time, across a restart too.
    device.restart(true).unwrap();
    device.on(Event::Connected).unwrap();
    let late = assignment(3, vec![]);
    send_assignment(&mut device, &mut server, &late, FLEET_KEY);
    assert_eq!(device.refusals(), [FailureCode::Expired]);
    assert_eq!(device.running, Some(new.digest));
}

#[test]
fn an_empty_assignment_stops_the_model_and_keeps_the_floor() {
    let (mut device, mut server, old, new) = world();
    let none = assignment(2, vec![]);
    send_assignment(&mut device, &mut server, &none, FLEET_KEY);
    assert_eq!(device.running, None);
    assert_eq!(device.phase(), Phase::Idle);
    assert_eq!(device.machine.durable().floor(MODEL), 1);
    device.signed.insert(new.digest);
    server.assign(3, &new);
    device.on(Event::Disconnected).unwrap();
    settle(&mut device, &server).unwrap();
    assert_eq!(device.running, Some(new.digest));
    assert!(
        device.disk.files.contains(&old.digest),
        "kept for a fall-back"
    );
}

#[test]
fn a_damaged_active_bundle_is_fetched_anew() {
    let (mut device, server, old, _) = world();
    device.disk.files.clear();
    device.restart(true).unwrap();
    assert_eq!(device.running, None);
    settle(&mut device, &server).unwrap();
    assert_eq!(device.running, Some(old.digest));
    assert_eq!(device.phase(), Phase::Committed { digest: old.digest });
}

#[test]
fn an_active_bundle_that_fails_to_load_is_loaded_again() {
    let (mut device, _, old, _) = world();
    let lost = Event::ActiveLost {
        digest: old.digest,
        code: FailureCode::LoadFailed,
        detail: "no memory".into(),
    };
    device.running = None;
    device.on(lost).unwrap();
    assert!(device.machine.durable().active.is_some());
    assert!(device.wait().unwrap());
    assert_eq!(device.running, Some(old.digest));
}

#[test]
fn repeated_and_unexpected_events_change_nothing() {
    let (mut device, server, old, new) = world();
    let before = device.disk.durable.clone();
    let desired = server.desired(server.assignment.clone().unwrap());
    send(&mut device, desired);
    let digest = old.digest;
    let detail = String::new();
    for event in [
        Event::Loaded { digest },
        Event::Staged { digest },
        Event::TrialPassed { digest },
        Event::TrialPassed { digest: new.digest },
        Event::TrialFailed { digest, detail },
        Event::ChunkStored { digest, index: 0 },
        Event::Tick,
        Event::Stopping,
        Event::Resumed(drover_agent_core::Stored::default()),
    ] {
        device.on(event).unwrap();
    }
    send(&mut device, Down::Unknown { digest });
    send(&mut device, Down::Resync);
    assert_eq!(device.disk.durable, before);
    assert_eq!(device.refusals(), []);
    assert!(device.machine.counters().ignored >= 8);
    assert_eq!(device.running, Some(old.digest));
}

#[test]
fn state_is_said_again_at_each_connect() {
    let (mut device, _, old, _) = world();
    for _ in 0..2 {
        device.on(Event::Disconnected).unwrap();
        device.up.clear();
        device.on(Event::Connected).unwrap();
        let said: Vec<_> = device.up.iter().collect();
        match said.as_slice() {
            [
                message::Up::Trust(trust),
                message::Up::Hello(hello),
                message::Up::State(state),
            ] => {
                assert_eq!(trust.root_version, 1);
                assert_eq!(trust.installed[0].digest, old.digest);
                assert_eq!(hello.assignment, 1);
                assert_eq!(state.active.as_ref().unwrap().digest, old.digest);
            }
            other => panic!("{other:?}"),
        }
    }
}
