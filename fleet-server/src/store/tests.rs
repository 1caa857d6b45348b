//! The contract of the store, whatever database is behind it.

use std::collections::BTreeMap;

use drover_api::{DeviceStatus, Policy, Release, RolloutState, Selector, Strategy};
use drover_trust::{AssignedBundle, PublicKey};
use drover_wire::message::{Batch, Body, Event, Hello, Observation, Record, Verdict};

use super::*;
use crate::ServerError;

struct Fixture {
    store: Store,
    dir: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db"), "test").await.unwrap();
    Fixture { store, dir }
}

fn claim(id: &str) -> Claim {
    Claim {
        id: id.into(),
        k: [7; 32],
        expires_unix_s: 1000,
        auto_approve: true,
        rule: None,
        labels: BTreeMap::from([("site".into(), "token".into())]),
        for_device: None,
    }
}

/// What the audit log is to say of any change.
fn entry() -> NewEntry {
    NewEntry {
        who: "alice".into(),
        role: drover_api::OperatorRole::Admin,
        how: "token t".into(),
        what: "test",
        object: String::new(),
        detail: String::new(),
        reason: String::new(),
    }
}

fn device(id: &str) -> NewDevice {
    NewDevice {
        id: id.into(),
        public_key: PublicKey([1; 32]),
        nonce: [2; 16],
        exchange_key: [2; 32],
        name: format!("name-{id}"),
        hardware: String::new(),
        labels: BTreeMap::from([("site".into(), "device".into())]),
        arch: "x86_64".into(),
        agent_version: "1".into(),
        now_unix_s: 500,
    }
}

async fn enrol(store: &Store, id: &str) {
    let claim = claim(&format!("claim-{id}"));
    store
        .add_claims(std::slice::from_ref(&claim), &entry())
        .await
        .unwrap();
    store.use_claim(&claim, &device(id), true).await.unwrap();
}

fn release(counter: u64) -> ReleaseRow {
    let digest = [u8::try_from(counter).unwrap(); 32];
    ReleaseRow {
        digest,
        envelope: vec![1],
        payload_offset: 10,
        chunk_bytes: 4096,
        summary: Release {
            name: "pump".into(),
            version: format!("1.{counter}"),
            digest: data_encoding::HEXLOWER.encode(&digest),
            counter,
            epoch: 3,
            description: String::new(),
            total_bytes: 100,
            chunks: 1,
            arch: vec![],
            files: vec![],
            lineage: Default::default(),
            components: vec![],
            created_unix_s: 1,
            published_unix_s: 2,
            sent_bytes: 0,
            confidential: false,
        },
    }
}

fn rollout(release: &ReleaseRow, devices: &[&str]) -> NewRollout {
    NewRollout {
        digest: release.digest,
        name: "pump".into(),
        selector: Selector::default(),
        strategy: Strategy::AllAtOnce,
        policy: Policy::default(),
        members: devices.iter().map(|d| ((*d).into(), 1)).collect(),
        created_by: "alice".into(),
        waits: false,
    }
}

fn bundle(release: &ReleaseRow) -> AssignedBundle {
    AssignedBundle {
        name: "pump".into(),
        digest: release.digest,
        counter: release.summary.counter,
        total_bytes: 100,
        epoch: release.summary.epoch,
    }
}

fn observation(sequence: u64) -> Record {
    Record {
        sequence,
        unix_ms: 1000 + sequence,
        body: Body::Observation(Observation {
            model: [1; 32],
            window: sequence - 1,
            score: 0.5,
            decision: Verdict::Anomalous,
            latency_us: 9,
            input: vec![1.0, 2.0],
            output: vec![],
        }),
    }
}

fn upload(boot: u64, records: Vec<Record>) -> Upload {
    Upload {
        device: "d1".into(),
        batch: Batch { boot, records },
    }
}

#[tokio::test]
async fn a_record_is_stored_once_however_often_it_comes() {
    let Fixture { store, dir: _dir } = fixture().await;
    enrol(&store, "d1").await;
    let event = Record {
        sequence: 3,
        unix_ms: 1,
        body: Body::Event(Event::Evicted { records: 4 }),
    };
    let batch = upload(u64::MAX, vec![observation(1), observation(2), event]);
    let first = store.ingest(std::slice::from_ref(&batch)).await.unwrap();
    assert_eq!((first.stored, first.duplicates), (3, 0));
    // The same batch twice in one transaction, with one new record.
    let more = upload(u64::MAX, vec![observation(2), observation(4)]);
    let again = store.ingest(&[batch, more]).await.unwrap();
    assert_eq!((again.stored, again.duplicates), (1, 4));
    // Another start of the agent counts anew.
    let other = store
        .ingest(&[upload(1, vec![observation(1)])])
        .await
        .unwrap();
    assert_eq!(other.stored, 1);

    let observations = store.observations(Some("d1"), 10).await.unwrap();
    assert_eq!(observations.len(), 4);
    assert_eq!(observations[1].boot, u64::MAX);
    assert_eq!(observations[1].window, 3);
    let summary = store.observation_summaries().await.unwrap().remove(0);
    assert_eq!(
        (summary.observations, summary.anomalous, summary.duplicates),
        (4, 4, 4)
    );
    assert_eq!((summary.boots, summary.last_scores.len()), (2, 4));
    let span = (summary.first_unix_ms, summary.last_unix_ms);
    assert_eq!(span, (Some(1001), Some(1004)));
    let stats = store.boot_stats().await.unwrap().remove(0);
    assert_eq!((stats.boot, stats.records, stats.events), (u64::MAX, 4, 1));
    assert_eq!((stats.first_sequence, stats.last_sequence), (1, 4));
    assert_eq!(stats.duplicates, 4);
    assert_eq!(store.observation_count().await.unwrap(), 4);
    assert_eq!(store.events(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_stored_survives_and_belongs_to_one_fleet() {
    let Fixture { store, dir } = fixture().await;
    enrol(&store, "d1").await;
    store
        .ingest(&[upload(1, vec![observation(1)])])
        .await
        .unwrap();
    store.close().await;
    let path = dir.path().join("db");
    let store = Store::open(&path, "test").await.unwrap();
    assert_eq!(store.observation_count().await.unwrap(), 1);
    store.close().await;
    let error = Store::open(&path, "other").await.unwrap_err();
    assert!(matches!(error, ServerError::Fleet { .. }), "{error}");
}

#[tokio::test]
async fn a_claim_is_for_one_device() {
    let Fixture { store, dir: _dir } = fixture().await;
    let claim = claim("c");
    store
        .add_claims(std::slice::from_ref(&claim), &entry())
        .await
        .unwrap();
    let used = async |id: &str, now| {
        let mut device = device(id);
        device.now_unix_s = now;
        store.use_claim(&claim, &device, true).await.unwrap()
    };
    assert_eq!(used("d1", 1001).await, ClaimOutcome::Expired);
    let enrolled = ClaimOutcome::Enrolled { approved: true };
    assert_eq!(used("d1", 999).await, enrolled);
    let taken = ClaimOutcome::Taken { by: "d1".into() };
    assert_eq!(used("d2", 999).await, taken);
    // Played again by whoever: answered, and nothing changes.
    let again = ClaimOutcome::Repeated { approved: true };
    assert_eq!(used("d1", 2000).await, again);
    // The answer was lost, and by now the claim has expired.
    let mut anew = device("d1");
    (anew.nonce, anew.now_unix_s) = ([9; 16], 2000);
    let used = store.use_claim(&claim, &anew, true).await.unwrap();
    assert_eq!(used, enrolled);
    let devices = store.devices().await.unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].labels["site"], "token");
}

#[tokio::test]
async fn a_late_hello_says_nothing() {
    let Fixture { store, dir: _dir } = fixture().await;
    enrol(&store, "d1").await;
    let hello = |boot, version: &str| Hello {
        boot,
        agent_version: version.into(),
        arch: "arm".into(),
        memory_bytes: 5,
        assignment: boot,
    };
    assert!(store.hello("d1", &hello(2, "new")).await.unwrap());
    assert!(!store.hello("d1", &hello(1, "old")).await.unwrap());
    let device = store.devices().await.unwrap().remove(0);
    assert_eq!(
        (device.agent_version.as_str(), device.assignment_accepted),
        ("new", 2)
    );
}

#[tokio::test]
async fn counters_of_a_name_only_grow() {
    let Fixture { store, dir: _dir } = fixture().await;
    assert_eq!(
        store.add_release(&release(2), &entry()).await.unwrap(),
        Published::New
    );
    assert_eq!(
        store.add_release(&release(2), &entry()).await.unwrap(),
        Published::Same
    );
    let behind = Published::Behind {
        counter: 2,
        version: "1.2".into(),
    };
    assert_eq!(
        store.add_release(&release(1), &entry()).await.unwrap(),
        behind
    );
    store.add_sent_bytes(&[2; 32], 50).await.unwrap();
    let read = store.release(&[2; 32]).await.unwrap().unwrap();
    assert_eq!((read.summary.sent_bytes, read.payload_offset), (50, 10));
    assert_eq!(store.releases().await.unwrap().len(), 1);
}

#[tokio::test]
async fn sequences_only_grow_and_newer_rollouts_take_devices_over() {
    let Fixture { store, dir: _dir } = fixture().await;
    for id in ["d1", "d2"] {
        enrol(&store, id).await;
    }
    let (old, new) = (release(1), release(2));
    store.add_release(&old, &entry()).await.unwrap();
    store.add_release(&new, &entry()).await.unwrap();
    let first = store
        .add_rollout(&rollout(&old, &["d1", "d2"]), entry())
        .await
        .unwrap();
    let sign = |sequence: u64, bundles: Vec<AssignedBundle>| {
        Ok((vec![u8::try_from(sequence).unwrap()], bundles[0].counter))
    };
    let assigned = store
        .assign(first, "d1", &bundle(&old), sign)
        .await
        .unwrap();
    assert_eq!((assigned.sequence, assigned.expires_unix_s), (1, 1));

    let second = store
        .add_rollout(&rollout(&new, &["d1", "d2"]), entry())
        .await
        .unwrap();
    let status = async |rollout| {
        let members = store.members(rollout).await.unwrap();
        members.into_iter().map(|m| m.status).collect::<Vec<_>>()
    };
    use DeviceStatus::{Assigned, Pending, Superseded};
    assert_eq!(status(first).await, [Assigned, Superseded]);
    let assigned = store
        .assign(second, "d1", &bundle(&new), sign)
        .await
        .unwrap();
    assert_eq!((assigned.sequence, assigned.expires_unix_s), (2, 2));
    assert_eq!(status(first).await, [Superseded, Superseded]);
    assert_eq!(status(second).await, [Assigned, Pending]);
    assert_eq!(store.assignment("d1").await.unwrap(), Some(assigned));
    assert_eq!(store.assignment("d2").await.unwrap(), None);

    // The device knows a sequence that this server has lost.
    let above = store.reassign("d1", 9, sign).await.unwrap();
    assert_eq!(above.sequence, 10);
    // A failure to sign leaves nothing.
    let failed = store
        .assign(second, "d2", &bundle(&new), |_, _| Err(ServerError::Encode))
        .await;
    assert!(failed.is_err());
    assert_eq!(store.assignment("d2").await.unwrap(), None);
    assert_eq!(status(second).await, [Assigned, Pending]);

    // Reports count from the assignment that the rollout made.
    let digest = new.digest;
    assert!(
        store
            .memberships("d1", &digest, 1)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.memberships("d1", &digest, 2).await.unwrap().len(), 1);
    let done = RolloutState::Completed;
    store.set_rollout_state(second, done, None).await.unwrap();
    let row = store.rollout(second).await.unwrap().unwrap();
    assert!(row.state == done && row.completed_unix_ms.is_some());
}

#[tokio::test]
async fn a_database_of_a_newer_server_is_left_alone() {
    let Fixture { store, dir } = fixture().await;
    sqlx::raw_sql("PRAGMA user_version = 99")
        .execute(&store.writer)
        .await
        .unwrap();
    store.close().await;
    let error = Store::open(&dir.path().join("db"), "test")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("newer server"), "{error}");
}

#[tokio::test]
async fn the_audit_log_is_only_added_to() {
    let Fixture { store, dir: _dir } = fixture().await;
    enrol(&store, "d1").await;
    for object in ["a", "b"] {
        store
            .add_audit(&entry().about(object.into()))
            .await
            .unwrap();
    }
    for sql in [
        "UPDATE audit SET who = 'bob'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT 1, unix_ms, 'bob', role, how, what, object, detail,
         reason, previous, hash FROM audit WHERE number = 1",
    ] {
        let done = sqlx::raw_sql(sql).execute(&store.writer).await;
        assert!(done.is_err(), "{sql}");
    }
    let entries = store.audit(0, 10).await.unwrap();
    let mut chain = drover_api::audit::AuditChain::default();
    entries.iter().for_each(|e| chain.push(e).unwrap());
    assert_eq!(entries.len(), 3);
    let (number, hash) = store.audit_end().await.unwrap();
    assert_eq!((number, &hash), (3, &entries[2].hash));
    assert_eq!(store.audit(1, 1).await.unwrap(), entries[1..2]);
}

#[tokio::test]
async fn a_change_that_fails_leaves_no_entry() {
    let Fixture { store, dir: _dir } = fixture().await;
    store.add_release(&release(2), &entry()).await.unwrap();
    store.add_release(&release(1), &entry()).await.unwrap();
    assert!(!store.approve("nobody", &entry()).await.unwrap());
    assert_eq!(store.audit_end().await.unwrap().0, 1);
}

#[tokio::test]
async fn an_approved_rollout_takes_devices_over_only_then() {
    let Fixture { store, dir: _dir } = fixture().await;
    enrol(&store, "d1").await;
    let (old, new) = (release(1), release(2));
    store.add_release(&old, &entry()).await.unwrap();
    store.add_release(&new, &entry()).await.unwrap();
    let first = rollout(&old, &["d1"]);
    let first = store.add_rollout(&first, entry()).await.unwrap();
    let waiting = |release| NewRollout {
        waits: true,
        ..rollout(release, &["d1"])
    };
    let second = store.add_rollout(&waiting(&new), entry()).await.unwrap();
    let third = store.add_rollout(&waiting(&new), entry()).await.unwrap();
    let status = async |rollout| store.members(rollout).await.unwrap().remove(0).status;
    assert_eq!(status(first).await, DeviceStatus::Pending);
    assert_eq!(store.open_rollouts().await.unwrap().len(), 1);

    let approve = async |rollout| {
        let row = store.rollout(rollout).await.unwrap().unwrap();
        store.approve_rollout(&row, "bob", &entry()).await.unwrap()
    };
    assert_eq!(approve(third).await, Approved::Begins);
    assert_eq!(status(first).await, DeviceStatus::Superseded);
    let row = store.rollout(third).await.unwrap().unwrap();
    assert_eq!(row.approved_by.as_deref(), Some("bob"));
    assert_eq!(row.state, RolloutState::Active);
    // Twice changes nothing, and an older one does not take devices back.
    assert_eq!(approve(third).await, Approved::NotWaiting);
    assert_eq!(approve(second).await, Approved::Overtaken { by: third });
}

mod trust;
