//! A fake device and a running server over the real embedded broker: from enrolment to
//! acknowledged observations, with duplicates, forgeries and a broker that goes away.

use drover_api::{CreateRollout, DeviceStatus, Level, RolloutState, Stage, Strategy};
use drover_bundle::VerifiedManifest;
use drover_wire::message::{Ack, Batch, Body, Phase, Record, Up};
use sha2::{Digest as _, Sha256};

use crate::device::{Device, batch};
use crate::mosquitto;
use crate::support::{Fleet, Member, auto, baseline, key, signed_bundle, wave};

pub(crate) fn everyone() -> CreateRollout {
    CreateRollout {
        release: "pump".into(),
        selector: drover_api::Selector::default(),
        strategy: Strategy::AllAtOnce,
        policy: drover_api::Policy::default(),
        approval: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_reaches_devices_in_stages() {
    roll_out_in_stages(Fleet::start().await).await;
}

/// The same with the broker that production uses.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_reaches_devices_over_mosquitto() {
    let Some((fleet, _mosquitto)) = mosquitto::fleet().await else {
        println!("skipped: mosquitto is not installed");
        return;
    };
    roll_out_in_stages(fleet).await;
}

async fn roll_out_in_stages(mut fleet: Fleet) {
    fleet
        .until("the link", |c| c.broker().unwrap(), |b| b.connected)
        .await;
    let mut first = Device::enrol(&fleet, 30).await;
    let mut second = Device::enrol(&fleet, 31).await;
    first.hello(0).await;
    second.hello(0).await;
    let container = signed_bundle(1).encode().unwrap();
    fleet
        .operate(move |c| c.publish_release(&container))
        .await
        .unwrap();
    let request = CreateRollout {
        strategy: Strategy::Staged {
            stages: vec![Stage::Count(1)],
        },
        ..everyone()
    };
    let rollout = fleet
        .operate(move |c| c.create_rollout(&request))
        .await
        .unwrap();
    assert_eq!((rollout.counts.total, rollout.stages.len()), (2, 2));

    // The canary is whoever is first in the stable order.
    let canary_is_first = rollout.devices[0].device == first.id.as_str();
    let (canary, other) = if canary_is_first {
        (&mut first, &mut second)
    } else {
        (&mut second, &mut first)
    };
    let assignment = canary.assignment(0).await;
    assert_eq!(
        (assignment.sequence, assignment.rollout.as_str()),
        (1, "r1")
    );
    canary.update(&assignment).await;
    let assignment = other.assignment(0).await;
    other.update(&assignment).await;
    let done = fleet
        .until(
            "completion",
            |c| c.rollout("r1").unwrap(),
            |r| r.state == RolloutState::Completed,
        )
        .await;
    assert_eq!(done.counts.committed, 2);
    assert_eq!(done.sent_bytes, 2 * done.bundle_bytes);

    // A late message cannot undo a success.
    let digest = assignment.bundles[0].digest;
    other.phase(1, Phase::Trial { digest }).await;
    other.say(batch([1])).await;
    other.ack().await;
    let status = fleet.operate(|c| c.rollout("r1")).await.unwrap();
    let status = status.devices.into_iter().map(|d| d.status);
    assert!(status.into_iter().all(|s| s == DeviceStatus::Committed));

    // A device that knows more than the server gets an assignment above what it knows.
    other.hello(7).await;
    let renewed = other.assignment(7).await;
    assert_eq!((renewed.sequence, renewed.rollout.as_str()), (8, "r1"));

    // A device that comes later gets the current target.
    let mut late = Device::enrol(&fleet, 32).await;
    late.hello(0).await;
    let assignment = late.assignment(0).await;
    assert_eq!(assignment.bundles[0].digest, digest);
    late.update(&assignment).await;
    fleet
        .until(
            "the late device's commit",
            |c| c.rollout("r1").unwrap().counts,
            |counts| counts.committed == 3,
        )
        .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_acknowledged_once_they_are_safe_and_counted_once() {
    let mut fleet = Fleet::start().await;
    let mut device = Device::enrol(&fleet, 30).await;
    device.say(batch([1, 2, 3])).await;
    let wanted = Ack {
        boot: 1,
        ranges: vec![(1, 3)],
    };
    assert_eq!(device.ack().await, wanted);
    // The ack was lost, and the batch comes again.
    device.say(batch([1, 2, 3])).await;
    assert_eq!(device.ack().await, wanted);
    // Somebody who has the password but not the key.
    device.say_signed(batch([9]), &key(99)).await;
    device.say(batch([5])).await;
    let ack = device.ack().await;
    assert_eq!(ack.ranges, [(5, 5)]);
    let events = fleet.operate(|c| c.events(None, 1)).await.unwrap();
    assert_eq!(events[0].kind, "message-refused");
    let summary = fleet.operate(|c| c.observation_summaries()).await.unwrap();
    assert_eq!((summary[0].observations, summary[0].duplicates), (4, 3));

    // The server is gone for a while; what it had is there when it comes back.
    fleet.stop().await;
    fleet.server = Some(drover_server::start(fleet.config.clone()).await.unwrap());
    let status = fleet.operate(|c| c.status()).await.unwrap();
    assert_eq!((status.observations, status.devices), (4, 1));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_costs_nothing() {
    let mut fleet = Fleet::start().await;
    let mut device = Device::enrol(&fleet, 30).await;
    device.hello(0).await;
    device.say(batch([1])).await;
    device.ack().await;

    let stopped = fleet.operate(|c| c.stop_broker()).await.unwrap();
    assert!(!stopped.running && !stopped.connected);
    // While it is away a rollout begins.
    let container = signed_bundle(1).encode().unwrap();
    fleet
        .operate(move |c| c.publish_release(&container))
        .await
        .unwrap();
    fleet
        .operate(|c| c.create_rollout(&everyone()))
        .await
        .unwrap();
    fleet
        .until(
            "assignment",
            |c| c.rollout("r1").unwrap().counts,
            |counts| counts.updating == 1,
        )
        .await;

    let started = fleet.operate(|c| c.start_broker()).await.unwrap();
    assert_eq!((started.running, &started.addr), (true, &stopped.addr));
    device.connected().await;
    // Whether the server asks first or the device greets first, both agree in the end.
    fleet
        .until(
            "the server's link",
            |c| c.broker().unwrap(),
            |b| b.connected,
        )
        .await;
    device.hello(0).await;
    let assignment = device.assignment(0).await;
    device.update(&assignment).await;
    device.say(batch([1, 2])).await;
    assert_eq!(device.ack().await.ranges, [(1, 2)]);
    let done = fleet
        .until(
            "completion",
            |c| c.rollout("r1").unwrap(),
            |r| r.state == RolloutState::Completed,
        )
        .await;
    assert_eq!(done.counts.committed, 1);
    let summary = fleet.operate(|c| c.observation_summaries()).await.unwrap();
    assert_eq!(summary[0].observations, 2);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_waits_outside_until_it_is_approved() {
    let fleet = Fleet::start().await;
    let request = drover_api::CreateTokens {
        approval: drover_api::Approval::Manual,
        ..auto(1)
    };
    let token = fleet.tokens(request).await.remove(0);
    let member = fleet.claim(30, &token).await;
    assert!(member.access.certificate.is_empty());
    assert!(fleet.renew(&member).await.unwrap().certificate.is_empty());
    let waiting = fleet.operate(|c| c.device("device-30")).await.unwrap();
    assert!(!waiting.approved);
    fleet
        .operate(|c| c.approve_device("device-30"))
        .await
        .unwrap();
    let access = fleet.renew(&member).await.unwrap();
    let mut device = Device::of(&fleet, Member { access, ..member });
    device.connected().await;
    device.say(batch([1])).await;
    device.ack().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_shows_on_the_device_that_has_it() {
    let fleet = Fleet::start().await;
    let mut steady = Device::enrol(&fleet, 30).await;
    let mut moved = Device::enrol(&fleet, 31).await;
    let container = signed_bundle(1);
    let verified = VerifiedManifest::open(&container.envelope, &fleet.root).unwrap();
    let bytes = container.encode().unwrap();
    fleet
        .operate(move |c| c.publish_release(&bytes))
        .await
        .unwrap();
    assert!(fleet.operate(|c| c.drift()).await.unwrap().is_empty());
    for (device, offset) in [(&mut steady, 0.0), (&mut moved, 0.4)] {
        let body = Body::Profile(profile(*verified.digest(), offset));
        device
            .say(Up::Batch(Batch {
                boot: 1,
                records: vec![Record {
                    sequence: 1,
                    unix_ms: 1,
                    body,
                }],
            }))
            .await;
        device.ack().await;
    }
    let drift = fleet.operate(|c| c.drift()).await.unwrap().remove(0);
    assert_eq!((drift.model.as_str(), drift.devices.len()), ("pump", 2));
    let level = |device: &Device| {
        let mut devices = drift.devices.iter();
        devices
            .find(|d| d.device == device.id.as_str())
            .unwrap()
            .level
    };
    assert_eq!(level(&steady), Level::Stable, "{drift:#?}");
    assert_eq!(level(&moved), Level::Alarm, "{drift:#?}");
    let stats = fleet.operate(|c| c.data_stats()).await.unwrap();
    assert!(stats.iter().all(|s| s.profiles == 1 && s.records == 1));
}

/// An encoded profile of a sensor whose values lie higher by `offset`.
fn profile(bundle: [u8; 32], offset: f32) -> Vec<u8> {
    let baseline = baseline();
    let schema = Sha256::digest(baseline.encode().unwrap()).into();
    let mut sketcher = drover_sketch::Sketcher::new(&baseline, schema, bundle, 1_000_000);
    for n in 0..4000 {
        sketcher.observe(0, wave(n) + offset).unwrap();
        sketcher.count_window();
    }
    sketcher.close(1_060_000).encode().unwrap()
}
