//! Signed metadata: envelopes, roots, catalogs, assignments, vouchers and key files.
//!
//! What is parsed only behind a valid signature is signed here first, with keys that everybody
//! knows: the parsers must stand what a stolen key signs.

use std::sync::OnceLock;

use arbitrary::Unstructured;
use drover_trust::catalog::{CatalogMark, Listed};
use drover_trust::fixture::{self, CREATED, Keys, signed_root};
use drover_trust::{
    Assignment, Catalog, DeviceId, Domain, Envelope, Role, SecretKey, TrustedRoot, Voucher, keyfile,
};

use crate::bound::{Bound, POSTCARD, bounded, linear};
use crate::draw::draw;
use crate::parser::{self, Parser, drawn_seeds, noise};

/// Room for the copies that signing and the bytes that are signed need.
const SIGNED: Bound = Bound {
    factor: POSTCARD.factor + 8,
    ..POSTCARD
};

/// All parsers of `drover-trust`.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "trust Envelope",
        bound: Bound {
            claim: 96,
            factor: 4,
            constant: 1024,
        },
        limit: drover_trust::envelope::MAX_BYTES,
        read: |parser, bytes| {
            let decode = |bytes: &[u8]| Envelope::decode(bytes).ok();
            let envelope = parser.round_trip(bytes, decode, |e| e.encode().ok());
            if let Some(envelope) = &envelope {
                // Nobody signed it: every way in must say so.
                assert!(envelope.verify_by(Domain::Up, &key(200).public()).is_err());
                let root = trusted();
                assert!(root.verify(Role::Root, Domain::Root, envelope).is_err());
            }
            envelope.is_some()
        },
        seeds: || {
            let envelope = Envelope::signed(b"payload".to_vec(), Domain::Up, key(1));
            vec![envelope.encode().expect("it is small")]
        },
    },
    Parser {
        name: "trust Root",
        bound: SIGNED,
        limit: drover_trust::root::MAX_BYTES,
        read: read_root,
        seeds: || {
            let root = Keys::new("test").root_metadata(1);
            let version_2 = root.encode().expect("it is consistent");
            vec![version_2, version_1_root()]
        },
    },
    Parser {
        name: "trust Assignment",
        bound: SIGNED,
        limit: drover_trust::assignment::MAX_BYTES,
        read: |parser, bytes| {
            let (root, me) = known();
            let decode = |bytes: &[u8]| {
                let envelope = signed(bytes, Domain::Assignment, 4);
                Assignment::reopen(&envelope, root, &me).ok()
            };
            let accepted = bounded(parser, bytes.len(), || decode(bytes));
            if let Some(value) = &accepted {
                // Of format 1, which is shorter, the longest cannot be written in format 2.
                if let Ok(written) = value.encode() {
                    assert_eq!(decode(&written).as_ref(), Some(value));
                }
            }
            accepted.is_some()
        },
        seeds: || drawn_seeds::<Assignment>(|value| for_us(value.clone()).encode().ok()),
    },
    Parser {
        name: "trust Catalog",
        bound: SIGNED,
        limit: drover_trust::catalog::MAX_BYTES,
        read: |parser, bytes| {
            let (root, _) = known();
            let decode = |bytes: &[u8]| {
                let envelope = signed(bytes, Domain::Catalog, 3);
                Catalog::open(&envelope, root, &CatalogMark::default(), 0).ok()
            };
            parser
                .round_trip(bytes, decode, |c| c.encode().ok())
                .is_some()
        },
        seeds: || drawn_seeds::<Catalog>(|value| of_us(value.clone()).encode().ok()),
    },
    Parser {
        name: "trust Voucher",
        bound: SIGNED,
        limit: drover_trust::voucher::MAX_BYTES,
        read: |parser, bytes| {
            let (root, me) = known();
            let decode = |bytes: &[u8]| {
                let envelope = signed(bytes, Domain::Voucher, 1);
                Voucher::open(&envelope, root, &me, 0).ok()
            };
            parser
                .round_trip(bytes, decode, |v| v.encode().ok())
                .is_some()
        },
        seeds: || {
            drawn_seeds::<Voucher>(|value| {
                let mut voucher = value.clone();
                voucher.from_fleet = "test".into();
                voucher.device = device();
                voucher.encode().ok()
            })
        },
    },
    Parser {
        name: "trust key file",
        bound: linear(2, 1024),
        limit: 64 * 1024,
        read: |parser, bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else {
                return false;
            };
            let read = bounded(parser, bytes.len(), || keyfile::parse(text).ok());
            // What is shown of a file must not need its secret, nor fail where that reads.
            let outside = keyfile::outside(text).ok();
            if let Some((role, key)) = &read {
                assert_eq!(outside, Some((*role, key.public(), false)));
                let (again, same) =
                    keyfile::parse(&keyfile::format(*role, key)).expect("it was just written");
                assert_eq!((*role, key.seed()), (again, same.seed()));
            }
            read.is_some()
        },
        seeds: || vec![keyfile::format(Role::Fleet, key(5)).into_bytes()],
    },
];

/// Root 1 of the fleet "test", trusted.
pub fn trusted() -> &'static TrustedRoot {
    static ROOT: OnceLock<TrustedRoot> = OnceLock::new();
    ROOT.get_or_init(|| Keys::new("test").trusted())
}

/// The key that every byte of whose seed is `n`; deriving one takes longer than most inputs.
pub fn key(n: u8) -> &'static SecretKey {
    static KEYS: OnceLock<Vec<SecretKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| (0..=u8::MAX).map(fixture::key).collect());
    &keys[usize::from(n)]
}

fn device() -> DeviceId {
    static DEVICE: OnceLock<DeviceId> = OnceLock::new();
    DEVICE
        .get_or_init(|| DeviceId::of(&key(30).public()))
        .clone()
}

/// Root and device, made before any heap is measured.
fn known() -> (&'static TrustedRoot, DeviceId) {
    (trusted(), device())
}

fn signed(payload: &[u8], domain: Domain, by: u8) -> Envelope {
    Envelope::signed(payload.to_vec(), domain, key(by))
}

fn for_us(mut assignment: Assignment) -> Assignment {
    assignment.fleet = "test".into();
    assignment.device = device();
    assignment
}

fn of_us(mut catalog: Catalog) -> Catalog {
    catalog.fleet = "test".into();
    catalog
}

/// A root in format 1, which is read for ever: everything of format 2 but end and epoch.
fn version_1_root() -> Vec<u8> {
    let root = Keys::new("test").root_metadata(1);
    let form = (root.version, root.fleet, root.created_unix_s, root.roles);
    postcard::to_extend(&form, vec![1]).expect("it is plain")
}

fn read_root(parser: &Parser, bytes: &[u8]) -> bool {
    let envelope = signed(bytes, Domain::Root, 1);
    let root = bounded(parser, bytes.len(), || {
        TrustedRoot::self_signed(envelope.clone()).ok()
    });
    let Some(root) = root else {
        return false;
    };
    let names = |role| root.root().role(role).is_some_and(|r| !r.keys.is_empty());
    assert!(
        [Role::Root, Role::Release, Role::Fleet]
            .into_iter()
            .all(names)
    );
    let written = root.root().encode().expect("what was read can be written");
    let again = TrustedRoot::self_signed(signed(&written, Domain::Root, 1));
    let again = again.expect("what was written can be read");
    assert_eq!(again.root(), root.root());
    assert!(TrustedRoot::pinned(envelope.clone(), &TrustedRoot::pin_of(&envelope)).is_ok());
    // One of an offline quorum cannot take a fleet over with a root of its own.
    assert!(trusted().advance(envelope).is_err() || root.root().version == 2);
    true
}

/// Raw bytes for every parser.
pub fn raw(bytes: &[u8]) {
    parser::dispatch(PARSERS, bytes);
}

/// Drawn metadata, and sequences in which it arrives.
pub fn structured(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    match u.int_in_range(0..=3).unwrap_or(0) {
        0 => roots_in_any_order(u),
        1 => catalogs_in_any_order(u),
        2 => assignments_in_any_order(u),
        _ => vouchers(u),
    }
}

/// Roots with drawn versions, keys and signers are offered to a device: it moves exactly when
/// both quorums signed the very next version.
fn roots_in_any_order(u: &mut Unstructured<'_>) {
    let mut roots = [1, 2, 3].to_vec();
    let mut threshold = 2;
    let mut metadata = Keys::new("test").root_metadata(1);
    set_roots(&mut metadata, &roots, threshold);
    let first = signed_root(&metadata, &[key(1), key(2)]);
    let mut trusted = TrustedRoot::self_signed(first).expect("two of three signed");
    for _ in 0..4 {
        if u.is_empty() {
            return;
        }
        let step = u.int_in_range(0..=3).unwrap_or(1);
        let mut next_roots: Vec<u8> = (1..=6).filter(|_| u.arbitrary().unwrap_or(true)).collect();
        if next_roots.is_empty() {
            next_roots.push(1);
        }
        let most = u8::try_from(next_roots.len()).unwrap_or(1);
        let next_threshold = u.int_in_range(1..=most).unwrap_or(1);
        let signers: Vec<u8> = (1..=7).filter(|_| u.arbitrary().unwrap_or(true)).collect();
        metadata.version = trusted.root().version + step;
        set_roots(&mut metadata, &next_roots, next_threshold);
        let mut envelope = Envelope::unsigned(metadata.encode().expect("it is consistent"));
        for signer in &signers {
            envelope.sign(Domain::Root, key(*signer));
        }
        let count = |of: &[u8]| signers.iter().filter(|s| of.contains(s)).count();
        let wanted = step == 1
            && count(&roots) >= usize::from(threshold)
            && count(&next_roots) >= usize::from(next_threshold);
        let (walked, _) = trusted.walk([envelope.clone()]);
        match trusted.advance(envelope) {
            Ok(next) => {
                assert!(wanted, "a root was accepted that must not be");
                assert_eq!(next.root(), walked.root());
                trusted = next;
                (roots, threshold) = (next_roots, next_threshold);
            }
            Err(error) => {
                assert!(!wanted, "an acceptable root was refused: {error}");
                assert_eq!(trusted.root(), walked.root());
            }
        }
    }
}

fn set_roots(metadata: &mut drover_trust::Root, keys: &[u8], threshold: u8) {
    let role = metadata.roles.iter_mut().find(|r| r.role == Role::Root);
    let role = role.expect("every root names the role root");
    role.threshold = threshold;
    role.keys = keys.iter().map(|&n| key(n).public()).collect();
}

/// A device that remembers marks never goes back, whatever order catalogs come in.
fn catalogs_in_any_order(u: &mut Unstructured<'_>) {
    let mut mark = CatalogMark::default();
    for _ in 0..6 {
        let Some(catalog) = draw::<Catalog>(u) else {
            return;
        };
        let mut catalog = of_us(catalog);
        catalog.version %= 8;
        for release in &mut catalog.releases {
            release.name = ["a", "b"][usize::from(release.digest[0] % 2)].into();
            release.counter %= 8;
        }
        let Ok(payload) = catalog.encode() else {
            continue;
        };
        let now = u.int_in_range(0..=CREATED).unwrap_or(0);
        let envelope = signed(&payload, Domain::Catalog, 3);
        let stranger = signed(&payload, Domain::Catalog, 4);
        assert!(Catalog::open(&stranger, trusted(), &mark, now).is_err());
        let Ok(opened) = Catalog::open(&envelope, trusted(), &mark, now) else {
            continue;
        };
        assert_eq!(opened, catalog);
        assert!(opened.version >= mark.version && opened.expires_unix_s >= now);
        let next = opened.mark(&envelope);
        for (name, counter) in &mark.newest {
            assert!(next.newest.get(name).is_some_and(|n| n >= counter));
        }
        assert!(Catalog::open(&envelope, trusted(), &next, now).is_ok());
        mark = next;
    }
}

/// Sequences grow, expiry is kept, and only the fleet role assigns.
fn assignments_in_any_order(u: &mut Unstructured<'_>) {
    let mut last = 0;
    for _ in 0..6 {
        let Some(assignment) = draw::<Assignment>(u) else {
            return;
        };
        let mut assignment = for_us(assignment);
        assignment.sequence %= 16;
        let now = u.int_in_range(0..=CREATED).unwrap_or(0);
        let Ok(payload) = assignment.encode() else {
            continue;
        };
        let by = u.int_in_range(1..=5).unwrap_or(4);
        let envelope = signed(&payload, Domain::Assignment, by);
        let mut catalog = listing(&assignment);
        let forgets = u.ratio(1, 4).unwrap_or(false) && catalog.releases.pop().is_some();
        let open = |device: &DeviceId, last, now| {
            Assignment::open(&envelope, trusted(), &catalog, device, last, now)
        };
        let opened = open(&device(), last, now);
        let fresh = assignment.sequence > last && assignment.expires_unix_s >= now;
        let wanted = by == 4 && fresh && !forgets;
        match opened {
            Ok(opened) => {
                assert!(wanted, "accepted what must not be: {opened:?}");
                assert_eq!(opened, assignment);
                last = opened.sequence;
            }
            Err(error) => assert!(!wanted, "an acceptable assignment was refused: {error}"),
        }
        let other = DeviceId::of(&key(31).public());
        assert!(open(&other, 0, 0).is_err());
    }
}

/// A catalog that lists each bundle of an assignment as it is assigned.
fn listing(assignment: &Assignment) -> Catalog {
    let mut catalog: Catalog = draw(&mut Unstructured::new(&[])).expect("all are plain");
    catalog.version = assignment.catalog_version;
    for bundle in &assignment.bundles {
        let listed = Listed {
            name: bundle.name.clone(),
            version: String::new(),
            digest: bundle.digest,
            counter: bundle.counter,
            epoch: bundle.epoch,
            total_bytes: bundle.total_bytes,
        };
        if !catalog.releases.contains(&listed) {
            catalog.releases.push(listed);
        }
    }
    catalog
}

fn vouchers(u: &mut Unstructured<'_>) {
    let Some(mut voucher) = draw::<Voucher>(u) else {
        return;
    };
    voucher.from_fleet = "test".into();
    let for_us = u.arbitrary().unwrap_or(true);
    if for_us {
        voucher.device = device();
    }
    let now = u.arbitrary().unwrap_or(0);
    let Ok(payload) = voucher.encode() else {
        return;
    };
    let by = u.int_in_range(1..=5).unwrap_or(1);
    let envelope = signed(&payload, Domain::Voucher, by);
    let opened = Voucher::open(&envelope, trusted(), &device(), now);
    if let Ok(opened) = opened {
        assert!(by == 1 && opened.device == device() && opened.expires_unix_s >= now);
        assert!(opened.to_fleet != "test");
        assert_eq!(opened, voucher);
    }
}

/// Seeds of [`raw`].
pub fn raw_seeds() -> Vec<Vec<u8>> {
    parser::seeds(PARSERS)
}

/// Seeds of [`structured`].
pub fn structured_seeds() -> Vec<Vec<u8>> {
    (1..60).map(|n| noise(n, 1500)).collect()
}
