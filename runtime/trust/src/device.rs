//! The identity of a device: derived from its key, so that nobody can hand it out twice.

use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{PublicKey, TrustError};

/// Base32 of the SHA-256 of a device's public key: 26 characters of `a-z2-7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

impl DeviceId {
    /// The identity that belongs to `key`.
    pub fn of(key: &PublicKey) -> Self {
        let text = data_encoding::BASE32_NOPAD.encode(&key.id().0);
        Self(text.to_ascii_lowercase().chars().take(26).collect())
    }

    /// Takes an identity that came from outside.
    ///
    /// # Errors
    /// [`TrustError::Parse`] unless it is 26 characters of `a-z2-7`; so an accepted identity
    /// is safe in topics, file names and queries.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let plain = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        if text.len() == 26 && plain {
            Ok(Self(text.to_string()))
        } else {
            Err(TrustError::Parse("device id"))
        }
    }

    /// The 26 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DeviceId {
    type Error = TrustError;

    fn try_from(text: String) -> Result<Self, TrustError> {
        Self::parse(&text)
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn the_id_follows_from_the_key_for_ever() {
        let id = DeviceId::of(&SecretKey::from_seed(&[1; 32]).public());
        assert_eq!(id.as_str(), "gr2q7gf5lh6pzfdnurnkvputhp");
        assert_eq!(DeviceId::parse(id.as_str()).unwrap(), id);
    }

    #[test]
    fn ids_that_could_escape_a_topic_or_path_are_refused() {
        for text in [
            "",
            "+",
            "#",
            "../aaaaaaaaaaaaaaaaaaaaaaa",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        ] {
            assert!(DeviceId::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
