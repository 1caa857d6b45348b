//! Tests of roots: thresholds, chains, pins, form.

use super::*;
use crate::SecretKey;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn role(role: Role, threshold: u8, keys: &[u8]) -> RoleKeys {
    RoleKeys {
        role,
        threshold,
        keys: keys.iter().map(|&n| key(n).public()).collect(),
    }
}

fn root(version: u64, roots: &[u8]) -> Root {
    Root {
        version,
        fleet: "test".into(),
        created_unix_s: 0,
        expires_unix_s: 1000,
        epoch: 0,
        roles: vec![
            role(Role::Root, 2, roots),
            role(Role::Release, 2, &[10, 11]),
            role(Role::Fleet, 1, &[20]),
        ],
    }
}

fn sign(root: &Root, keys: &[u8]) -> Envelope {
    let mut envelope = Envelope::unsigned(root.encode().unwrap());
    for &n in keys {
        envelope.sign(Domain::Root, &key(n));
    }
    envelope
}

#[test]
fn thresholds_count_keys_of_the_role_only() {
    let trusted = TrustedRoot::self_signed(sign(&root(1, &[1, 2, 3]), &[1, 3])).unwrap();
    let mut manifest = Envelope::unsigned(b"m".to_vec());
    manifest.sign(Domain::Manifest, &key(10));
    manifest.sign(Domain::Manifest, &key(20));
    manifest.sign(Domain::Manifest, &key(1));
    assert_eq!(
        trusted.verify(Role::Release, Domain::Manifest, &manifest),
        Err(TrustError::Threshold {
            role: Role::Release,
            got: 1,
            needed: 2
        })
    );
    manifest.sign(Domain::Manifest, &key(11));
    assert!(
        trusted
            .verify(Role::Release, Domain::Manifest, &manifest)
            .is_ok()
    );
    assert!(
        trusted
            .verify(Role::Catalog, Domain::Manifest, &manifest)
            .is_err()
    );
}

#[test]
fn the_chain_grows_by_one_and_by_both_sides() {
    let first = TrustedRoot::self_signed(sign(&root(1, &[1, 2, 3]), &[1, 2])).unwrap();
    let next = root(2, &[4, 5]);
    assert!(
        first.advance(sign(&next, &[4, 5])).is_err(),
        "old keys missing"
    );
    assert!(
        first.advance(sign(&next, &[1, 2])).is_err(),
        "new keys missing"
    );
    let second = first.advance(sign(&next, &[1, 2, 4, 5])).unwrap();
    assert_eq!(second.root().version, 2);
    let skipped = sign(&root(3, &[4, 5]), &[1, 2, 4, 5]);
    assert_eq!(
        first.advance(skipped).unwrap_err(),
        TrustError::RootVersion { have: 1, got: 3 }
    );
}

#[test]
fn a_walk_goes_as_far_as_it_is_signed() {
    let chain: Vec<Envelope> = (1..=6u8)
        .map(|n| sign(&root(n.into(), &[n, n + 1]), &[n, n + 1, n.max(2) - 1]))
        .collect();
    // Root N is signed by keys N-1, N, N+1; root N-1 asks for two of N-1 and N.
    let first = TrustedRoot::self_signed(chain[0].clone()).unwrap();
    let (newest, stopped) = first.walk(chain.clone());
    assert_eq!((newest.root().version, stopped), (6, None));
    let (newest, stopped) = newest.walk(chain.clone());
    assert_eq!((newest.root().version, stopped), (6, None), "old ones");
    let gap = chain.iter().filter(|e| e != &&chain[2]).cloned();
    let (newest, stopped) = first.walk(gap);
    assert_eq!(newest.root().version, 2);
    assert!(stopped.is_some());
    assert!(first.revokes(Role::Root, &newest));
    assert!(!first.revokes(Role::Fleet, &newest));
    assert!(first.check_fresh(1000).is_ok() && first.check_fresh(1001).is_err());
}

/// Golden bytes of format 1; never to be edited.
#[test]
fn version_1_is_still_read() {
    let mut bytes = vec![1, 1, 4, b't', b'e', b's', b't', 0, 3];
    for (role, n) in [(0u8, 1u8), (1, 10), (3, 20)] {
        bytes.extend([role, 1, 1]);
        bytes.extend(key(n).public().0);
    }
    let envelope = Envelope::signed(bytes, Domain::Root, &key(1));
    let trusted = TrustedRoot::self_signed(envelope).unwrap();
    assert_eq!(trusted.root().expires_unix_s, u64::MAX);
    assert_eq!(trusted.root().epoch, 0);
}

/// Golden bytes of format 2; never to be edited.
#[test]
fn version_2_bytes() {
    let mut root = root(300, &[1, 2]);
    root.epoch = 5;
    root.roles.truncate(3);
    root.roles.iter_mut().for_each(|r| {
        r.keys.truncate(1);
        r.threshold = 1;
    });
    let mut wanted = vec![2, 0xac, 2, 4, b't', b'e', b's', b't', 0, 0xe8, 7, 5, 3];
    for (role, n) in [(0u8, 1u8), (1, 10), (3, 20)] {
        wanted.extend([role, 1, 1]);
        wanted.extend(key(n).public().0);
    }
    assert_eq!(root.encode().unwrap(), wanted);
}

#[test]
fn a_pin_accepts_one_root_only() {
    let envelope = sign(&root(1, &[1, 2]), &[1, 2]);
    let pin = TrustedRoot::pin_of(&envelope);
    assert!(TrustedRoot::pinned(envelope, &pin).is_ok());
    let other = sign(&root(1, &[4, 5]), &[4, 5]);
    assert!(TrustedRoot::pinned(other, &pin).is_err());
}

#[test]
fn roots_that_contradict_themselves_are_refused() {
    let mut twice = root(1, &[1, 2]);
    twice.roles.push(role(Role::Fleet, 1, &[21]));
    assert!(twice.encode().is_err());
    let mut none = root(1, &[1, 2]);
    none.roles[1].threshold = 3;
    assert!(none.encode().is_err());
    let same = root(1, &[1, 1]);
    assert!(same.encode().is_err());
}
