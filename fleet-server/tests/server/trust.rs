//! What devices trust, and what the server believes of them: replays, clones, rotations,
//! fresh catalogs and transfers.

use drover_api::{Client, ErrorCode, RolloutState};
use drover_trust::{
    Assignment, Catalog, CatalogMark, DeviceId, Domain, Envelope, Role, RoleKeys, Root,
    TrustedRoot, Voucher, keyfile,
};
use drover_wire::message::{Down, FailureCode, Phase, TrustReport, Up};

use crate::device::{Device, Heard, batch};
use crate::round_trip::everyone;
use crate::support::{Fleet, Member, auto, bundle, enrolment, key, post, signed_bundle};

fn trust(root_version: u64, catalog: (u64, u64), refused: &[(FailureCode, u32)]) -> Up {
    Up::Trust(TrustReport {
        root_version,
        catalog_version: catalog.0,
        catalog_unix_s: catalog.1,
        time_floor_s: 1,
        installed: vec![],
        refused: refused.to_vec(),
    })
}

fn kinds(client: &Client) -> Vec<String> {
    let events = client.events(None, 50).unwrap();
    events.into_iter().map(|e| e.kind).collect()
}

async fn publish(fleet: &Fleet, counter: u64) {
    let bytes = signed_bundle(counter).encode().unwrap();
    let published = fleet.operate(move |c| c.publish_release(&bytes)).await;
    published.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_taken_once_even_across_a_restart() {
    let mut fleet = Fleet::start().await;
    let member = fleet.enrol(30).await;
    let mut device = Device::of(&fleet, member.clone());
    device.connected().await;
    device.hello(0).await;
    device.say(batch([1])).await;
    device.ack().await;
    // Somebody at the broker recorded the hello.
    let hello = device.signed(device.hello_of(0), 1);
    device.publish(hello.clone()).await;
    let seen = |kinds: &Vec<String>| kinds.contains(&"report-replayed".into());
    fleet.until("the replay's event", kinds, seen).await;
    // A message for another device, signed by this one.
    let other = DeviceId::of(&key(31).public());
    let foreign = device.signed_as(other.as_str(), batch([2]), 50);
    device.publish(foreign).await;
    device.say(batch([3])).await;
    assert_eq!(device.ack().await.ranges, [(3, 3)]);

    fleet.stop().await;
    fleet.server = Some(drover_server::start(fleet.config.clone()).await.unwrap());
    let access = fleet.renew(&member).await.unwrap();
    let mut again = Device::of(&fleet, Member { access, ..member });
    again.connected().await;
    let count = |kinds: &Vec<String>| kinds.iter().filter(|k| *k == "report-replayed").count();
    again.publish(hello).await;
    let replays = move |kinds: &Vec<String>| count(kinds) == 2;
    fleet.until("the second replay", kinds, replays).await;
    // The device itself goes on.
    again.counter = 60;
    again.say(batch([4])).await;
    assert_eq!(again.ack().await.ranges, [(4, 4)]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_identity_is_put_out_until_somebody_decides() {
    let fleet = Fleet::start().await;
    let member = fleet.enrol(30).await;
    let mut device = Device::of(&fleet, member.clone());
    device.connected().await;
    device.hello(0).await;
    // The agent starts again, which is no alarm; nor is what came late.
    (device.instance, device.boot, device.counter) = ([2; 16], 2, 0);
    device.hello(0).await;
    device.say(batch([1])).await;
    device.ack().await;
    (device.instance, device.boot, device.counter) = ([1; 16], 1, 10);
    device.say(batch([1])).await;
    // The first instance speaks for itself again: two machines.
    device.hello(0).await;
    let look = |c: &Client| (c.device("device-30").unwrap().quarantined, kinds(c));
    let is_out = |(why, kinds): &(Option<String>, Vec<String>)| {
        why.is_some() && kinds.contains(&"identity-cloned".into())
    };
    fleet.until("quarantine", look, is_out).await;
    assert!(fleet.renew(&member).await.is_none(), "it was let in again");
    publish(&fleet, 1).await;
    let rollout = fleet.operate(|c| c.create_rollout(&everyone())).await;
    assert!(rollout.unwrap().devices.is_empty());

    // The first of them is gone, or it would take the other's session again and again.
    drop(device);
    fleet
        .operate(|c| c.approve_device("device-30"))
        .await
        .unwrap();
    let access = fleet.renew(&member).await.unwrap();
    let mut device = Device::of(&fleet, Member { access, ..member });
    (device.instance, device.boot, device.counter) = ([2; 16], 2, 20);
    device.connected().await;
    device.hello(0).await;
    device.say(batch([2])).await;
    device.ack().await;
    let rollout = fleet.operate(|c| c.create_rollout(&everyone())).await;
    assert_eq!(rollout.unwrap().devices.len(), 1);
    let assignment = device.assignment(0).await;
    assert_eq!(assignment.bundles.len(), 1);
}

/// A root of the test's fleet, with these keys for its online roles.
fn next_root(version: u64, fleet_key: u8, catalog_key: u8) -> Envelope {
    root_of(version, 0, [&[2, 3], &[catalog_key], &[fleet_key]])
}

/// A root of the test's fleet, with these keys for release, catalog and fleet.
fn root_of(version: u64, epoch: u64, [release, catalog, fleet]: [&[u8]; 3]) -> Envelope {
    let role = |role, keys: &[u8]| RoleKeys {
        role,
        threshold: u8::try_from(keys.len()).unwrap(),
        keys: keys.iter().map(|&n| key(n).public()).collect(),
    };
    let root = Root {
        version,
        fleet: "test".into(),
        created_unix_s: version,
        expires_unix_s: u64::MAX,
        epoch,
        roles: vec![
            role(Role::Root, &[1]),
            role(Role::Release, release),
            role(Role::Catalog, catalog),
            role(Role::Fleet, fleet),
        ],
    };
    Envelope::signed(root.encode().unwrap(), Domain::Root, &key(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_reaches_devices_before_anything_that_it_signs() {
    let mut fleet = Fleet::start_with(|config| {
        for (n, role) in [(6, Role::Fleet), (7, Role::Catalog)] {
            let path = config.data_dir.with_file_name(format!("next-{n}.key"));
            std::fs::write(&path, keyfile::format(role, &key(n))).unwrap();
            config.next_keys.push(path);
        }
    })
    .await;
    let mut device = Device::enrol(&fleet, 30).await;
    device.say(trust(1, (0, 0), &[])).await;
    device.hello(0).await;
    publish(&fleet, 1).await;
    fleet
        .operate(|c| c.create_rollout(&everyone()))
        .await
        .unwrap();
    let first = device.assignment(0).await;

    let publish_root = async |envelope: &Envelope| {
        let bytes = envelope.encode().unwrap();
        fleet.operate(move |c| c.publish_root(&bytes)).await
    };
    let stranger = publish_root(&next_root(2, 99, 7)).await.unwrap_err();
    assert_eq!(stranger.code(), Some(ErrorCode::Conflict), "{stranger}");
    let id = key(99).public().id().to_string();
    assert!(stranger.to_string().contains(&id), "{stranger}");
    let skipped = publish_root(&next_root(3, 6, 7)).await.unwrap_err();
    assert!(skipped.to_string().contains("root 2 first"), "{skipped}");

    let second = next_root(2, 6, 7);
    publish_root(&second).await.unwrap();
    // Whatever else came would not verify under the root that the device has, and end this.
    device.hello(u64::MAX).await;
    device.say(batch([1])).await;
    let roots = device.roots().await;
    assert_eq!(roots, [second.encode().unwrap()]);
    device.say(trust(1, (0, 0), &[])).await;
    device.roots().await;
    let chain = roots.iter().map(|bytes| Envelope::decode(bytes).unwrap());
    let (root, stopped) = device.root.walk(chain);
    assert_eq!(stopped, None);
    device.root = root;
    device.say(trust(2, (0, 0), &[])).await;
    device.say(batch([1])).await;
    assert_eq!(device.ack().await.ranges, [(1, 1)]);
    // What the old fleet key signed is made anew with the new one, and counts from 1, however
    // far somebody had pushed the device with the old one.
    device.hello(0).await;
    let renewed = device.assignment(0).await;
    assert_eq!((&renewed.bundles, renewed.sequence), (&first.bundles, 1));
    device.update(&renewed).await;
    fleet
        .until(
            "completion",
            |c| c.rollout("r1").unwrap(),
            |r| r.state == RolloutState::Completed,
        )
        .await;

    fleet.stop().await;
    fleet.server = Some(drover_server::start(fleet.config.clone()).await.unwrap());
    let roots = fleet.operate(|c| c.roots()).await.unwrap();
    let counted: Vec<(u64, u64)> = roots.iter().map(|r| (r.version, r.devices)).collect();
    assert_eq!(counted, [(1, 0), (2, 1)]);
    let catalog = fleet.operate(|c| c.catalog()).await.unwrap();
    assert_eq!(catalog.key, key(7).public().id().to_string());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_of_revoked_keys_are_signed_again_and_old_epochs_stay_out() {
    let fleet = Fleet::start().await;
    publish(&fleet, 1).await;
    let publish_root = async |envelope: Envelope| {
        let bytes = envelope.encode().unwrap();
        fleet.operate(move |c| c.publish_root(&bytes)).await
    };
    publish_root(root_of(2, 0, [&[2, 8], &[5], &[4]]))
        .await
        .unwrap();
    let create = async || fleet.operate(|c| c.create_rollout(&everyone())).await;
    let revoked = create().await.unwrap_err();
    assert_eq!(revoked.code(), Some(ErrorCode::Refused), "{revoked}");
    assert!(
        revoked.to_string().contains("sign the bundle again"),
        "{revoked}"
    );
    let again = bundle(1, &[2, 8]).encode().unwrap();
    fleet
        .operate(move |c| c.publish_release(&again))
        .await
        .unwrap();
    create().await.unwrap();

    publish_root(root_of(3, 9, [&[2, 8], &[5], &[4]]))
        .await
        .unwrap();
    let old = create().await.unwrap_err();
    assert!(old.to_string().contains("security epoch 0"), "{old}");
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_stay_fresh_and_who_gets_none_is_named() {
    let fleet = Fleet::start_with(|config| {
        config.catalog_ttl_secs = 4;
        config.stale_after_secs = Some(4);
    })
    .await;
    let before = fleet.operate(|c| c.catalog()).await.unwrap();
    publish(&fleet, 1).await;
    let after = fleet.operate(|c| c.catalog()).await.unwrap();
    assert!(after.version > before.version && after.releases.len() == 1);

    let mut device = Device::enrol(&fleet, 30).await;
    device.hello(0).await;
    fleet
        .operate(|c| c.create_rollout(&everyone()))
        .await
        .unwrap();
    let (first, catalog) = device.desired().await;
    assert!(catalog.lists(&first.bundles[0]).is_ok());
    assert!(catalog.version >= first.catalog_version);
    device.update(&first).await;

    // Nothing is to be done, and newer catalogs come all the same.
    let mark = (catalog.version, catalog.issued_unix_s);
    device.say(trust(1, mark, &[])).await;
    let (again, newer) = device.desired().await;
    assert_eq!(again, first);
    assert!(newer.version > catalog.version);

    // The device tells of none: somebody keeps them from it.
    let look = |c: &Client| (c.device("device-30").unwrap().stale_since_unix_s, kinds(c));
    let is_marked = |(since, kinds): &(Option<u64>, Vec<String>)| {
        since.is_some() && kinds.contains(&"catalog-stale".into())
    };
    fleet.until("the mark", look, is_marked).await;
    let newest = fleet.operate(|c| c.catalog()).await.unwrap();
    let mark = (newest.version, newest.issued_unix_s);
    device.say(trust(1, mark, &[])).await;
    let is_unmarked =
        |(_, kinds): &(Option<u64>, Vec<String>)| kinds.contains(&"catalog-fresh".into());
    fleet.until("the end of the mark", look, is_unmarked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_of_a_stolen_key_under_our_number_is_superseded() {
    let mut fleet = Fleet::start().await;
    let mut device = Device::enrol(&fleet, 30).await;
    device.hello(0).await;
    publish(&fleet, 1).await;
    fleet
        .operate(|c| c.create_rollout(&everyone()))
        .await
        .unwrap();
    let ours = device.assignment(0).await;
    let digest = ours.bundles[0].digest;
    device
        .phase(ours.sequence, Phase::Committed { digest })
        .await;
    // What a thief ordered has the same number, and another bundle.
    let foreign = Phase::Committed { digest: [9; 32] };
    device.hello(ours.sequence).await;
    device.phase(ours.sequence, foreign).await;
    let newer = device.assignment(ours.sequence).await;
    assert_eq!(newer.bundles, ours.bundles);
    let told = |kinds: &Vec<String>| kinds.contains(&"assignment-foreign".into());
    fleet.until("the alarm", kinds, told).await;
    device
        .phase(newer.sequence, Phase::Committed { digest })
        .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_that_a_device_has_seen_are_shown() {
    let fleet = Fleet::start().await;
    let mut device = Device::enrol(&fleet, 30).await;
    let indicator = |n| [(FailureCode::SignatureInvalid, n)];
    for n in [1, 1, 3] {
        device.say(trust(1, (0, 0), &indicator(n))).await;
    }
    let events = fleet
        .until(
            "two events",
            |c| c.events(None, 50).unwrap(),
            |events| {
                events
                    .iter()
                    .filter(|e| e.kind == "attack-indicator")
                    .count()
                    == 2
            },
        )
        .await;
    assert!(
        events[0].detail.contains("SIG_INVALID 3 (+2)"),
        "{events:?}"
    );
    let shown = fleet.operate(|c| c.device("device-30")).await.unwrap();
    assert_eq!(shown.trust.unwrap().refused[0].count, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_roots_give_a_device_away() {
    let fleet = Fleet::start().await;
    let mut device = Device::enrol(&fleet, 30).await;
    device.hello(0).await;
    let voucher = Voucher {
        from_fleet: "test".into(),
        device: device.id.clone(),
        to_fleet: "other".into(),
        to_root: [7; 32],
        server: "https://other".into(),
        claim: "a.b".into(),
        issued_unix_s: 1,
        expires_unix_s: u64::MAX,
    };
    let signed = |n| {
        let payload = voucher.encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Voucher, &key(n));
        envelope.encode().unwrap()
    };
    let send = async |bytes: Vec<u8>| {
        fleet
            .operate(move |c| c.transfer_device("device-30", &bytes))
            .await
    };
    for online in [2, 4, 5] {
        let error = send(signed(online)).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Refused), "{error}");
    }
    let shown = send(signed(1)).await.unwrap();
    assert_eq!(shown.transferred_to.as_deref(), Some("other"));
    device.hello(0).await;
    for _ in 0..2 {
        let heard = device
            .hears("transfer", |heard| match heard {
                Heard::Down(Down::Transfer { voucher }) => Some(voucher.clone()),
                _ => None,
            })
            .await;
        assert_eq!(heard, signed(1));
    }
    publish(&fleet, 1).await;
    let rollout = fleet.operate(|c| c.create_rollout(&everyone())).await;
    let rollout = rollout.unwrap();
    assert!(rollout.devices.is_empty());
    assert_ne!(rollout.state, RolloutState::Paused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_for_one_device_is_nobody_elses() {
    let fleet = Fleet::start().await;
    let device = DeviceId::of(&key(30).public());
    let request = drover_api::CreateTokens {
        for_device: Some(device.to_string()),
        ..auto(1)
    };
    let token = fleet.tokens(request).await.remove(0);
    let url = format!("{}/v1/enroll", fleet.url());
    let (body, _, _) = enrolment(&key(31), &token, "thief");
    assert_eq!(post(url.clone(), None, body).await.0, 403);
    let (body, _, _) = enrolment(&key(30), &token, "device");
    assert_eq!(post(url, None, body).await.0, 200);
}

impl Device {
    /// The next assignment and its catalog, whatever was accepted before.
    async fn desired(&mut self) -> (Assignment, Catalog) {
        let (root, id): (TrustedRoot, DeviceId) = (self.root.clone(), self.id.clone());
        self.hears("assignment", move |heard| match heard {
            Heard::Down(Down::Desired {
                assignment,
                catalog,
            }) => {
                let catalog = Envelope::decode(catalog).unwrap();
                let catalog = Catalog::open(&catalog, &root, &CatalogMark::default(), 0).unwrap();
                let envelope = Envelope::decode(assignment).unwrap();
                let assignment = Assignment::open(&envelope, &root, &catalog, &id, 0, 0);
                Some((assignment.unwrap(), catalog))
            }
            _ => None,
        })
        .await
    }

    async fn roots(&mut self) -> Vec<Vec<u8>> {
        self.hears("roots", |heard| match heard {
            Heard::Roots(roots) => Some(roots.clone()),
            _ => None,
        })
        .await
    }
}
