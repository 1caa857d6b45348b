//! Root metadata: which keys speak for which role, and how many of them must agree.
//!
//! The chain starts at a root that is pinned (by its hash, at enrolment or in the image) and
//! grows only by exactly one version at a time, signed by the threshold of both the old and
//! the new root.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::envelope::{limit, parse_versioned};
use crate::mutation::{Check, is_disabled};
use crate::{Domain, Envelope, PublicKey, TrustError};

/// Format version of root metadata that is written; version 1, without end and epoch, is read.
pub const VERSION: u8 = 2;
/// Roots walked in one go at most.
pub const MAX_WALK: usize = 1024;
/// Root metadata larger than this is refused before it is parsed, in bytes.
pub const MAX_BYTES: usize = 32 * 1024;

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Offline; names the keys of all roles.
    Root,
    /// Offline or in CI; signs bundle manifests.
    Release,
    /// Online, short-lived; lists all releases.
    Catalog,
    /// Online; signs each device's assignment and messages.
    Fleet,
    /// One board; signs its own reports.
    Device,
}

impl Role {
    /// The role of this name, as it is displayed.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "root" => Self::Root,
            "release" => Self::Release,
            "catalog" => Self::Catalog,
            "fleet" => Self::Fleet,
            "device" => Self::Device,
            _ => return None,
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Catalog => "catalog",
            Self::Fleet => "fleet",
            Self::Device => "device",
        })
    }
}

/// The keys of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Which role.
    pub role: Role,
    /// How many distinct keys must sign.
    pub threshold: u8,
    /// Keys that may sign.
    pub keys: Vec<PublicKey>,
}

/// The payload of root metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// 1, then one more each time.
    pub version: u64,
    /// Name of the fleet; metadata of another fleet is refused.
    pub fleet: String,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: u64,
    /// When a newer one must have followed, in seconds since 1970: after it no instruction is
    /// accepted under this root, while its successors still are.
    pub expires_unix_s: u64,
    /// Least security epoch of bundles that are newly accepted.
    pub epoch: u64,
    /// Root, release, catalog and fleet, once each.
    pub roles: Vec<RoleKeys>,
}

/// Format 1, as it lies on devices and in image pins.
#[derive(Deserialize)]
struct RootV1 {
    version: u64,
    fleet: String,
    created_unix_s: u64,
    roles: Vec<RoleKeys>,
}

impl From<RootV1> for Root {
    fn from(v1: RootV1) -> Self {
        Self {
            version: v1.version,
            fleet: v1.fleet,
            created_unix_s: v1.created_unix_s,
            expires_unix_s: u64::MAX,
            epoch: 0,
            roles: v1.roles,
        }
    }
}

impl Root {
    /// Bytes to sign.
    ///
    /// # Errors
    /// [`TrustError::Root`] when the roles are not acceptable.
    pub fn encode(&self) -> Result<Vec<u8>, TrustError> {
        self.check()?;
        let bytes = alloc::vec![VERSION];
        postcard::to_extend(self, bytes).map_err(|_| TrustError::Parse("root"))
    }

    /// What a root says, without any verification: only to show it to people who are about
    /// to sign it.
    ///
    /// # Errors
    /// Any parsing error.
    pub fn unverified(envelope: &Envelope) -> Result<Self, TrustError> {
        Self::decode(envelope.unverified_payload())
    }

    fn decode(bytes: &[u8]) -> Result<Self, TrustError> {
        limit("root", bytes.len(), MAX_BYTES)?;
        let root: Self = match bytes.first() {
            Some(1) => parse_versioned::<RootV1>("root", 1, bytes)?.into(),
            _ => parse_versioned("root", VERSION, bytes)?,
        };
        root.check()?;
        Ok(root)
    }

    /// The keys of `role`, if root names any.
    pub fn role(&self, role: Role) -> Option<&RoleKeys> {
        self.roles.iter().find(|r| r.role == role)
    }

    fn check(&self) -> Result<(), TrustError> {
        if self.fleet.is_empty() || self.fleet.len() > 64 {
            return Err(TrustError::Root("the fleet's name has 1 to 64 bytes"));
        }
        for (i, entry) in self.roles.iter().enumerate() {
            if entry.role == Role::Device {
                return Err(TrustError::Root("devices are not named by root"));
            }
            if self.roles.iter().take(i).any(|r| r.role == entry.role) {
                return Err(TrustError::Root("a role is listed twice"));
            }
            let threshold = usize::from(entry.threshold);
            if threshold == 0 || threshold > entry.keys.len() || entry.keys.len() > 16 {
                return Err(TrustError::Root(
                    "thresholds lie between 1 and the number of keys, at most 16",
                ));
            }
            for (j, key) in entry.keys.iter().enumerate() {
                key.check()?;
                if entry.keys.iter().take(j).any(|k| k == key) {
                    return Err(TrustError::Root("a key is listed twice in a role"));
                }
            }
        }
        for role in [Role::Root, Role::Release, Role::Fleet] {
            if self.role(role).is_none() {
                return Err(TrustError::Root("root, release and fleet need keys"));
            }
        }
        Ok(())
    }

    fn signed_by_own_roots(&self, envelope: &Envelope) -> Result<(), TrustError> {
        match self.role(Role::Root) {
            Some(keys) => check_threshold(keys, Domain::Root, envelope),
            None => Err(TrustError::Root("root has no keys")),
        }
    }
}

fn check_threshold(keys: &RoleKeys, domain: Domain, envelope: &Envelope) -> Result<(), TrustError> {
    let got = envelope.count(domain, &keys.keys);
    let needed = usize::from(keys.threshold);
    if got < needed && !(is_disabled(Check::Threshold) && got > 0) {
        return Err(TrustError::Threshold {
            role: keys.role,
            got,
            needed,
        });
    }
    Ok(())
}

/// A root that has been verified; everything else is verified against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot {
    root: Root,
    envelope: Envelope,
}

impl TrustedRoot {
    /// Trusts a root because its hash was handed over by a channel that is trusted.
    ///
    /// # Errors
    /// [`TrustError::Root`] when the hash differs, or any error of its own signatures.
    pub fn pinned(envelope: Envelope, sha256: &[u8; 32]) -> Result<Self, TrustError> {
        if Self::pin_of(&envelope) != *sha256 {
            return Err(TrustError::Root("the root is not the pinned one"));
        }
        Self::self_signed(envelope)
    }

    /// Trusts a root that comes from this machine's own trusted storage; its signatures by
    /// its own keys are checked all the same.
    ///
    /// # Errors
    /// Any parsing or threshold error.
    pub fn self_signed(envelope: Envelope) -> Result<Self, TrustError> {
        let root = Root::decode(envelope.unverified_payload())?;
        root.signed_by_own_roots(&envelope)?;
        Ok(Self { root, envelope })
    }

    /// The hash that [`Self::pinned`] wants: SHA-256 of the signed payload.
    pub fn pin_of(envelope: &Envelope) -> [u8; 32] {
        Sha256::digest(envelope.unverified_payload()).into()
    }

    /// Moves to the next version.
    ///
    /// Its end does not matter here: roots are followed however late, so that a device that
    /// slept for years catches up.
    ///
    /// # Errors
    /// [`TrustError::RootVersion`] unless it is exactly the next one, and
    /// [`TrustError::Threshold`] unless both old and new root keys agree.
    pub fn advance(&self, envelope: Envelope) -> Result<Self, TrustError> {
        let old = self.root.role(Role::Root);
        let old = old.ok_or(TrustError::Root("root has no keys"))?;
        if !is_disabled(Check::RootPredecessor) {
            check_threshold(old, Domain::Root, &envelope)?;
        }
        let next = Self::self_signed(envelope)?;
        if next.root.fleet != self.root.fleet {
            return Err(TrustError::Fleet);
        }
        let follows = self.root.version.checked_add(1) == Some(next.root.version);
        if !follows && !is_disabled(Check::RootVersion) {
            return Err(TrustError::RootVersion {
                have: self.root.version,
                got: next.root.version,
            });
        }
        Ok(next)
    }

    /// Follows a chain of successors; those that are known already are passed over.
    ///
    /// Gives the newest root that could be reached, and why it went no further.
    pub fn walk(&self, chain: impl IntoIterator<Item = Envelope>) -> (Self, Option<TrustError>) {
        let mut newest = self.clone();
        for envelope in chain.into_iter().take(MAX_WALK) {
            let offered = match Root::decode(envelope.unverified_payload()) {
                Ok(root) => root.version,
                Err(error) => return (newest, Some(error)),
            };
            if offered <= newest.root.version && !is_disabled(Check::RootVersion) {
                continue;
            }
            match newest.advance(envelope) {
                Ok(next) => newest = next,
                Err(error) => return (newest, Some(error)),
            }
        }
        (newest, None)
    }

    /// Whether instructions may still be accepted under this root.
    ///
    /// # Errors
    /// [`TrustError::Stale`] past its end.
    pub fn check_fresh(&self, now_unix_s: u64) -> Result<(), TrustError> {
        let expired = self.root.expires_unix_s;
        if expired < now_unix_s {
            return Err(TrustError::Stale {
                what: "root",
                expired,
                now: now_unix_s,
            });
        }
        Ok(())
    }

    /// Whether `next` took a key away from `role`. What that key counted (versions,
    /// sequences, times) may have been an attacker's, and starts anew.
    pub fn revokes(&self, role: Role, next: &Self) -> bool {
        let keys = |root: &Root| root.role(role).map_or(Vec::new(), |r| r.keys.clone());
        let kept = keys(&next.root);
        keys(&self.root).iter().any(|key| !kept.contains(key))
    }

    /// The payload of `envelope`, if the threshold of `role` signed it for `domain`.
    ///
    /// # Errors
    /// [`TrustError::Threshold`] when too few did.
    pub fn verify<'e>(
        &self,
        role: Role,
        domain: Domain,
        envelope: &'e Envelope,
    ) -> Result<&'e [u8], TrustError> {
        match self.root.role(role) {
            Some(keys) => check_threshold(keys, domain, envelope)?,
            None => {
                return Err(TrustError::Threshold {
                    role,
                    got: 0,
                    needed: 1,
                });
            }
        }
        Ok(envelope.unverified_payload())
    }

    /// What it says.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// How it came, to store or to hand on.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

#[cfg(test)]
mod tests;
