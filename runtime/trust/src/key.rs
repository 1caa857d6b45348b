//! Ed25519 keys and their identities.

use alloc::string::String;
use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TrustError;
use crate::mutation::{Check, is_disabled};

/// SHA-256 of a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    /// The first 16 hexadecimal digits: enough for people, never used to decide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// An ed25519 public key, as its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The identity of this key.
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(self.0).into())
    }

    /// Lower-case hexadecimal form.
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// Whether this is a point of the curve and not one of small order.
    ///
    /// # Errors
    /// [`TrustError::Key`] when it is not.
    pub fn check(&self) -> Result<(), TrustError> {
        self.point().map(|_| ())
    }

    /// Whether `signature` is this key's over `message`, by the strict rules: no small-order
    /// points, no second encoding of the same signature.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        is_disabled(Check::Signature)
            || self
                .point()
                .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }

    fn point(&self) -> Result<VerifyingKey, TrustError> {
        match VerifyingKey::from_bytes(&self.0) {
            // A second encoding of one point would let one key count as two.
            Ok(key) if !key.is_weak() && key.to_edwards().compress().to_bytes() == self.0 => {
                Ok(key)
            }
            _ => Err(TrustError::Key),
        }
    }
}

/// An ed25519 secret key. It never shows itself in logs and is wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Takes 32 bytes from a cryptographic random source, or from a key file.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The 32 bytes that [`Self::from_seed`] takes, for a key file.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs raw bytes. Metadata is signed by [`crate::Envelope::sign`], which adds the
    /// domain.
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_order_and_invalid_points_are_refused() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert_eq!(PublicKey(identity).check(), Err(TrustError::Key));
        assert_eq!(PublicKey([0; 32]).check(), Err(TrustError::Key));
        assert_eq!(PublicKey([2; 32]).check(), Err(TrustError::Key));
        // A zero signature by the identity point verifies under lax rules.
        let mut lax = [0u8; 64];
        lax[0] = 1;
        assert!(!PublicKey(identity).verifies(b"anything", &lax));
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_match_rfc_8032() {
        let hex = |s: &str| data_encoding::HEXLOWER.decode(s.as_bytes()).unwrap();
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SecretKey::from_seed(&seed.try_into().unwrap());
        assert_eq!(
            key.public().to_hex(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        let signature = key.sign_bytes(&[0x72]);
        assert_eq!(
            signature.to_vec(),
            hex(
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            )
        );
        assert!(key.public().verifies(&[0x72], &signature));
        assert!(!key.public().verifies(&[0x73], &signature));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let key = SecretKey::from_seed(&[7; 32]);
        assert!(!format!("{key:?}").contains("0707"));
    }
}
