//! The sandbox fleet's keys. They live in memory, but for the two that the server needs.
//!
//! Root is 2 of 3 and release 2 of 2, so that rows can steal fewer than a threshold.

use drover_trust::{Domain, Envelope, Role, RoleKeys, Root, SecretKey};

use crate::clock;
use crate::error::{Result, fail};

/// Name of the sandbox fleet.
pub(crate) const FLEET: &str = "sandbox";
/// Life of a root, in seconds.
const ROOT_LIFE: u64 = 400 * 86_400 * 10;

/// Secret keys of all roles.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) root: Vec<SecretKey>,
    pub(crate) release: Vec<SecretKey>,
    pub(crate) catalog: SecretKey,
    pub(crate) fleet: SecretKey,
}

/// A new key.
pub(crate) fn draw() -> Result<SecretKey> {
    random().map(|seed| SecretKey::from_seed(&seed))
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => fail(format!("no random numbers: {error}")),
    }
}

impl Keys {
    /// New keys for a new fleet.
    pub(crate) fn draw() -> Result<Self> {
        Ok(Self {
            root: vec![draw()?, draw()?, draw()?],
            release: vec![draw()?, draw()?],
            catalog: draw()?,
            fleet: draw()?,
        })
    }

    /// The same fleet after the online keys were replaced.
    pub(crate) fn with_new_online_keys(&self) -> Result<Self> {
        Ok(Self {
            catalog: draw()?,
            fleet: draw()?,
            ..self.clone()
        })
    }

    /// Root metadata that names these keys.
    pub(crate) fn metadata(&self, version: u64) -> Root {
        let role = |role, threshold, keys: &[SecretKey]| RoleKeys {
            role,
            threshold,
            keys: keys.iter().map(SecretKey::public).collect(),
        };
        let now = clock::unix_s();
        Root {
            version,
            fleet: FLEET.into(),
            created_unix_s: now.saturating_sub(60),
            expires_unix_s: now + ROOT_LIFE,
            epoch: 0,
            roles: vec![
                role(Role::Root, 2, &self.root),
                role(Role::Release, 2, &self.release),
                role(Role::Catalog, 1, std::slice::from_ref(&self.catalog)),
                role(Role::Fleet, 1, std::slice::from_ref(&self.fleet)),
            ],
        }
    }

    /// Two root keys, the threshold.
    pub(crate) fn root_signers(&self) -> Vec<&SecretKey> {
        self.root.iter().take(2).collect()
    }

    /// Both release keys, the threshold.
    pub(crate) fn release_signers(&self) -> Vec<&SecretKey> {
        self.release.iter().collect()
    }

    /// Root 1, signed.
    pub(crate) fn first_root(&self) -> Result<Envelope> {
        sign_root(&self.metadata(1), &self.root_signers())
    }

    /// The successor of `version`, by which `next` takes over from these keys.
    pub(crate) fn successor(&self, version: u64, next: &Self) -> Result<Envelope> {
        let mut signers = self.root_signers();
        signers.extend(next.root_signers());
        sign_root(&next.metadata(version + 1), &signers)
    }
}

/// A root with the signatures of these keys, each once.
pub(crate) fn sign_root(root: &Root, keys: &[&SecretKey]) -> Result<Envelope> {
    let mut envelope = Envelope::unsigned(root.encode()?);
    for key in keys {
        envelope.sign(Domain::Root, key);
    }
    Ok(envelope)
}
