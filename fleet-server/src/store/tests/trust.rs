//! Numbers of messages, instances and fresh catalogs.

use super::*;

#[tokio::test]
async fn numbers_survive_and_an_approval_lets_anybody_speak_first() {
    let Fixture { store, dir: _dir } = fixture().await;
    enrol(&store, "d1").await;
    let counted = |instance: u8, boot, counter| Counted {
        device: "d1".into(),
        instance: [instance; 16],
        boot,
        counter,
    };
    let all = [counted(1, 1, 5), counted(2, 2, 1), counted(2, 2, 9)];
    store.counted(&all).await.unwrap();
    let numbers = store.numbers("d1").await.unwrap();
    assert_eq!(numbers.current, Some([2; 16]));
    assert_eq!(numbers.instances[&[1; 16]], (1, 5));
    assert_eq!(numbers.instances[&[2; 16]], (2, 9));

    assert!(store.quarantine("d1", "two of them").await.unwrap());
    assert!(!store.quarantine("d1", "again").await.unwrap());
    assert!(!store.device_key("d1").await.unwrap().unwrap().approved);
    assert!(store.approve("d1", &entry()).await.unwrap());
    let after = store.numbers("d1").await.unwrap();
    assert_eq!((after.current, after.instances.len()), (None, 2));
    assert_ne!(after.numbering, numbers.numbering);
    let known = store.device_key("d1").await.unwrap().unwrap();
    assert_eq!((known.approved, known.numbering), (true, after.numbering));
}

#[tokio::test]
async fn starts_long_gone_are_forgotten() {
    let Fixture { store, dir: _dir } = fixture().await;
    enrol(&store, "d1").await;
    let all: Vec<Counted> = (1..=300u64)
        .map(|boot| Counted {
            device: "d1".into(),
            instance: std::array::from_fn(|i| u8::try_from((boot >> (8 * (i % 2))) & 255).unwrap()),
            boot,
            counter: 1,
        })
        .collect();
    store.counted(&all).await.unwrap();
    let numbers = store.numbers("d1").await.unwrap();
    let oldest = numbers.instances.values().map(|n| n.0).min();
    assert_eq!((numbers.instances.len(), oldest), (256, Some(45)));
}

#[tokio::test]
async fn a_device_without_fresh_catalogs_is_marked_and_unmarked() {
    let Fixture { store, dir: _dir } = fixture().await;
    enrol(&store, "d1").await;
    let mut trust = drover_api::DeviceTrust {
        received_unix_ms: 1_000_000,
        root_version: 1,
        catalog_version: 7,
        catalog_unix_s: 500,
        time_floor_s: 1,
        installed: vec![],
        refused: vec![],
    };
    // Without an assignment no catalog is due.
    let none = (Vec::<String>::new(), Vec::<String>::new());
    assert_eq!(store.mark_stale(900, 950).await.unwrap(), none);
    store.set_trust("d1", &trust).await.unwrap();
    assert_eq!(store.mark_stale(500, 950).await.unwrap(), none);
    let (stale, _) = store.mark_stale(501, 950).await.unwrap();
    assert_eq!(stale, ["d1"]);
    assert_eq!(store.mark_stale(502, 951).await.unwrap(), none, "twice");
    let device = store.devices().await.unwrap().remove(0);
    assert_eq!(device.stale_since_unix_s, Some(950));
    assert_eq!(device.trust.as_ref(), Some(&trust));

    // An older catalog proves nothing, one of the future counts as one of now.
    trust.catalog_unix_s = 400;
    store.set_trust("d1", &trust).await.unwrap();
    assert_eq!(store.mark_stale(502, 951).await.unwrap(), none);
    trust.catalog_unix_s = u64::MAX;
    store.set_trust("d1", &trust).await.unwrap();
    let (_, fresh) = store.mark_stale(1000, 1500).await.unwrap();
    assert_eq!(fresh, ["d1"]);
    let (stale, _) = store.mark_stale(1001, 1500).await.unwrap();
    assert_eq!(stale, ["d1"]);
}
