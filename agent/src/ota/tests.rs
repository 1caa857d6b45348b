//! The driver over real journals.

use drover_agent_store::{MemJournal, OutboxQuota};
use drover_trust::fixture::key;
use drover_trust::{Domain, Envelope};
use drover_wire::message::{Body, Event};

use super::*;
use world::{World, bundle, open};

mod trust;
mod world;

#[tokio::test]
async fn an_update_runs_from_assignment_to_commit_and_is_told() {
    let mut world = World::start(Box::new(MemJournal::new(OutboxQuota::default())));
    assert_eq!(world.calls(), [""; 0]);
    let bundle = bundle(1);
    let digest = bundle.digest;
    world.assign(1, bundle);
    world.input(Input::Connected);
    world
        .serve_until("commit", |w| w.is_committed(digest))
        .await;
    world
        .serve_until("an empty outbox", |w| {
            w.snapshot().outbox_records == 0 && w.events().len() == 2
        })
        .await;
    let events = world.events();
    assert!(matches!(&events[0], Event::Started { .. }), "{events:?}");
    assert!(matches!(&events[1], Event::Activated(r) if r.digest == digest));
    let id = format!("{:02x}", digest[0]);
    let wanted = ["candidate", "trial", "activate"].map(|call| format!("{call} {id}"));
    world
        .serve_until("activation", |w| w.calls() == wanted)
        .await;
    world.stop();
}

#[tokio::test]
async fn after_a_restart_what_is_committed_runs_before_any_network() {
    let folder = tempfile::tempdir().unwrap();
    let first = bundle(1);
    let digest = first.digest;
    let mut world = World::start(open(folder.path()));
    world.assign(1, first);
    world.input(Input::Connected);
    world
        .serve_until("commit", |w| w.is_committed(digest))
        .await;
    world.input(Input::Disconnected);
    let disconnected = |w: &World| !w.snapshot().connected;
    world.serve_until("disconnection", disconnected).await;
    world.recorder.record(Body::Profile(vec![1, 2, 3])).unwrap();
    world.stop();
    drop(world);

    let mut world = World::start(open(folder.path()));
    assert_eq!(world.calls(), [format!("committed {:02x}", digest[0])]);
    assert!(world.is_committed(digest));
    // What the earlier start recorded offline arrives under its own number.
    world.input(Input::Connected);
    let profile = |w: &World| {
        let body = Body::Profile(vec![1, 2, 3]);
        w.stored
            .iter()
            .any(|(boot, r)| *boot == 1 && r.body == body)
    };
    world.serve_until("the old profile", profile).await;

    // And the next update replaces it.
    let second = bundle(2);
    let digest = second.digest;
    world.assign(2, second);
    world.input(Input::Connected);
    world
        .serve_until("the second commit", |w| w.is_committed(digest))
        .await;
    world.stop();
}

#[tokio::test]
async fn forged_messages_are_recorded_and_not_followed() {
    let mut world = World::start(Box::new(MemJournal::new(OutboxQuota::default())));
    world.input(Input::Connected);
    let forged = Envelope::signed(vec![1, 2, 3], Domain::Down, &key(99));
    world.input(Input::Message {
        bytes: forged.encode().unwrap(),
        permit: Arc::clone(&world.permits).try_acquire_owned().unwrap(),
    });
    let refused = |w: &World| {
        let refused = |e: &Event| matches!(e, Event::Refused { .. });
        w.events().iter().any(refused)
    };
    world.serve_until("the refusal", refused).await;
    assert_eq!(world.snapshot().counters.refused, 1);
    let returned = |w: &World| w.permits.available_permits() == 1000;
    world.serve_until("the return of permits", returned).await;
    world.stop();
}

#[tokio::test]
async fn records_are_numbered_once_and_flushed_without_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(open(folder.path()));
    let threads: Vec<_> = (0..4u8)
        .map(|n| {
            let recorder = world.recorder.clone();
            std::thread::spawn(move || {
                let record = |_| recorder.record(Body::Profile(vec![n; 8])).unwrap();
                (0..100).map(record).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut numbers: Vec<u64> = threads
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 400);
    world
        .serve_until("all records", |w| w.snapshot().outbox_records >= 401)
        .await;
    world.stop();
    drop(world);

    let mut world = World::start(open(folder.path()));
    world.input(Input::Connected);
    let all = |w: &World| w.stored.iter().filter(|(boot, _)| *boot == 1).count() >= 401;
    world.serve_until("all records", all).await;
    let mut keys: Vec<_> = world.stored.iter().map(|(b, r)| (*b, r.sequence)).collect();
    keys.dedup();
    assert_eq!(keys.len(), world.stored.len(), "a record was sent twice");
    world.stop();
}
