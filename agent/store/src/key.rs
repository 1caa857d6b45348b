//! Names and keys: what may be called what, and how a key becomes bytes.
//!
//! Outbox keys are big-endian, so byte order is age order. A name becomes a file name, therefore
//! it is checked here although callers check it too: nothing outside the data folder is reachable.

use crate::{Result, StoreError};

/// SHA-256 of a bundle, as its manifest names it.
pub type Digest = [u8; 32];

/// The longest name of a state cell or of a file in a bundle.
const NAME_MAX: usize = 64;

/// Bytes of a record key in storage.
pub(crate) const RECORD_KEY_BYTES: usize = 16;

/// Where the outbox lives in the key-value space; `OUTBOX_END` is the first key after it.
const OUTBOX: &[u8] = b"o/";
pub(crate) const OUTBOX_END: &[u8] = b"o0";
const STATE: &[u8] = b"s/";

/// The cells of the store itself. The leading dot keeps them apart from every caller's name.
pub(crate) const BOOT_CELL: &str = ".boot";
pub(crate) const EVICTED_KEY: &[u8] = b"m/evicted";

/// Names one outbox record: which boot of the agent wrote it, and its number within that boot.
///
/// Keys are ordered by age as long as boots and sequence numbers only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The boot, as [`crate::Journal::begin_boot`] gave it.
    pub boot: u64,
    /// The number of the record within its boot.
    pub seq: u64,
}

impl RecordKey {
    /// The oldest key there can be.
    pub(crate) const FIRST: Self = Self { boot: 0, seq: 0 };

    /// The key that follows directly, or none after the last one.
    pub(crate) fn next(self) -> Option<Self> {
        match (self.seq.checked_add(1), self.boot.checked_add(1)) {
            (Some(seq), _) => Some(Self { seq, ..self }),
            (None, Some(boot)) => Some(Self { boot, seq: 0 }),
            (None, None) => None,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; RECORD_KEY_BYTES] {
        ((u128::from(self.boot) << 64) | u128::from(self.seq)).to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; RECORD_KEY_BYTES]) -> Self {
        let both = u128::from_be_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a u128")]
        Self {
            boot: (both >> 64) as u64,
            seq: both as u64,
        }
    }

    pub(crate) fn storage_key(self) -> Vec<u8> {
        [OUTBOX, &self.to_bytes()].concat()
    }

    pub(crate) fn from_storage_key(key: &[u8]) -> Option<Self> {
        let bytes = key.strip_prefix(OUTBOX)?.try_into().ok()?;
        Some(Self::from_bytes(bytes))
    }
}

/// The key of a state cell.
pub(crate) fn state_key(name: &str) -> Vec<u8> {
    [STATE, name.as_bytes()].concat()
}

/// Refuses what could not be a plain file name on every file system.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.');
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
    };
    if fits && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(StoreError::Name {
            name: name.chars().take(NAME_MAX).collect(),
        })
    }
}

/// Lower-case hexadecimal, the folder name of a bundle.
pub(crate) fn digest_name(digest: &Digest) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The reverse of [`digest_name`]; none for any other text.
pub(crate) fn parse_digest_name(name: &str) -> Option<Digest> {
    let bytes = name.as_bytes();
    let mut digest = [0; 32];
    if bytes.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    (digest_name(&digest) == name).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_age_order() {
        let key = |boot, seq| RecordKey { boot, seq };
        let ages = [
            key(0, 0),
            key(0, u64::MAX),
            key(1, 0),
            key(1, 256),
            key(2, 1),
        ];
        let bytes: Vec<_> = ages.iter().map(|key| key.storage_key()).collect();
        assert!(bytes.is_sorted());
        for (key, bytes) in ages.iter().zip(&bytes) {
            assert_eq!(RecordKey::from_storage_key(bytes), Some(*key));
            assert!(bytes.as_slice() < OUTBOX_END);
        }
        assert_eq!(key(0, u64::MAX).next(), Some(key(1, 0)));
        assert_eq!(key(u64::MAX, u64::MAX).next(), None);
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for good in ["model.onnx", "a", "0_-", &"x".repeat(64)] {
            check_name(good).unwrap();
        }
        for bad in [
            "",
            ".",
            "..",
            ".boot",
            "a/b",
            "A",
            "ä",
            "a b",
            "a\0",
            &"x".repeat(65),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn digest_names_have_one_spelling() {
        let digest = std::array::from_fn(|index| u8::try_from(index * 7 % 256).unwrap());
        let name = digest_name(&digest);
        assert_eq!(parse_digest_name(&name), Some(digest));
        assert_eq!(parse_digest_name(&name.to_uppercase()), None);
        assert_eq!(parse_digest_name(&name[1..]), None);
    }
}
