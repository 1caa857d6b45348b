//! Who this device is: its key, its fleet and its broker, in `<data folder>/identity/`.
//!
//! `device.key` is made once and never leaves the device; `enrolment` is what the fleet
//! answered. Both are for their owner alone (0600) and are replaced whole: a power cut leaves
//! the old file, the new one or none, and enrolment can always be run again.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use drover_trust::{DeviceId, Envelope, Role, SecretKey, TrustError, TrustedRoot, keyfile};
use serde::{Deserialize, Serialize};

const FOLDER: &str = "identity";
const KEY_FILE: &str = "device.key";
const ENROLMENT_FILE: &str = "enrolment";
/// Format version of the enrolment file.
const VERSION: u8 = 1;

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
    /// Where, and with which credentials.
    pub enrolment: Enrolment,
}

/// What the fleet answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Address of the server.
    pub server: String,
    /// Name of the fleet.
    pub fleet: String,
    /// Encoded envelope of the fleet's root.
    pub root: Vec<u8>,
    /// Host of the broker.
    pub broker_host: String,
    /// Port of the broker.
    pub broker_port: u16,
    /// MQTT password of this device.
    pub mqtt_password: String,
}

impl std::fmt::Debug for Enrolment {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment")
            .field("server", &self.server)
            .field("fleet", &self.fleet)
            .field("broker_host", &self.broker_host)
            .field("broker_port", &self.broker_port)
            .finish_non_exhaustive()
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
        let root = Envelope::decode(&enrolment.root)
            .and_then(TrustedRoot::self_signed)
            .map_err(IdentityError::Root)?;
        Ok(Some(Self {
            device: DeviceId::of(&key.public()),
            key,
            root,
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
        Some(_) => Err("another version of the agent wrote it"),
        None => Err("it is empty"),
    };
    let refuse = |why| IdentityError::Enrolment { path, why };
    parsed.map(Some).map_err(refuse)
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
    match std::fs::read(path) {
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

    fn enrolment() -> Enrolment {
        Enrolment {
            server: "s".into(),
            fleet: "f".into(),
            root: vec![7],
            broker_host: "h".into(),
            broker_port: 300,
            mqtt_password: "p".into(),
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

    /// Golden bytes of format 1; never to be edited.
    #[test]
    fn version_1_bytes_of_the_enrolment() {
        let data = tempfile::tempdir().unwrap();
        save_enrolment(data.path(), &enrolment()).unwrap();
        let bytes = std::fs::read(data.path().join(FOLDER).join(ENROLMENT_FILE)).unwrap();
        let wanted = [1, 1, b's', 1, b'f', 1, 7, 1, b'h', 0xac, 2, 1, b'p'];
        assert_eq!(bytes, wanted);
        assert_eq!(load_enrolment(data.path()).unwrap(), Some(enrolment()));
    }
}
