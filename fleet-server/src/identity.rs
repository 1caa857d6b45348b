//! Who this server is: the fleet's root, and the fleet key that signs for it.
//!
//! The secret key never leaves this module; it is only asked to sign.

use std::path::Path;

use drover_trust::{
    AssignedBundle, Assignment, DeviceId, Domain, Envelope, Role, SecretKey, TrustError,
    TrustedRoot, keyfile,
};
use drover_wire::message::{Addressed, Down};

use crate::{ServerError, clock, random};

/// The fleet's root and this server's key.
#[derive(Debug)]
pub(crate) struct Identity {
    root: TrustedRoot,
    key: SecretKey,
}

/// What an assignment is to say.
#[derive(Clone, Debug)]
pub(crate) struct NewAssignment {
    pub(crate) device: DeviceId,
    pub(crate) sequence: u64,
    pub(crate) rollout: String,
    pub(crate) bundles: Vec<AssignedBundle>,
    pub(crate) ttl_secs: u64,
}

impl Identity {
    /// Reads both files and checks that they belong together.
    pub(crate) fn load(root: &Path, key: &Path) -> Result<Self, ServerError> {
        let bytes = read(root, "root")?;
        let trusted = Envelope::decode(&bytes)
            .and_then(TrustedRoot::self_signed)
            .map_err(|e| content("root", root, e))?;
        let text = String::from_utf8(read(key, "fleet key")?).unwrap_or_default();
        let (role, secret) = keyfile::parse(&text).map_err(|e| content("fleet key", key, e))?;
        let refuse = |why| {
            Err(ServerError::FleetKey {
                path: key.to_path_buf(),
                why,
            })
        };
        if role != Role::Fleet {
            return refuse("it is a key of another role; give the fleet role's key file");
        }
        match trusted.root().role(Role::Fleet) {
            Some(keys) if !keys.keys.contains(&secret.public()) => {
                refuse("the root metadata does not name it; give the key that belongs to the root")
            }
            Some(keys) if keys.threshold > 1 => {
                refuse("the root metadata asks for more than one fleet signature")
            }
            _ => Ok(Self {
                root: trusted,
                key: secret,
            }),
        }
    }

    pub(crate) fn root(&self) -> &TrustedRoot {
        &self.root
    }

    /// Name of the fleet.
    pub(crate) fn fleet(&self) -> &str {
        &self.root.root().fleet
    }

    /// A signed message to one device, ready for its topic.
    pub(crate) fn address(&self, device: &DeviceId, message: Down) -> Result<Vec<u8>, ServerError> {
        let addressed = Addressed {
            device: device.to_string(),
            sent_unix_s: clock::unix_s(),
            message,
        };
        let payload = addressed.encode().map_err(|_| ServerError::Encode)?;
        Envelope::signed(payload, Domain::Down, &self.key)
            .encode()
            .map_err(|_| ServerError::Encode)
    }

    /// A signed assignment and when it expires.
    pub(crate) fn assign(&self, new: NewAssignment) -> Result<(Vec<u8>, u64), ServerError> {
        let now = clock::unix_s();
        let assignment = Assignment {
            fleet: self.fleet().to_owned(),
            device: new.device,
            sequence: new.sequence,
            nonce: random::bytes()?,
            rollout: new.rollout,
            bundles: new.bundles,
            issued_unix_s: now,
            expires_unix_s: now.saturating_add(new.ttl_secs),
        };
        let payload = assignment.encode().map_err(|_| ServerError::Encode)?;
        let envelope = Envelope::signed(payload, Domain::Assignment, &self.key);
        let bytes = envelope.encode().map_err(|_| ServerError::Encode)?;
        Ok((bytes, assignment.expires_unix_s))
    }
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, ServerError> {
    use std::io::Read as _;
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

fn content(what: &'static str, path: &Path, source: TrustError) -> ServerError {
    ServerError::KeyContent {
        what,
        path: path.to_path_buf(),
        source,
    }
}
