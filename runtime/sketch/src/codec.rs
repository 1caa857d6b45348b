//! The outer form of what travels: one version byte, then postcard.
//!
//! Lengths are checked before anything is decoded, and trailing bytes are refused, so that one
//! value has one accepted form. Version numbers are never reused.

use crate::SketchError;
use alloc::vec::Vec;
use serde::{Serialize, de::DeserializeOwned};

/// Longest encoded baseline.
pub const MAX_BASELINE_BYTES: usize = 512 * 1024;
/// Longest encoded profile, the payload limit of common MQTT brokers.
pub const MAX_PROFILE_BYTES: usize = 128 * 1024;

pub(crate) fn encode<T: Serialize>(
    version: u8,
    value: &T,
    limit: usize,
) -> Result<Vec<u8>, SketchError> {
    let mut start = Vec::with_capacity(256);
    start.push(version);
    let bytes = postcard::to_extend(value, start).map_err(|_| SketchError::Malformed {
        what: "it cannot be encoded",
    })?;
    within(&bytes, limit)?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(
    version: u8,
    bytes: &[u8],
    limit: usize,
) -> Result<T, SketchError> {
    within(bytes, limit)?;
    let (&found, rest) = bytes.split_first().ok_or(SketchError::Malformed {
        what: "there are no bytes",
    })?;
    if found != version {
        return Err(SketchError::UnknownVersion {
            found,
            known: version,
        });
    }
    let (value, trailing) =
        postcard::take_from_bytes(rest).map_err(|_| SketchError::Malformed {
            what: "the bytes end early or are no postcard",
        })?;
    if trailing.is_empty() {
        Ok(value)
    } else {
        Err(SketchError::Malformed {
            what: "bytes are left over at the end",
        })
    }
}

fn within(bytes: &[u8], limit: usize) -> Result<(), SketchError> {
    if bytes.len() > limit {
        return Err(SketchError::TooLarge {
            bytes: bytes.len(),
            limit,
        });
    }
    Ok(())
}
