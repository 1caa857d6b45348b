//! Keys and roots for tests, the same in every crate.
//!
//! Behind the feature `fixture`, which only dev-dependencies enable: these keys are known to
//! everybody.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Domain, Envelope, PublicKey, Role, RoleKeys, Root, SecretKey, TrustedRoot};

/// When fixture roots were made, in seconds since 1970.
pub const CREATED: u64 = 1_700_000_000;

/// The key that every byte of whose seed is `n`.
pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

/// One key per role of a fleet.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Name of the fleet.
    pub fleet_name: &'static str,
    /// Signs roots.
    pub root: SecretKey,
    /// Signs manifests.
    pub release: SecretKey,
    /// Signs catalogs.
    pub catalog: SecretKey,
    /// Signs assignments and messages.
    pub fleet: SecretKey,
}

impl Keys {
    /// Keys 1 to 4.
    pub fn new(fleet_name: &'static str) -> Self {
        Self {
            fleet_name,
            root: key(1),
            release: key(2),
            catalog: key(3),
            fleet: key(4),
        }
    }

    /// Root metadata of this version that names these keys, each with threshold 1, and lasts
    /// for ten years.
    pub fn root_metadata(&self, version: u64) -> Root {
        let role = |role, key: &SecretKey| role_keys(role, 1, vec![key.public()]);
        Root {
            version,
            fleet: self.fleet_name.into(),
            created_unix_s: CREATED,
            expires_unix_s: CREATED + 10 * 366 * 86_400,
            epoch: 0,
            roles: vec![
                role(Role::Root, &self.root),
                role(Role::Release, &self.release),
                role(Role::Catalog, &self.catalog),
                role(Role::Fleet, &self.fleet),
            ],
        }
    }

    /// Root 1, signed.
    pub fn envelope(&self) -> Envelope {
        signed_root(&self.root_metadata(1), &[&self.root])
    }

    /// Root 1, trusted.
    pub fn trusted(&self) -> TrustedRoot {
        TrustedRoot::self_signed(self.envelope()).expect("the fixture is consistent")
    }
}

/// Keys of a role.
pub fn role_keys(role: Role, threshold: u8, keys: Vec<PublicKey>) -> RoleKeys {
    RoleKeys {
        role,
        threshold,
        keys,
    }
}

/// A root signed by these keys.
pub fn signed_root(root: &Root, keys: &[&SecretKey]) -> Envelope {
    let payload = root.encode().expect("the fixture is consistent");
    let mut envelope = Envelope::unsigned(payload);
    for key in keys {
        envelope.sign(Domain::Root, key);
    }
    envelope
}
