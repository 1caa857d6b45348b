//! Desired state that is refused leaves no trace: the stored bytes are what they were, one
//! security event with the right code is recorded, and the next honest update is accepted.

use drover_agent_core::Event;
use drover_trust::{AssignedBundle, Assignment, Catalog, DeviceId, Role};
use drover_wire::message::{Down, FailureCode};

use crate::world::{
    Bundle, CATALOG_KEY, DAY_S, Device, FLEET_KEY, RELEASE_KEYS, ROOT_KEY, Server, assignment,
    assignment_bytes, catalog, catalog_bytes, committed, deliver, key, set_role, settle,
};

/// One attack: what is altered of an otherwise good instruction.
struct Case {
    what: &'static str,
    code: FailureCode,
    assignment: fn(&mut Assignment),
    catalog: fn(&mut Catalog),
    signers: (u8, u8),
}

fn cases() -> Vec<Case> {
    use FailureCode as F;
    let as_assigned: fn(&mut Assignment) = |_| {};
    let as_listed: fn(&mut Catalog) = |_| {};
    let assigned = |what, code, alter: fn(&mut Assignment)| Case {
        what,
        code,
        assignment: alter,
        catalog: as_listed,
        signers: (FLEET_KEY, CATALOG_KEY),
    };
    let listed = |what, code, alter: fn(&mut Catalog)| Case {
        what,
        code,
        assignment: as_assigned,
        catalog: alter,
        signers: (FLEET_KEY, CATALOG_KEY),
    };
    let signed = |what, assignment, catalog| Case {
        what,
        code: F::SignatureInvalid,
        assignment: as_assigned,
        catalog: as_listed,
        signers: (assignment, catalog),
    };
    vec![
        listed("an ended catalog", F::Frozen, |c| c.expires_unix_s = 1999),
        listed("an older catalog", F::Rollback, |c| c.version = 1),
        listed("catalog version 0", F::Rollback, |c| c.version = 0),
        listed("a second catalog of one version", F::Rollback, |c| {
            c.version -= 1;
            c.issued_unix_s += 1;
        }),
        listed("a release went missing", F::Rollback, |c| {
            c.releases.retain(|r| r.name != "fan");
        }),
        listed("another fleet's catalog", F::WrongRecipient, |c| {
            c.fleet = "other".into();
        }),
        listed("not listed", F::Unlisted, |c| {
            c.releases.retain(|r| r.counter != 3);
        }),
        listed("listed with another digest", F::Unlisted, |c| {
            c.releases[2].digest[0] ^= 1;
        }),
        listed("listed with another epoch", F::Unlisted, |c| {
            c.releases[2].epoch += 1;
        }),
        listed("listed with another size", F::Unlisted, |c| {
            c.releases[2].total_bytes += 1;
        }),
        assigned("assigned with another counter", F::Unlisted, |a| {
            a.bundles[0].counter += 1;
        }),
        assigned("a catalog that is yet to come", F::Rollback, |a| {
            a.catalog_version = u64::MAX;
        }),
        assigned("an ended assignment", F::Expired, |a| {
            a.expires_unix_s = 1999
        }),
        assigned("the same sequence", F::Rollback, |a| a.sequence = 1),
        assigned("an older sequence", F::Rollback, |a| a.sequence = 0),
        assigned("another device", F::WrongRecipient, |a| {
            a.device = DeviceId::of(&key(31).public());
        }),
        assigned("another device's stop", F::WrongRecipient, |a| {
            a.device = DeviceId::of(&key(31).public());
            a.bundles.clear();
        }),
        assigned("another fleet's assignment", F::WrongRecipient, |a| {
            a.fleet = "other".into();
        }),
        signed("an assignment by the catalog key", CATALOG_KEY, CATALOG_KEY),
        signed("a catalog by the fleet key", FLEET_KEY, FLEET_KEY),
        signed("a catalog by a release key", FLEET_KEY, RELEASE_KEYS[0]),
        signed("an assignment by nobody known", 99, CATALOG_KEY),
    ]
}

/// A device that runs release 1, and its server.
fn world() -> (Device, Server) {
    committed(&Bundle::new(1, &RELEASE_KEYS))
}

fn recovers(device: &mut Device, server: &mut Server, what: &str) {
    for bundle in &instruction(server).1.releases {
        // What a device has seen listed stays listed.
        server.list(AssignedBundle {
            name: bundle.name.clone(),
            digest: bundle.digest,
            counter: bundle.counter,
            total_bytes: bundle.total_bytes,
            epoch: bundle.epoch,
        });
    }
    let honest = Bundle::new(50, &RELEASE_KEYS);
    device.signed.insert(honest.digest);
    server.assign(1000, &honest);
    device.on(Event::Disconnected).unwrap();
    settle(device, server).unwrap();
    assert_eq!(device.running, Some(honest.digest), "after {what}");
}

/// The good instruction of which the cases are made, and its catalog.
fn instruction(server: &Server) -> (Assignment, Catalog) {
    let mut bundles = [1, 2, 3].map(|counter| Bundle::new(counter, &RELEASE_KEYS).assigned());
    bundles[1].name = "fan".into();
    let version = (server.catalog_version + 1) * 1_000_000;
    let assigned = assignment(2, vec![bundles[2].clone()]);
    (assigned, catalog(version, 2000, &bundles))
}

#[test]
fn what_is_refused_leaves_no_trace() {
    for case in cases() {
        let (mut device, mut server) = world();
        let (mut assignment, mut catalog) = instruction(&server);
        // The catalog before it, which lists another model and not yet what is assigned.
        let mut first = catalog.clone();
        first.releases.retain(|r| r.counter != 3);
        let first = Down::Desired {
            assignment: server.assignment.clone().unwrap(),
            catalog: catalog_bytes(&first, CATALOG_KEY),
        };
        deliver(&mut device, server.message(first)).unwrap();
        catalog.version += 1;
        server.catalog_version += 2;
        let before = device.disk.durable.clone();
        let counted = device.machine.counters().refused;

        (case.assignment)(&mut assignment);
        (case.catalog)(&mut catalog);
        let hostile = Down::Desired {
            assignment: assignment_bytes(&assignment, case.signers.0),
            catalog: catalog_bytes(&catalog, case.signers.1),
        };
        deliver(&mut device, server.message(hostile)).unwrap();
        assert_eq!(device.refusals(), [case.code], "{}", case.what);
        assert_eq!(device.disk.durable, before, "{} left a trace", case.what);
        assert_eq!(device.machine.counters().refused, counted + 1);
        let told = device.machine.trust(device.now_ms).refused;
        assert_eq!(told, [(case.code, 1)], "{}", case.what);
        recovers(&mut device, &mut server, case.what);
    }
}

#[test]
fn an_assignment_without_a_catalog_is_refused() {
    let (mut device, mut server) = world();
    let (assignment, _) = instruction(&server);
    let before = device.disk.durable.clone();
    let envelope = assignment_bytes(&assignment, FLEET_KEY);
    deliver(&mut device, server.message(Down::Assignment { envelope })).unwrap();
    assert_eq!(device.refusals(), [FailureCode::Unlisted]);
    assert_eq!(device.disk.durable, before);
    recovers(&mut device, &mut server, "an assignment without a catalog");
}

#[test]
fn nothing_is_accepted_under_a_root_that_ended() {
    let (mut device, mut server) = world();
    server.rotate(&[ROOT_KEY], |root| root.expires_unix_s = 1999);
    let bytes = server.chain();
    device.on(Event::Roots { bytes }).unwrap();
    let before = device.disk.durable.clone();
    let (assignment, catalog) = instruction(&server);
    let desired = Down::Desired {
        assignment: assignment_bytes(&assignment, FLEET_KEY),
        catalog: catalog_bytes(&catalog, CATALOG_KEY),
    };
    deliver(&mut device, server.message(desired)).unwrap();
    assert_eq!(device.refusals(), [FailureCode::Frozen]);
    assert_eq!(device.disk.durable, before);
    server.rotate(&[ROOT_KEY], |root| {
        root.expires_unix_s = 5000 * DAY_S;
        set_role(root, Role::Fleet, 1, &[FLEET_KEY]);
    });
    recovers(&mut device, &mut server, "an ended root");
}

#[test]
fn an_instruction_that_is_known_brings_newer_catalogs_along() {
    let (mut device, mut server) = world();
    let (_, catalog) = instruction(&server);
    device.up.clear();
    let known = |catalog: &Catalog, server: &Server| Down::Desired {
        assignment: server.assignment.clone().unwrap(),
        catalog: catalog_bytes(catalog, CATALOG_KEY),
    };
    let message = server.message(known(&catalog, &server));
    deliver(&mut device, message.clone()).unwrap();
    assert_eq!(device.machine.durable().catalog.version, catalog.version);
    // Once more, and nothing is written or said but the state.
    let before = device.disk.durable.clone();
    deliver(&mut device, message).unwrap();
    assert_eq!(device.disk.durable, before);
    let mut older = catalog.clone();
    older.version -= 1;
    deliver(&mut device, server.message(known(&older, &server))).unwrap();
    assert_eq!(device.refusals(), [FailureCode::Rollback]);
    assert_eq!(device.disk.durable, before);
    server.catalog_version += 2;
    recovers(&mut device, &mut server, "a newer catalog");
}
