//! The desired state of one device, signed by the fleet role.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::envelope::{limit, parse_versioned};
use crate::{DeviceId, Domain, Envelope, Role, TrustError, TrustedRoot};

/// Format version of assignments.
pub const VERSION: u8 = 1;
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
        let assignment: Self = parse_versioned("assignment", VERSION, payload)?;
        if assignment.fleet != root.root().fleet {
            return Err(TrustError::Fleet);
        }
        if assignment.device != *device {
            return Err(TrustError::Device);
        }
        Ok(assignment)
    }

    /// Verifies and parses a new assignment.
    ///
    /// `last_sequence` is the highest one accepted so far and `now_unix_s` the device's
    /// trusted time.
    ///
    /// # Errors
    /// As [`Self::reopen`], and [`TrustError::Rollback`] or [`TrustError::Expired`].
    pub fn open(
        envelope: &Envelope,
        root: &TrustedRoot,
        device: &DeviceId,
        last_sequence: u64,
        now_unix_s: u64,
    ) -> Result<Self, TrustError> {
        let assignment = Self::reopen(envelope, root, device)?;
        if assignment.sequence <= last_sequence {
            return Err(TrustError::Rollback {
                have: last_sequence,
                got: assignment.sequence,
            });
        }
        if assignment.expires_unix_s < now_unix_s {
            return Err(TrustError::Expired {
                expired: assignment.expires_unix_s,
                now: now_unix_s,
            });
        }
        Ok(assignment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RoleKeys, Root, SecretKey};

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    fn trusted() -> TrustedRoot {
        let role = |role, n| RoleKeys {
            role,
            threshold: 1,
            keys: vec![key(n).public()],
        };
        let root = Root {
            version: 1,
            fleet: "test".into(),
            created_unix_s: 0,
            roles: vec![
                role(Role::Root, 1),
                role(Role::Release, 2),
                role(Role::Fleet, 3),
            ],
        };
        let envelope = Envelope::signed(root.encode().unwrap(), Domain::Root, &key(1));
        TrustedRoot::self_signed(envelope).unwrap()
    }

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
            }],
            issued_unix_s: 100,
            expires_unix_s: 200,
        }
    }

    #[test]
    fn only_the_right_device_in_time_and_order_accepts() {
        let root = trusted();
        let me = DeviceId::of(&key(30).public());
        let other = DeviceId::of(&key(31).public());
        let envelope = Envelope::signed(
            assignment(&me).encode().unwrap(),
            Domain::Assignment,
            &key(3),
        );
        let open = |device, last, now| Assignment::open(&envelope, &root, device, last, now);
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
    fn release_keys_cannot_assign() {
        let me = DeviceId::of(&key(30).public());
        let payload = assignment(&me).encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Assignment, &key(2));
        assert!(Assignment::open(&envelope, &trusted(), &me, 0, 0).is_err());
    }
}
