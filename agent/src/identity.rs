//! Who this device is: its key, its fleet and its certificate, in `<data folder>/identity/`.
//!
//! `device.key` is made once and never leaves the device; `enrolment` is what the fleet
//! answered, renewed with each certificate. Both are for their owner alone (0600) and are
//! replaced whole: a power cut leaves the old file, the new one or none, and enrolment can
//! always be run again.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drover_trust::{DeviceId, Envelope, Role, SecretKey, TrustError, TrustedRoot, keyfile};
use drover_wire::enrol::Access;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

const FOLDER: &str = "identity";
const KEY_FILE: &str = "device.key";
const ENROLMENT_FILE: &str = "enrolment";
/// Format version of the enrolment file.
const VERSION: u8 = 2;
/// Format of agents that had a password instead of a certificate; begins as this one does.
const VERSION_1: u8 = 1;
/// Files here are small; longer ones are damaged.
const MAX_BYTES: u64 = 1 << 20;

/// Why the identity is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("cannot {what} {}; is the data folder there, and writable for this user?", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file is damaged.
    #[error(
        "{} is not a device key; restore it from a backup, or remove the folder and enrol anew",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// The enrolment file is damaged or of another version.
    #[error("{} is not readable: {why}; run `drover-agent enroll` again", path.display())]
    Enrolment {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The stored root does not verify.
    #[error("the stored root of the fleet does not verify; run `drover-agent enroll` again")]
    Root(#[source] TrustError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// A device that is enrolled.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Derived from the key.
    pub device: DeviceId,
    /// Signs everything that goes to the server.
    pub key: SecretKey,
    /// Whose signatures count.
    pub root: TrustedRoot,
    /// Where, and with which certificate.
    pub enrolment: Enrolment,
}

/// What the fleet answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Address of the server.
    pub server: String,
    /// Name of the fleet.
    pub fleet: String,
    /// Encoded envelope of the newest root of the fleet that was verified.
    pub root: Vec<u8>,
    /// How to reach the broker, and as whom.
    pub access: Access,
    /// The server's clock when it answered, in seconds since 1970.
    pub time_floor_s: u64,
}

impl Enrolment {
    /// The root in it.
    ///
    /// # Errors
    /// [`IdentityError::Root`] when it does not verify.
    pub fn root(&self) -> Result<TrustedRoot, IdentityError> {
        root_of(&self.root)
    }
}

/// The fleet that a device takes part in while the agent runs: renewed in place, replaced by
/// a transfer, and watched by whoever connects.
#[derive(Debug)]
pub struct Membership {
    data: PathBuf,
    device: DeviceId,
    key: SecretKey,
    current: watch::Sender<Arc<Enrolment>>,
}

impl Membership {
    /// That of a device whose identity lies in `data`.
    #[must_use]
    pub fn new(data: &Path, identity: &Identity) -> Self {
        Self {
            data: data.to_owned(),
            device: identity.device.clone(),
            key: identity.key.clone(),
            current: watch::Sender::new(Arc::new(identity.enrolment.clone())),
        }
    }

    /// Identity of the device, whatever its fleet.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Key of the device.
    #[must_use]
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// What holds now.
    #[must_use]
    pub fn current(&self) -> Arc<Enrolment> {
        Arc::clone(&self.current.borrow())
    }

    /// Hears of a change of the fleet.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Enrolment>> {
        self.current.subscribe()
    }

    /// Stores a renewed `enrolment`, unless the device has left that fleet meanwhile.
    ///
    /// # Errors
    /// [`IdentityError::File`]; the former one holds then.
    pub(crate) fn renew(&self, enrolment: Enrolment) -> Result<(), IdentityError> {
        let mut outcome = Ok(());
        // The file is written under the lock, so that both change in the same order. Whoever
        // asked for the renewal knows of it; nobody else needs to.
        self.current.send_if_modified(|current| {
            if current.fleet == enrolment.fleet && current.server == enrolment.server {
                outcome = self.put(current, enrolment);
            }
            false
        });
        outcome
    }

    /// Stores the enrolment in another fleet.
    ///
    /// # Errors
    /// [`IdentityError::File`]; the former one holds then.
    pub(crate) fn join(&self, enrolment: Enrolment) -> Result<(), IdentityError> {
        let mut outcome = Ok(());
        self.current.send_if_modified(|current| {
            outcome = self.put(current, enrolment);
            outcome.is_ok()
        });
        outcome
    }

    fn put(&self, current: &mut Arc<Enrolment>, enrolment: Enrolment) -> Result<(), IdentityError> {
        save_enrolment(&self.data, &enrolment)?;
        *current = Arc::new(enrolment);
        Ok(())
    }
}

impl Identity {
    /// Reads the identity; none when the device is not enrolled.
    ///
    /// # Errors
    /// [`IdentityError`] when it is there and of no use.
    pub fn load(data: &Path) -> Result<Option<Self>, IdentityError> {
        let (Some(key), Some(enrolment)) = (load_key(data)?, load_enrolment(data)?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            device: DeviceId::of(&key.public()),
            root: enrolment.root()?,
            key,
            enrolment,
        }))
    }
}

/// Where the identity is kept.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join(FOLDER)
}

/// The key of this device, made at the first call.
///
/// # Errors
/// [`IdentityError`].
pub(crate) fn load_or_make_key(data: &Path) -> Result<SecretKey, IdentityError> {
    if let Some(key) = load_key(data)? {
        return Ok(key);
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(IdentityError::Random)?;
    let key = SecretKey::from_seed(&seed);
    let text = keyfile::format(Role::Device, &key);
    write(data, KEY_FILE, text.as_bytes())?;
    Ok(key)
}

fn load_key(data: &Path) -> Result<Option<SecretKey>, IdentityError> {
    let path = folder(data).join(KEY_FILE);
    let Some(bytes) = read(&path)? else {
        return Ok(None);
    };
    let parsed = std::str::from_utf8(&bytes)
        .map_err(|_| TrustError::Parse("key file"))
        .and_then(keyfile::parse);
    match parsed {
        Ok((Role::Device, key)) => Ok(Some(key)),
        Ok(_) => Err(TrustError::Parse("key file")),
        Err(error) => Err(error),
    }
    .map_err(|source| IdentityError::Key { path, source })
}

/// What the fleet answered before, if it did.
///
/// # Errors
/// [`IdentityError`].
pub(crate) fn load_enrolment(data: &Path) -> Result<Option<Enrolment>, IdentityError> {
    let path = folder(data).join(ENROLMENT_FILE);
    let Some(bytes) = read(&path)? else {
        return Ok(None);
    };
    let parsed = match bytes.split_first() {
        Some((&VERSION, body)) => postcard::take_from_bytes(body)
            .ok()
            .and_then(|(value, rest)| rest.is_empty().then_some(value))
            .ok_or("it does not parse"),
        Some((&VERSION_1, _)) => Err("it is of an earlier agent and holds no certificate"),
        Some(_) => Err("another version of the agent wrote it"),
        None => Err("it is empty"),
    };
    let refuse = |why| IdentityError::Enrolment { path, why };
    parsed.map(Some).map_err(refuse)
}

/// The root of the fleet that this device belongs to, out of an enrolment of any format.
///
/// # Errors
/// [`IdentityError`].
pub(crate) fn known_root(data: &Path) -> Result<Option<TrustedRoot>, IdentityError> {
    let path = folder(data).join(ENROLMENT_FILE);
    let Some(bytes) = read(&path)? else {
        return Ok(None);
    };
    // Both formats begin with server, fleet and root.
    type Head = (String, String, Vec<u8>);
    let head = match bytes.split_first() {
        Some((&(VERSION | VERSION_1), body)) => postcard::take_from_bytes::<Head>(body).ok(),
        _ => None,
    };
    let ((_, _, root), _) = head.ok_or(IdentityError::Enrolment {
        path,
        why: "it does not parse",
    })?;
    root_of(&root).map(Some)
}

fn root_of(bytes: &[u8]) -> Result<TrustedRoot, IdentityError> {
    Envelope::decode(bytes)
        .and_then(TrustedRoot::self_signed)
        .map_err(IdentityError::Root)
}

/// Keeps what the fleet answered.
///
/// # Errors
/// [`IdentityError::File`].
pub(crate) fn save_enrolment(data: &Path, enrolment: &Enrolment) -> Result<(), IdentityError> {
    let bytes =
        postcard::to_extend(enrolment, vec![VERSION]).expect("serializing into a Vec cannot fail");
    write(data, ENROLMENT_FILE, &bytes)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    let read = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::File {
            what: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Replaces a file as a whole, for its owner alone.
fn write(data: &Path, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    let folder = folder(data);
    let path = folder.join(name);
    let act = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        // Made with 0600 by the crate; never readable for others, not even for a moment.
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        // The names, down to the data folder's own, must survive a power cut too.
        for folder in [folder.as_path(), data] {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    act().map_err(|source| IdentityError::File {
        what: "write",
        path: path.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn enrolment(fleet: &str) -> Enrolment {
        Enrolment {
            server: "s".into(),
            fleet: fleet.into(),
            root: vec![7],
            access: Access {
                broker_host: "h".into(),
                broker_port: 300,
                certificate: vec![8],
                expires_unix_s: 9,
                renew_unix_s: 6,
                authorities: vec![vec![5]],
            },
            time_floor_s: 4,
        }
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let data = tempfile::tempdir().unwrap();
        let key = load_or_make_key(data.path()).unwrap();
        assert_eq!(load_or_make_key(data.path()).unwrap().seed(), key.seed());
        let path = data.path().join(FOLDER).join(KEY_FILE);
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Identity::load(data.path()).unwrap().is_none());

        std::fs::write(&path, "drover").unwrap();
        let message = load_or_make_key(data.path()).unwrap_err().to_string();
        assert!(message.contains("is not a device key"), "{message}");
    }

    /// Golden bytes of format 2; never to be edited.
    #[test]
    fn version_2_bytes_of_the_enrolment() {
        let data = tempfile::tempdir().unwrap();
        save_enrolment(data.path(), &enrolment("f")).unwrap();
        let bytes = std::fs::read(data.path().join(FOLDER).join(ENROLMENT_FILE)).unwrap();
        let mut wanted = vec![2, 1, b's', 1, b'f', 1, 7];
        wanted.extend([1, b'h', 0xac, 2, 1, 8, 9, 6, 1, 1, 5, 4]);
        assert_eq!(bytes, wanted);
        assert_eq!(load_enrolment(data.path()).unwrap(), Some(enrolment("f")));
    }

    /// Golden bytes of format 1; never to be edited.
    #[test]
    fn an_enrolment_of_format_1_asks_for_a_new_one() {
        let data = tempfile::tempdir().unwrap();
        load_or_make_key(data.path()).unwrap();
        let bytes = [1, 1, b's', 1, b'f', 1, 7, 1, b'h', 0xac, 2, 1, b'p'];
        write(data.path(), ENROLMENT_FILE, &bytes).unwrap();
        let message = Identity::load(data.path()).unwrap_err().to_string();
        assert!(message.contains("holds no certificate"), "{message}");
        assert!(message.contains("drover-agent enroll"), "{message}");
    }

    #[test]
    fn a_renewal_of_a_fleet_that_was_left_changes_nothing() {
        let data = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed(&[1; 32]);
        let member = Membership {
            data: data.path().into(),
            device: DeviceId::of(&key.public()),
            key,
            current: watch::Sender::new(Arc::new(enrolment("f"))),
        };
        member.join(enrolment("g")).unwrap();
        member.renew(enrolment("f")).unwrap();
        assert_eq!(member.current().fleet, "g");
        assert_eq!(load_enrolment(data.path()).unwrap(), Some(enrolment("g")));
        let mut later = enrolment("g");
        later.time_floor_s = 5;
        member.renew(later.clone()).unwrap();
        assert_eq!(*member.current(), later);
    }
}
