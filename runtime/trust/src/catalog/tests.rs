//! Tests of catalogs: growth, end, form.

use super::*;
use crate::fixture::Keys;

fn listed(name: &str, counter: u64) -> Listed {
    Listed {
        name: name.into(),
        version: "1".into(),
        digest: [counter as u8; 32],
        counter,
        epoch: 0,
        total_bytes: 10,
    }
}

fn catalog(version: u64, releases: Vec<Listed>) -> Catalog {
    Catalog {
        fleet: "test".into(),
        version,
        issued_unix_s: 100,
        expires_unix_s: 200,
        releases,
    }
}

fn sign(catalog: &Catalog, keys: &Keys) -> Envelope {
    Envelope::signed(catalog.encode().unwrap(), Domain::Catalog, &keys.catalog)
}

#[test]
fn catalogs_only_grow() {
    let keys = Keys::new("test");
    let root = keys.trusted();
    let second = catalog(2, vec![listed("pump", 1), listed("fan", 4)]);
    let envelope = sign(&second, &keys);
    let none = CatalogMark::default();
    assert_eq!(Catalog::open(&envelope, &root, &none, 150).unwrap(), second);
    let mark = second.mark(&envelope);
    let open = |catalog: &Catalog| Catalog::open(&sign(catalog, &keys), &root, &mark, 150);
    assert!(open(&second).is_ok(), "the same one again");
    assert_eq!(
        open(&catalog(1, second.releases.clone())),
        Err(TrustError::Rollback { have: 2, got: 1 })
    );
    assert!(open(&catalog(2, vec![listed("pump", 1), listed("fan", 5)])).is_err());
    assert!(
        open(&catalog(3, vec![listed("pump", 9)])).is_err(),
        "fan is gone"
    );
    assert!(open(&catalog(3, vec![listed("pump", 1), listed("fan", 3)])).is_err());
    assert!(open(&catalog(3, vec![listed("pump", 1), listed("fan", 5)])).is_ok());
    assert!(open(&catalog(u64::MAX, second.releases.clone())).is_ok());
}

#[test]
fn a_catalog_ends_and_needs_its_role() {
    let keys = Keys::new("test");
    let root = keys.trusted();
    let one = catalog(1, vec![listed("pump", 1)]);
    let none = CatalogMark::default();
    let open = |envelope: &Envelope, now| Catalog::open(envelope, &root, &none, now);
    assert!(open(&sign(&one, &keys), 200).is_ok());
    assert_eq!(
        open(&sign(&one, &keys), 201),
        Err(TrustError::Stale {
            what: "catalog",
            expired: 200,
            now: 201
        })
    );
    for wrong in [&keys.fleet, &keys.release, &keys.root] {
        let envelope = Envelope::signed(one.encode().unwrap(), Domain::Catalog, wrong);
        assert!(open(&envelope, 150).is_err());
    }
    let other = Catalog {
        fleet: "other".into(),
        ..one
    };
    assert_eq!(open(&sign(&other, &keys), 150), Err(TrustError::Fleet));
}

#[test]
fn a_release_is_listed_once() {
    let twice = catalog(1, vec![listed("pump", 1), listed("pump", 1)]);
    assert!(twice.encode().is_err());
    assert!(catalog(1, vec![listed("", 1)]).encode().is_err());
}

/// Golden bytes of format 1; never to be edited.
#[test]
fn version_1_bytes() {
    let mut wanted = vec![1, 4, b't', b'e', b's', b't', 0xac, 2, 100, 0xc8, 1, 1];
    wanted.extend([4, b'p', b'u', b'm', b'p', 1, b'1']);
    wanted.extend([7; 32]);
    wanted.extend([7, 0, 10]);
    assert_eq!(
        catalog(300, vec![listed("pump", 7)]).encode().unwrap(),
        wanted
    );
}
