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

use crate::{Role, SecretKey, TrustError};

const HEADER: &str = "drover secret key v1";

/// Text of a key file.
pub fn format(role: Role, key: &SecretKey) -> String {
    let public = key.public().to_hex();
    let seed = data_encoding::HEXLOWER.encode(&key.seed());
    format!("{HEADER}\nrole: {role}\npublic: {public}\nseed: {seed}\n")
}

/// Reads the text of a key file.
///
/// # Errors
/// [`TrustError::Parse`] when it is not one, or when its public half does not belong to its
/// seed.
pub fn parse(text: &str) -> Result<(Role, SecretKey), TrustError> {
    const BAD: TrustError = TrustError::Parse("key file");
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(BAD);
    }
    let mut field = |name: &str| {
        let line = lines.next().and_then(|l| l.strip_prefix(name));
        line.map(str::trim).ok_or(BAD)
    };
    let role = match field("role:")? {
        "root" => Role::Root,
        "release" => Role::Release,
        "catalog" => Role::Catalog,
        "fleet" => Role::Fleet,
        "device" => Role::Device,
        _ => return Err(BAD),
    };
    let public = field("public:")?;
    let seed = data_encoding::HEXLOWER.decode(field("seed:")?.as_bytes());
    let seed: [u8; 32] = seed.ok().and_then(|s| s.try_into().ok()).ok_or(BAD)?;
    let key = SecretKey::from_seed(&seed);
    if key.public().to_hex() != public {
        return Err(BAD);
    }
    Ok((role, key))
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
