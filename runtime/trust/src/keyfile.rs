//! The text form of a secret key in a file.
//!
//! Four lines, so that a person who finds the file sees what it is:
//!
//! ```text
//! drover secret key v1
//! role: release
//! public: <64 hexadecimal digits>
//! seed: <64 hexadecimal digits>
//! ```
//!
//! Reading and writing the file, with permissions for its owner alone, is the caller's.

use alloc::format;
use alloc::string::String;

use crate::{PublicKey, Role, SecretKey, TrustError};

const HEADER: &str = "drover secret key v1";
/// First line of a key file that a passphrase protects.
pub(crate) const SEALED_HEADER: &str = "drover secret key v2";

/// Text of a key file.
pub fn format(role: Role, key: &SecretKey) -> String {
    let public = key.public().to_hex();
    let seed = data_encoding::HEXLOWER.encode(&key.seed());
    format!("{HEADER}\nrole: {role}\npublic: {public}\nseed: {seed}\n")
}

const BAD: TrustError = TrustError::Parse("key file");

/// Reads the text of a key file.
///
/// # Errors
/// [`TrustError::Parse`] when it is not one, or when its public half does not belong to its
/// seed.
pub fn parse(text: &str) -> Result<(Role, SecretKey), TrustError> {
    let rest = text.strip_prefix(HEADER).and_then(|t| t.strip_prefix('\n'));
    let (role, rest) = role_of(rest.ok_or(BAD)?)?;
    let (public, rest) = public_of(rest)?;
    let (seed, _) = field(rest, "seed:")?;
    let seed = data_encoding::HEXLOWER.decode(seed.as_bytes());
    let seed: [u8; 32] = seed.ok().and_then(|s| s.try_into().ok()).ok_or(BAD)?;
    let key = SecretKey::from_seed(&seed);
    if key.public().to_hex() != public {
        return Err(BAD);
    }
    Ok((role, key))
}

/// What a key file shows without its secret: role, public key, and whether a passphrase
/// protects it. Nothing of it is verified.
///
/// # Errors
/// [`TrustError::Parse`] when it is no key file.
pub fn outside(text: &str) -> Result<(Role, PublicKey, bool), TrustError> {
    let (header, rest) = text.split_once('\n').ok_or(BAD)?;
    let protected = match header {
        HEADER => false,
        SEALED_HEADER => true,
        _ => return Err(BAD),
    };
    let (role, rest) = role_of(rest)?;
    let (public, _) = public_of(rest)?;
    let bytes = data_encoding::HEXLOWER.decode(public.as_bytes());
    let bytes: [u8; 32] = bytes.ok().and_then(|b| b.try_into().ok()).ok_or(BAD)?;
    Ok((role, PublicKey(bytes), protected))
}

/// Value of the first line, which has this name, and the lines after it.
fn field<'t>(text: &'t str, name: &str) -> Result<(&'t str, &'t str), TrustError> {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let value = line.strip_prefix(name).ok_or(BAD)?;
    Ok((value.trim(), rest))
}

pub(crate) fn role_of(text: &str) -> Result<(Role, &str), TrustError> {
    let (value, rest) = field(text, "role:")?;
    let role = Role::named(value).ok_or(BAD)?;
    Ok((role, rest))
}

pub(crate) fn public_of(text: &str) -> Result<(&str, &str), TrustError> {
    field(text, "public:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = SecretKey::from_seed(&[5; 32]);
        let text = format(Role::Fleet, &key);
        let (role, read) = parse(&text).unwrap();
        assert_eq!((role, read.seed()), (Role::Fleet, key.seed()));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let text = format(Role::Fleet, &SecretKey::from_seed(&[5; 32]));
        for bad in [
            "",
            "hello",
            &text.replace("fleet", "king"),
            &text.replace("seed: 05", "seed: 06"),
            &text.replace("seed: 05", "seed: zz"),
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
