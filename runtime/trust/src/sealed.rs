//! The text form of a secret key in a file that a passphrase protects.
//!
//! ```text
//! drover secret key v2
//! role: release
//! public: <64 hexadecimal digits>
//! -----BEGIN ENCRYPTED PRIVATE KEY-----
//! ...
//! -----END ENCRYPTED PRIVATE KEY-----
//! ```
//!
//! The block is PKCS #8 (RFC 5958, RFC 8410) under PBES2 with scrypt and AES-256-CBC, as
//! other tools read it. Role and public key stand outside for people; the public key is
//! compared with the secret after opening, and a wrong role only makes a key that no root
//! names for it. Asking for the passphrase and drawing random numbers is the caller's.

use alloc::format;
use alloc::string::String;

use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{EncryptedPrivateKeyInfoOwned, LineEnding, SecretDocument};

use crate::keyfile::{SEALED_HEADER as HEADER, public_of, role_of};
use crate::{Role, SecretKey, TrustError};

const LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// DER of an ed25519 `PrivateKeyInfo` up to the seed (RFC 8410, section 7).
const PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Random numbers for one file; never to be used twice.
#[derive(Clone, Copy)]
pub struct Entropy {
    /// Salt of the passphrase.
    pub salt: [u8; 16],
    /// Start of the cipher.
    pub iv: [u8; 16],
}

/// Whether the text is a key file that needs a passphrase.
pub fn is_sealed(text: &str) -> bool {
    text.lines().next() == Some(HEADER)
}

/// DER of the key as PKCS #8, unprotected: what TLS libraries take.
pub fn to_pkcs8(key: &SecretKey) -> [u8; 48] {
    let mut der = [0; 48];
    let (head, seed) = der.split_at_mut(PREFIX.len());
    head.copy_from_slice(&PREFIX);
    seed.copy_from_slice(&key.seed());
    der
}

/// Text of a key file that `passphrase` opens. Takes about half a second and 128 MiB, as
/// guessing does.
///
/// # Errors
/// [`TrustError::Parse`] when the library refuses, which it has no reason to.
pub fn seal(
    role: Role,
    key: &SecretKey,
    passphrase: &str,
    entropy: Entropy,
) -> Result<String, TrustError> {
    const BAD: TrustError = TrustError::Parse("sealed key");
    let parameters =
        Parameters::generate_scrypt_aes256cbc(Default::default(), &entropy.salt, entropy.iv)
            .map_err(|_| BAD)?;
    let data = parameters.encrypt(passphrase, &to_pkcs8(key));
    let info = EncryptedPrivateKeyInfoOwned {
        encryption_algorithm: parameters.into(),
        encrypted_data: pkcs8::der::asn1::OctetString::new(data.map_err(|_| BAD)?)
            .map_err(|_| BAD)?,
    };
    let document: SecretDocument = info.try_into().map_err(|_| BAD)?;
    let pem = document.to_pem(LABEL, LineEnding::LF).map_err(|_| BAD)?;
    let public = key.public().to_hex();
    Ok(format!(
        "{HEADER}\nrole: {role}\npublic: {public}\n{}",
        *pem
    ))
}

/// Opens what [`seal`] wrote.
///
/// # Errors
/// [`TrustError::Passphrase`] when the passphrase is wrong, [`TrustError::Parse`] when it is
/// no sealed key file or its public half does not belong to it.
pub fn open(text: &str, passphrase: &str) -> Result<(Role, SecretKey), TrustError> {
    const BAD: TrustError = TrustError::Parse("key file");
    let rest = text.strip_prefix(HEADER).and_then(|t| t.strip_prefix('\n'));
    let (role, rest) = role_of(rest.ok_or(BAD)?)?;
    let (public, pem) = public_of(rest)?;
    let (label, document) = SecretDocument::from_pem(pem).map_err(|_| BAD)?;
    if label != LABEL {
        return Err(BAD);
    }
    let info = EncryptedPrivateKeyInfoOwned::try_from(document.as_bytes()).map_err(|_| BAD)?;
    if !info.encryption_algorithm.pbes2().is_some_and(is_affordable) {
        return Err(BAD);
    }
    let der = info
        .decrypt(passphrase)
        .map_err(|_| TrustError::Passphrase)?;
    let seed = der.as_bytes().strip_prefix(&PREFIX);
    let seed: [u8; 32] = seed.and_then(|s| s.try_into().ok()).ok_or(BAD)?;
    let key = SecretKey::from_seed(&seed);
    if key.public().to_hex() != public {
        return Err(BAD);
    }
    Ok((role, key))
}

/// Whether opening takes no more than what [`seal`] writes. The file says how much work and
/// memory that is, and one from elsewhere must not take all there is.
fn is_affordable(parameters: &Parameters) -> bool {
    parameters.kdf.scrypt().is_some_and(|scrypt| {
        scrypt.cost_parameter <= 1 << 17 && scrypt.block_size <= 8 && scrypt.parallelization <= 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> String {
        let entropy = Entropy {
            salt: [1; 16],
            iv: [2; 16],
        };
        let key = SecretKey::from_seed(&[5; 32]);
        seal(Role::Release, &key, "correct horse", entropy).unwrap()
    }

    #[test]
    fn the_right_passphrase_opens_it_and_nothing_else_does() {
        let text = sealed();
        assert!(is_sealed(&text));
        let (role, key) = open(&text, "correct horse").unwrap();
        assert_eq!((role, key.seed()), (Role::Release, [5; 32]));
        assert_eq!(
            open(&text, "wrong horse").unwrap_err(),
            TrustError::Passphrase
        );
        let seed = data_encoding::HEXLOWER.encode(&[5; 32]);
        assert!(!text.contains(&seed));
    }

    #[test]
    fn a_file_that_asks_for_all_memory_is_refused_at_once() {
        let text = sealed();
        let (_, pem) = text.split_once("-----BEGIN").unwrap();
        let (_, document) = SecretDocument::from_pem(&format!("-----BEGIN{pem}")).unwrap();
        let info = EncryptedPrivateKeyInfoOwned::try_from(document.as_bytes()).unwrap();
        let mut parameters = info.encryption_algorithm.pbes2().unwrap().clone();
        assert!(is_affordable(&parameters));
        let pkcs8::pkcs5::pbes2::Kdf::Scrypt(scrypt) = &mut parameters.kdf else {
            panic!("sealed by another function");
        };
        scrypt.cost_parameter = 1 << 40;
        let hostile = EncryptedPrivateKeyInfoOwned {
            encryption_algorithm: parameters.into(),
            encrypted_data: info.encrypted_data.clone(),
        };
        let document: SecretDocument = hostile.try_into().unwrap();
        let pem = document.to_pem(LABEL, LineEnding::LF).unwrap();
        let (head, _) = text.split_once("-----BEGIN").unwrap();
        let hostile = format!("{head}{}", *pem);
        assert_eq!(
            open(&hostile, "correct horse").unwrap_err(),
            TrustError::Parse("key file")
        );
    }

    #[test]
    fn a_file_that_was_put_together_is_refused() {
        let text = sealed();
        let other = SecretKey::from_seed(&[6; 32]).public().to_hex();
        let own = SecretKey::from_seed(&[5; 32]).public().to_hex();
        for bad in [
            text.replace(&own, &other),
            text.replace("role: release", "role: king"),
            text.replace("ENCRYPTED PRIVATE", "PRIVATE"),
            text.replace("v2", "v3"),
        ] {
            assert!(open(&bad, "correct horse").is_err(), "{bad}");
        }
    }
}
