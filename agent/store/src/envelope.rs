//! The bytes around every stored value: how damage is noticed.
//!
//! Layout, version 1: `D5 4A` magic · `01` version · CRC-32 (IEEE, little-endian) · body length
//! (u32 little-endian) · body. The checksum covers version, context and body; the context is where
//! the value belongs, so a value that turns up under another key counts as damaged. Golden bytes
//! below are the format: a change of them is a new version beside this one, never an edit.
//!
//! A power cut may leave any part of an envelope. Reading it gives the whole value or none.

use crate::key::{RECORD_KEY_BYTES, RecordKey};

/// Magic in front: finds values in the raw bytes of a damaged engine file.
pub(crate) const MAGIC: [u8; 2] = [0xD5, 0x4A];
const VERSION: u8 = 1;
/// Bytes in front of the body.
pub(crate) const HEADER_BYTES: usize = 11;
/// The context of outbox records: their key is inside the body, for salvage without an index.
const RECORD_CONTEXT: &[u8] = b"outbox";

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Torn, flipped, or stored in a place where it does not belong.
    Corrupt,
    /// Written by a newer agent. Left alone, so that going forward again finds it.
    UnknownVersion,
}

/// Wraps a body for the place named by `context`. The body must be under 4 GiB.
pub(crate) fn seal(context: &[u8], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("callers bound every value far below 4 GiB");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&checksum(context, body).to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The body of an envelope that fills `bytes` exactly.
pub(crate) fn unseal<'a>(context: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    let body = unseal_prefix(context, bytes)?;
    if body.len() + HEADER_BYTES == bytes.len() {
        Ok(body)
    } else {
        Err(Damage::Corrupt)
    }
}

/// Wraps an outbox record.
pub(crate) fn seal_record(key: RecordKey, payload: &[u8]) -> Vec<u8> {
    seal(RECORD_CONTEXT, &[&key.to_bytes(), payload].concat())
}

/// The payload of the record stored under `key`.
pub(crate) fn unseal_record(key: RecordKey, bytes: &[u8]) -> Result<&[u8], Damage> {
    let (stored, payload) = split_record(unseal(RECORD_CONTEXT, bytes)?)?;
    if stored == key {
        Ok(payload)
    } else {
        Err(Damage::Corrupt)
    }
}

/// A record at the start of `bytes`, which may run on: for salvage from raw files.
pub(crate) fn find_record(bytes: &[u8]) -> Option<(RecordKey, &[u8])> {
    split_record(unseal_prefix(RECORD_CONTEXT, bytes).ok()?).ok()
}

fn split_record(body: &[u8]) -> Result<(RecordKey, &[u8]), Damage> {
    let (key, payload) = body
        .split_first_chunk::<RECORD_KEY_BYTES>()
        .ok_or(Damage::Corrupt)?;
    Ok((RecordKey::from_bytes(*key), payload))
}

fn unseal_prefix<'a>(context: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (header, rest) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(Damage::Corrupt)?;
    let [m0, m1, version, c0, c1, c2, c3, l0, l1, l2, l3] = *header;
    if [m0, m1] != MAGIC || version == 0 {
        return Err(Damage::Corrupt);
    }
    if version != VERSION {
        return Err(Damage::UnknownVersion);
    }
    let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| Damage::Corrupt)?;
    let body = rest.get(..len).ok_or(Damage::Corrupt)?;
    if checksum(context, body) == u32::from_le_bytes([c0, c1, c2, c3]) {
        Ok(body)
    } else {
        Err(Damage::Corrupt)
    }
}

fn checksum(context: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    hasher.update(context);
    hasher.update(&[0]);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: RecordKey = RecordKey { boot: 3, seq: 258 };

    #[test]
    fn golden_bytes_of_version_1() {
        // Checksums computed with another implementation (Python's zlib).
        let record = [
            0xD5, 0x4A, 1, 0x32, 0xEF, 0xDE, 0x42, 18, 0, 0, 0, // header
            0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2, // boot, seq
            b'h', b'i',
        ];
        assert_eq!(seal_record(KEY, b"hi"), record);
        let state = [0xD5, 0x4A, 1, 0x74, 0xE4, 0xDF, 0x43, 1, 0, 0, 0, 1];
        assert_eq!(seal(b"s/ota", b"\x01"), state);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let sealed = seal_record(KEY, b"payload");
        assert_eq!(unseal_record(KEY, &sealed), Ok(&b"payload"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal_record(KEY, &flipped).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(unseal_record(KEY, &sealed[..len]), Err(Damage::Corrupt));
        }
        let longer = [&sealed[..], b"x"].concat();
        assert_eq!(unseal_record(KEY, &longer), Err(Damage::Corrupt));
        assert_eq!(find_record(&longer), Some((KEY, &b"payload"[..])));
    }

    #[test]
    fn a_value_in_a_foreign_place_is_damage() {
        let sealed = seal_record(KEY, b"payload");
        let other = RecordKey { boot: 3, seq: 259 };
        assert_eq!(unseal_record(other, &sealed), Err(Damage::Corrupt));
        assert_eq!(unseal(b"s/b", &seal(b"s/a", b"v")), Err(Damage::Corrupt));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut sealed = seal(b"s/a", b"v");
        sealed[2] = 2;
        assert_eq!(unseal(b"s/a", &sealed), Err(Damage::UnknownVersion));
    }
}
