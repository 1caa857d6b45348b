//! A device whose agent is replaced by this one in the midst of an update: its stored state,
//! its assignment and its bundles are of the first formats.

use std::collections::BTreeMap;

use drover_agent_core::{Event, Progress, Quarantine};
use drover_trust::{Domain, Envelope};
use drover_wire::message::{Digest, Phase, Running};

use crate::world::{
    Bundle, Device, FLEET_KEY, Fate, MODEL, RELEASE_KEYS, Server, device_id, key, reconnect, settle,
};

/// Format 1 of an assignment, field by field.
fn assignment(sequence: u64, bundle: &Bundle) -> Vec<u8> {
    let assigned = bundle.assigned();
    let bundles = vec![(
        assigned.name,
        assigned.digest,
        assigned.counter,
        assigned.total_bytes,
    )];
    let fields = (
        "test",
        device_id(),
        sequence,
        [7u8; 16],
        "r",
        bundles,
        1500u64,
        9000u64,
    );
    let payload = postcard::to_extend(&fields, vec![1]).unwrap();
    let envelope = Envelope::signed(payload, Domain::Assignment, &key(FLEET_KEY));
    envelope.encode().unwrap()
}

/// Format 1 of the durable state, field by field.
fn durable(active: &Bundle, candidate: &Bundle, progress: Progress) -> Vec<u8> {
    let running = Running {
        name: MODEL.into(),
        version: active.manifest.version.clone(),
        digest: active.digest,
        counter: active.manifest.counter,
    };
    let candidate_fields = (
        candidate.digest,
        MODEL,
        candidate.manifest.counter,
        candidate.manifest.total_bytes(),
        "",
        progress,
    );
    let fields = (
        5u64,
        Some(assignment(5, candidate)),
        Some(running),
        None::<Running>,
        Some(candidate_fields),
        None::<u8>,
        BTreeMap::from([(MODEL, active.manifest.counter)]),
        BTreeMap::<Digest, Quarantine>::new(),
        1800u64,
    );
    postcard::to_extend(&fields, vec![1]).unwrap()
}

#[test]
fn an_update_under_way_goes_on_under_the_new_agent() {
    for progress in [Progress::Fetching, Progress::Loading, Progress::Trial] {
        let of_old = |counter| Bundle::altered(counter, &RELEASE_KEYS, |m| m.epoch = 0);
        let (old, new) = (of_old(1), of_old(2));
        let mut device = Device::new();
        device.signed.extend([old.digest, new.digest]);
        device.disk.durable = Some(durable(&old, &new, progress));
        device.disk.files.insert(old.digest);
        if progress != Progress::Fetching {
            device.disk.files.insert(new.digest);
            let manifest = new.envelope.clone();
            device.disk.manifests.insert(new.digest, manifest);
        }
        device.fate = Fate::Hangs;
        device.restart(true).unwrap();
        assert_eq!(device.running, Some(old.digest), "{progress:?}");
        assert_eq!(device.machine.durable().time_floor_s, 1800);
        assert_eq!(device.machine.durable().floor(MODEL), 1);

        device.fate = Fate::Good;
        let mut server = Server::default();
        server.bundles.push(new.clone());
        if progress == Progress::Fetching {
            settle(&mut device, &server).unwrap();
        } else {
            let digest = new.digest;
            device.on(Event::TrialPassed { digest }).unwrap();
        }
        let digest = new.digest;
        assert_eq!(device.phase(), Phase::Committed { digest }, "{progress:?}");

        // From here on with catalogs and epochs; the sequence goes on.
        let next = Bundle::new(3, &RELEASE_KEYS);
        device.signed.insert(next.digest);
        server.assign(5, &next);
        reconnect(&mut device, &server);
        assert_eq!(device.running, Some(new.digest), "sequence 5 was accepted");
        server.assign(6, &next);
        reconnect(&mut device, &server);
        assert_eq!(device.running, Some(next.digest), "{progress:?}");
        assert_eq!(device.machine.durable().epoch_floor, 1);
    }
}
