//! Who this server is: the fleet's newest root, and the keys that sign for it.
//!
//! The secret keys never leave this module; they are only asked to sign. Several may be given
//! for a role, so that a rotation needs no restart: the one that the newest root names signs.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drover_trust::{
    AssignedBundle, Assignment, Catalog, DeviceId, Domain, Envelope, Role, SecretKey, TrustedRoot,
    keyfile, sealed,
};
use drover_wire::message::{Addressed, Down};

use crate::config::Config;
use crate::roots::Roots;
use crate::{ServerError, clock, random};

/// The fleet's roots and this server's keys.
#[derive(Debug)]
pub(crate) struct Identity {
    fleet: String,
    roots: Arc<Roots>,
    keys: Vec<(Role, SecretKey)>,
}

/// What an assignment is to say.
#[derive(Clone, Debug)]
pub(crate) struct NewAssignment {
    pub(crate) device: DeviceId,
    pub(crate) sequence: u64,
    pub(crate) rollout: String,
    pub(crate) bundles: Vec<AssignedBundle>,
    pub(crate) ttl_secs: u64,
    pub(crate) catalog_version: u64,
}

impl Identity {
    /// Reads the key files and checks that the newest root names them.
    pub(crate) fn load(roots: Arc<Roots>, config: &Config) -> Result<Self, ServerError> {
        let fleet_key = &config.fleet_key;
        let catalog_key = config
            .catalog_key
            .clone()
            .unwrap_or_else(|| fleet_key.with_file_name("catalog.key"));
        let passphrase = config.passphrase_file.as_deref();
        let root = roots.newest();
        let refuse = |role, path: &Path, why| ServerError::RoleKey {
            role,
            path: path.to_path_buf(),
            why,
        };
        let mut keys = vec![key("fleet key", fleet_key, passphrase)?];
        // Without the role, naming the key's file would send people the wrong way.
        if root.root().role(Role::Catalog).is_some() {
            keys.push(key("catalog key", &catalog_key, passphrase)?);
        }
        for path in &config.next_keys {
            keys.push(key("key", path, passphrase)?);
        }
        let identity = Self {
            fleet: root.root().fleet.clone(),
            keys,
            roots,
        };
        for (role, path) in [(Role::Fleet, fleet_key), (Role::Catalog, &catalog_key)] {
            let signs = identity.signs_for(&root, role);
            signs.map_err(|why| refuse(role, path, why))?;
        }
        Ok(identity)
    }

    /// The newest root.
    pub(crate) fn root(&self) -> Arc<TrustedRoot> {
        self.roots.newest()
    }

    /// Name of the fleet.
    pub(crate) fn fleet(&self) -> &str {
        &self.fleet
    }

    /// Whether this server can sign for both online roles under `root`; why not, if not.
    pub(crate) fn can_serve(&self, root: &TrustedRoot) -> Result<(), (Role, String)> {
        for role in [Role::Fleet, Role::Catalog] {
            self.signs_for(root, role).map_err(|why| (role, why))?;
        }
        Ok(())
    }

    fn signs_for(&self, root: &TrustedRoot, role: Role) -> Result<&SecretKey, String> {
        let Some(named) = root.root().role(role) else {
            return Err(format!(
                "root {} has no {role} role; make the next root with one (`drover keys rotate`)",
                root.root().version
            ));
        };
        if named.threshold > 1 {
            return Err(format!(
                "root {} asks for more than one {role} signature, and a server has one",
                root.root().version
            ));
        }
        let mut held = self.keys.iter();
        let found = held.find(|(r, key)| *r == role && named.keys.contains(&key.public()));
        found.map(|(_, key)| key).ok_or_else(|| {
            let ids: Vec<String> = named.keys.iter().map(|k| k.id().to_string()).collect();
            format!(
                "root {} names the {role} keys {}; give the server the file of one of them",
                root.root().version,
                ids.join(", ")
            )
        })
    }

    /// A signed message to one device, ready for its topic.
    pub(crate) fn address(&self, device: &DeviceId, message: Down) -> Result<Vec<u8>, ServerError> {
        let addressed = Addressed {
            device: device.to_string(),
            sent_unix_s: clock::unix_s(),
            message,
        };
        let payload = addressed.encode().map_err(|_| ServerError::Encode)?;
        self.sign(Role::Fleet, Domain::Down, payload)
    }

    /// Signs what the fleet role says; gives the encoded envelope.
    pub(crate) fn sign_as_fleet(
        &self,
        domain: Domain,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, ServerError> {
        self.sign(Role::Fleet, domain, payload)
    }

    /// A signed assignment and when it expires.
    pub(crate) fn assign(&self, new: NewAssignment) -> Result<(Vec<u8>, u64), ServerError> {
        let now = clock::unix_s();
        let assignment = Assignment {
            fleet: self.fleet.clone(),
            device: new.device,
            sequence: new.sequence,
            nonce: random::bytes()?,
            rollout: new.rollout,
            bundles: new.bundles,
            issued_unix_s: now,
            expires_unix_s: now.saturating_add(new.ttl_secs),
            catalog_version: new.catalog_version,
        };
        let payload = assignment.encode().map_err(|_| ServerError::Encode)?;
        let bytes = self.sign(Role::Fleet, Domain::Assignment, payload)?;
        Ok((bytes, assignment.expires_unix_s))
    }

    /// A signed catalog.
    pub(crate) fn catalog(&self, catalog: &Catalog) -> Result<Vec<u8>, ServerError> {
        let payload = catalog.encode().map_err(|_| ServerError::Encode)?;
        self.sign(Role::Catalog, Domain::Catalog, payload)
    }

    fn sign(&self, role: Role, domain: Domain, payload: Vec<u8>) -> Result<Vec<u8>, ServerError> {
        let root = self.root();
        let key = self
            .signs_for(&root, role)
            .map_err(|why| ServerError::RoleKey {
                role,
                path: PathBuf::new(),
                why,
            })?;
        Envelope::signed(payload, domain, key)
            .encode()
            .map_err(|_| ServerError::Encode)
    }
}

fn key(
    what: &'static str,
    path: &Path,
    passphrase: Option<&Path>,
) -> Result<(Role, SecretKey), ServerError> {
    let text = String::from_utf8(read(path, what)?).unwrap_or_default();
    let opened = match (sealed::is_sealed(&text), passphrase) {
        (false, _) => keyfile::parse(&text),
        (true, Some(passphrase)) => {
            let words = String::from_utf8(read(passphrase, "passphrase")?).unwrap_or_default();
            sealed::open(&text, words.lines().next().unwrap_or_default())
        }
        (true, None) => return Err(ServerError::Sealed { path: path.into() }),
    };
    opened.map_err(|source| ServerError::KeyContent {
        what,
        path: path.to_path_buf(),
        source,
    })
}

/// A file with a key or a root.
pub(crate) fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, ServerError> {
    let read = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| ServerError::KeyFile {
        what,
        path: path.to_path_buf(),
        source,
    })
}
