//! Vouchers: the old owner's word that a device now belongs to another fleet.
//!
//! Whoever owns a fleet decides what its devices run, so a voucher needs what nothing online
//! holds: the threshold of the old fleet's root role. It names one device and the new
//! fleet's root by hash.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::envelope::{limit, parse_versioned};
use crate::mutation::{Check, is_disabled};
use crate::{DeviceId, Domain, Envelope, Role, TrustError, TrustedRoot};

/// Format version of vouchers.
pub const VERSION: u8 = 1;
/// Vouchers larger than this are refused before they are parsed, in bytes.
pub const MAX_BYTES: usize = 4 * 1024;

/// Moves one device to another fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// Fleet that gives the device away.
    pub from_fleet: String,
    /// The device.
    pub device: DeviceId,
    /// Fleet that takes it.
    pub to_fleet: String,
    /// Pin of a root of the new fleet: SHA-256 of its signed payload.
    pub to_root: [u8; 32],
    /// Address of the new fleet's server.
    pub server: String,
    /// Claim token of the new fleet; it should be bound to the device, since the old fleet's
    /// server and broker see it.
    pub claim: String,
    /// When it was made, in seconds since 1970.
    pub issued_unix_s: u64,
    /// When it may no longer be accepted, in seconds since 1970.
    pub expires_unix_s: u64,
}

impl Voucher {
    /// Bytes to sign.
    ///
    /// # Errors
    /// [`TrustError::TooLarge`] when a device would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, TrustError> {
        let bytes = postcard::to_extend(self, alloc::vec![VERSION])
            .map_err(|_| TrustError::Parse("voucher"))?;
        limit("voucher", bytes.len(), MAX_BYTES)?;
        Ok(bytes)
    }

    /// Verifies and parses a voucher; `now_unix_s` is the device's trusted time.
    ///
    /// # Errors
    /// Any signature or parsing error, [`TrustError::Fleet`], [`TrustError::Device`],
    /// [`TrustError::Expired`].
    pub fn open(
        envelope: &Envelope,
        root: &TrustedRoot,
        device: &DeviceId,
        now_unix_s: u64,
    ) -> Result<Self, TrustError> {
        let payload = root.verify(Role::Root, Domain::Voucher, envelope)?;
        limit("voucher", payload.len(), MAX_BYTES)?;
        let voucher: Self = parse_versioned("voucher", VERSION, payload)?;
        if voucher.from_fleet != root.root().fleet || voucher.to_fleet == voucher.from_fleet {
            return Err(TrustError::Fleet);
        }
        if voucher.device != *device && !is_disabled(Check::Recipient) {
            return Err(TrustError::Device);
        }
        if voucher.expires_unix_s < now_unix_s {
            return Err(TrustError::Expired {
                expired: voucher.expires_unix_s,
                now: now_unix_s,
            });
        }
        Ok(voucher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Keys, key};

    #[test]
    fn only_the_root_threshold_gives_a_device_away() {
        let keys = Keys::new("old");
        let device = DeviceId::of(&key(90).public());
        let voucher = Voucher {
            from_fleet: "old".into(),
            device: device.clone(),
            to_fleet: "new".into(),
            to_root: [7; 32],
            server: "https://new".into(),
            claim: "a.b".into(),
            issued_unix_s: 10,
            expires_unix_s: 20,
        };
        let sign = |key| Envelope::signed(voucher.encode().unwrap(), Domain::Voucher, key);
        let root = keys.trusted();
        let good = sign(&keys.root);
        assert_eq!(Voucher::open(&good, &root, &device, 15).unwrap(), voucher);
        let other = DeviceId::of(&key(91).public());
        assert_eq!(
            Voucher::open(&good, &root, &other, 15),
            Err(TrustError::Device)
        );
        assert!(Voucher::open(&good, &root, &device, 21).is_err());
        for online in [&keys.release, &keys.fleet, &keys.catalog] {
            assert!(Voucher::open(&sign(online), &root, &device, 15).is_err());
        }
    }
}
