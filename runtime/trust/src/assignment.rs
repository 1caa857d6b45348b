//! The desired state of one device, signed by the fleet role.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::envelope::{limit, parse_versioned};
use crate::mutation::{Check, is_disabled};
use crate::{Catalog, DeviceId, Domain, Envelope, Role, TrustError, TrustedRoot};

/// Format version of assignments that is written; version 1 is read where it was accepted
/// before.
pub const VERSION: u8 = 2;
/// Assignments larger than this are refused before they are parsed, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;

/// What one device is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Name of the fleet.
    pub fleet: String,
    /// The one device it is for.
    pub device: DeviceId,
    /// Strictly increasing per device.
    pub sequence: u64,
    /// Drawn anew for each assignment.
    pub nonce: [u8; 16],
    /// Which rollout asks for it; only for reports.
    pub rollout: String,
    /// The bundles to run, one per model name; empty means none.
    pub bundles: Vec<AssignedBundle>,
    /// When it was made, in seconds since 1970.
    pub issued_unix_s: u64,
    /// When it may no longer be accepted; what has been accepted runs on.
    pub expires_unix_s: u64,
    /// Least version of the catalog that lists the bundles.
    pub catalog_version: u64,
}

/// One bundle that a device is to run; every value must equal the release's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedBundle {
    /// Model name.
    pub name: String,
    /// SHA-256 of the manifest.
    pub digest: [u8; 32],
    /// Counter of the release.
    pub counter: u64,
    /// Sum of the sizes of its files, in bytes.
    pub total_bytes: u64,
    /// Security epoch of the release.
    pub epoch: u64,
}

/// Format 1, as it lies on devices that accepted one.
#[derive(Deserialize)]
struct AssignmentV1 {
    fleet: String,
    device: DeviceId,
    sequence: u64,
    nonce: [u8; 16],
    rollout: String,
    bundles: Vec<AssignedBundleV1>,
    issued_unix_s: u64,
    expires_unix_s: u64,
}

#[derive(Deserialize)]
struct AssignedBundleV1 {
    name: String,
    digest: [u8; 32],
    counter: u64,
    total_bytes: u64,
}

impl From<AssignmentV1> for Assignment {
    fn from(v1: AssignmentV1) -> Self {
        let bundle = |b: AssignedBundleV1| AssignedBundle {
            name: b.name,
            digest: b.digest,
            counter: b.counter,
            total_bytes: b.total_bytes,
            epoch: 0,
        };
        Self {
            fleet: v1.fleet,
            device: v1.device,
            sequence: v1.sequence,
            nonce: v1.nonce,
            rollout: v1.rollout,
            bundles: v1.bundles.into_iter().map(bundle).collect(),
            issued_unix_s: v1.issued_unix_s,
            expires_unix_s: v1.expires_unix_s,
            catalog_version: 0,
        }
    }
}

impl Assignment {
    /// Bytes to sign.
    ///
    /// # Errors
    /// [`TrustError::TooLarge`] when a device would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, TrustError> {
        let bytes = postcard::to_extend(self, alloc::vec![VERSION])
            .map_err(|_| TrustError::Parse("assignment"))?;
        limit("assignment", bytes.len(), MAX_BYTES)?;
        Ok(bytes)
    }

    /// Verifies and parses an assignment that was accepted before: signature and recipient
    /// are checked, age and sequence are not, since expiry never stops what runs.
    ///
    /// # Errors
    /// Any signature or parsing error, [`TrustError::Fleet`], [`TrustError::Device`].
    pub fn reopen(
        envelope: &Envelope,
        root: &TrustedRoot,
        device: &DeviceId,
    ) -> Result<Self, TrustError> {
        let payload = root.verify(Role::Fleet, Domain::Assignment, envelope)?;
        limit("assignment", payload.len(), MAX_BYTES)?;
        let assignment: Self = match payload.first() {
            Some(1) => parse_versioned::<AssignmentV1>("assignment", 1, payload)?.into(),
            _ => parse_versioned("assignment", VERSION, payload)?,
        };
        if assignment.fleet != root.root().fleet {
            return Err(TrustError::Fleet);
        }
        if assignment.device != *device && !is_disabled(Check::Recipient) {
            return Err(TrustError::Device);
        }
        Ok(assignment)
    }

    /// Verifies and parses a new assignment against the catalog that came with it.
    ///
    /// `last_sequence` is the highest one accepted so far and `now_unix_s` the device's
    /// trusted time. Whether the device has seen a newer catalog is [`Catalog::open`]'s to
    /// say.
    ///
    /// # Errors
    /// As [`Self::reopen`], and [`TrustError::Rollback`], [`TrustError::Expired`],
    /// [`TrustError::Stale`] under an expired root, [`TrustError::Unlisted`] or
    /// [`TrustError::Epoch`].
    pub fn open(
        envelope: &Envelope,
        root: &TrustedRoot,
        catalog: &Catalog,
        device: &DeviceId,
        last_sequence: u64,
        now_unix_s: u64,
    ) -> Result<Self, TrustError> {
        let assignment = Self::reopen(envelope, root, device)?;
        root.check_fresh(now_unix_s)?;
        if assignment.sequence <= last_sequence && !is_disabled(Check::AssignmentRollback) {
            return Err(TrustError::Rollback {
                have: last_sequence,
                got: assignment.sequence,
            });
        }
        if assignment.expires_unix_s < now_unix_s && !is_disabled(Check::AssignmentExpiry) {
            return Err(TrustError::Expired {
                expired: assignment.expires_unix_s,
                now: now_unix_s,
            });
        }
        if catalog.version < assignment.catalog_version {
            return Err(TrustError::Rollback {
                have: assignment.catalog_version,
                got: catalog.version,
            });
        }
        let least = root.root().epoch;
        for bundle in &assignment.bundles {
            catalog.lists(bundle)?;
            if bundle.epoch < least && !is_disabled(Check::Epoch) {
                return Err(TrustError::Epoch {
                    have: least,
                    got: bundle.epoch,
                });
            }
        }
        Ok(assignment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{CatalogMark, Listed};
    use crate::fixture::{Keys, key};

    fn assignment(device: &DeviceId) -> Assignment {
        Assignment {
            fleet: "test".into(),
            device: device.clone(),
            sequence: 5,
            nonce: [9; 16],
            rollout: "r1".into(),
            bundles: vec![AssignedBundle {
                name: "pump".into(),
                digest: [1; 32],
                counter: 2,
                total_bytes: 10,
                epoch: 1,
            }],
            issued_unix_s: 100,
            expires_unix_s: 200,
            catalog_version: 7,
        }
    }

    fn catalog(version: u64) -> Catalog {
        Catalog {
            fleet: "test".into(),
            version,
            issued_unix_s: 90,
            expires_unix_s: 300,
            releases: vec![Listed {
                name: "pump".into(),
                version: "2".into(),
                digest: [1; 32],
                counter: 2,
                epoch: 1,
                total_bytes: 10,
            }],
        }
    }

    #[test]
    fn only_the_right_device_in_time_and_order_accepts() {
        let keys = Keys::new("test");
        let root = keys.trusted();
        let me = DeviceId::of(&key(30).public());
        let other = DeviceId::of(&key(31).public());
        let payload = assignment(&me).encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Assignment, &keys.fleet);
        let listing = catalog(7);
        let open =
            |device, last, now| Assignment::open(&envelope, &root, &listing, device, last, now);
        assert_eq!(open(&me, 4, 150).unwrap(), assignment(&me));
        assert_eq!(open(&other, 4, 150), Err(TrustError::Device));
        assert_eq!(
            open(&me, 5, 150),
            Err(TrustError::Rollback { have: 5, got: 5 })
        );
        assert_eq!(
            open(&me, 4, 201),
            Err(TrustError::Expired {
                expired: 200,
                now: 201
            })
        );
        assert!(Assignment::reopen(&envelope, &root, &me).is_ok());
    }

    #[test]
    fn what_the_catalog_does_not_list_exactly_is_refused() {
        let keys = Keys::new("test");
        let root = keys.trusted();
        let me = DeviceId::of(&key(30).public());
        let payload = assignment(&me).encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Assignment, &keys.fleet);
        let open = |catalog: &Catalog| Assignment::open(&envelope, &root, catalog, &me, 0, 150);
        assert!(open(&catalog(7)).is_ok());
        assert_eq!(
            open(&catalog(6)),
            Err(TrustError::Rollback { have: 7, got: 6 }),
            "an older catalog"
        );
        let changes: [fn(&mut Listed); 5] = [
            |r| r.digest = [2; 32],
            |r| r.counter = 3,
            |r| r.epoch = 2,
            |r| r.total_bytes = 11,
            |r| r.name = "fan".into(),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut other = catalog(7);
            change(&mut other.releases[0]);
            assert_eq!(open(&other), Err(TrustError::Unlisted), "change {i}");
        }
    }

    #[test]
    fn an_epoch_below_the_roots_is_refused() {
        let keys = Keys::new("test");
        let mut metadata = keys.root_metadata(1);
        metadata.epoch = 2;
        let root = crate::fixture::signed_root(&metadata, &[&keys.root]);
        let root = TrustedRoot::self_signed(root).unwrap();
        let me = DeviceId::of(&key(30).public());
        let payload = assignment(&me).encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Assignment, &keys.fleet);
        assert_eq!(
            Assignment::open(&envelope, &root, &catalog(7), &me, 0, 150),
            Err(TrustError::Epoch { have: 2, got: 1 })
        );
    }

    #[test]
    fn other_roles_cannot_assign() {
        let keys = Keys::new("test");
        let me = DeviceId::of(&key(30).public());
        for wrong in [&keys.release, &keys.catalog, &keys.root] {
            let payload = assignment(&me).encode().unwrap();
            let envelope = Envelope::signed(payload, Domain::Assignment, wrong);
            let opened = Assignment::open(&envelope, &keys.trusted(), &catalog(7), &me, 0, 150);
            assert!(opened.is_err());
        }
    }

    /// Golden bytes of format 2; never to be edited. Format 1 had neither catalog version nor
    /// epochs and is read where it was accepted before.
    #[test]
    fn version_2_bytes_and_version_1() {
        let keys = Keys::new("test");
        let me = DeviceId::of(&key(30).public());
        let mut wanted = vec![2, 4, b't', b'e', b's', b't'];
        let id = me.as_str().as_bytes();
        wanted.push(u8::try_from(id.len()).unwrap());
        wanted.extend(id);
        wanted.push(5);
        wanted.extend([9; 16]);
        wanted.extend([2, b'r', b'1', 1, 4, b'p', b'u', b'm', b'p']);
        wanted.extend([1; 32]);
        let mut first = wanted.clone();
        wanted.extend([2, 10, 1, 100, 0xc8, 1, 7]);
        assert_eq!(assignment(&me).encode().unwrap(), wanted);
        first.extend([2, 10, 100, 0xc8, 1]);
        first[0] = 1;
        let envelope = Envelope::signed(first, Domain::Assignment, &keys.fleet);
        let read = Assignment::reopen(&envelope, &keys.trusted(), &me).unwrap();
        let mut old = assignment(&me);
        old.catalog_version = 0;
        old.bundles[0].epoch = 0;
        assert_eq!(read, old);
        let opened = Assignment::open(&envelope, &keys.trusted(), &catalog(7), &me, 0, 150);
        assert_eq!(opened, Err(TrustError::Unlisted), "no epoch, not as listed");
    }

    #[test]
    fn an_empty_assignment_needs_the_device_and_the_catalog_too() {
        let keys = Keys::new("test");
        let me = DeviceId::of(&key(30).public());
        let mut empty = assignment(&me);
        empty.bundles.clear();
        let payload = empty.encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Assignment, &keys.fleet);
        let catalog_bytes = catalog(7).encode().unwrap();
        let signed = Envelope::signed(catalog_bytes, Domain::Catalog, &keys.catalog);
        let mark = CatalogMark::default();
        let fresh = Catalog::open(&signed, &keys.trusted(), &mark, 150).unwrap();
        assert!(Assignment::open(&envelope, &keys.trusted(), &fresh, &me, 0, 150).is_ok());
        assert!(Assignment::open(&envelope, &keys.trusted(), &catalog(6), &me, 0, 150).is_err());
    }
}
