//! One chunk of a bundle on its topic: version byte, index (u32, little-endian), bytes.
//!
//! Chunks carry no signature: each is checked against its digest in the signed manifest.

use alloc::vec::Vec;

use crate::limits::{MAX_CHUNK_BYTES, PROTOCOL_VERSION, SEAL_BYTES};

/// An encrypted chunk is longer than its content.
const LIMIT: usize = MAX_CHUNK_BYTES + SEAL_BYTES;

/// A chunk as it came; its bytes are not to be used before their digest is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Position in the bundle, from 0.
    pub index: u32,
    /// Content.
    pub bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Payload of the MQTT message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(5 + self.bytes.len());
        out.push(PROTOCOL_VERSION);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(self.bytes);
        out
    }

    /// Reads a payload; `None` when it is not a chunk of this version or too large.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (&version, rest) = payload.split_first()?;
        let (index, bytes) = rest.split_first_chunk::<4>()?;
        let acceptable = version == PROTOCOL_VERSION && !bytes.is_empty() && bytes.len() <= LIMIT;
        acceptable.then(|| Self {
            index: u32::from_le_bytes(*index),
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes of version 1; never to be edited.
    #[test]
    fn version_1_bytes() {
        let chunk = Chunk {
            index: 258,
            bytes: b"ab",
        };
        assert_eq!(chunk.encode(), [1, 2, 1, 0, 0, b'a', b'b']);
        assert_eq!(Chunk::decode(&chunk.encode()), Some(chunk));
        assert_eq!(Chunk::decode(&[2, 0, 0, 0, 0, 1]), None);
        assert_eq!(Chunk::decode(&[1, 0, 0, 0, 0]), None);
    }
}
