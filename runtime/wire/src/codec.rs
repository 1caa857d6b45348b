//! The one encoding of fleet messages: a version byte, then postcard, within a limit.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::limits::PROTOCOL_VERSION;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Over the limit of its direction.
    #[error("message of {got} bytes is over the limit of {limit}")]
    TooLarge {
        /// Length found.
        got: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A protocol version that this build does not speak.
    #[error("protocol version {0} is not spoken here")]
    Version(u8),
    /// Not postcard of the message, bytes that follow it, or a field out of bounds.
    #[error("message does not parse")]
    Parse,
}

pub(crate) fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, WireError> {
    encode_as(PROTOCOL_VERSION, message, limit)
}

/// [`encode`] for a message whose form has a version of its own.
pub(crate) fn encode_as<T: Serialize>(
    version: u8,
    message: &T,
    limit: usize,
) -> Result<Vec<u8>, WireError> {
    let bytes = postcard::to_extend(message, vec![version]).map_err(|_| WireError::Parse)?;
    check_len(bytes.len(), limit)?;
    Ok(bytes)
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    limit: usize,
) -> Result<T, WireError> {
    decode_as(PROTOCOL_VERSION, bytes, limit)
}

/// [`decode`] for a message whose form has a version of its own.
pub(crate) fn decode_as<'a, T: Deserialize<'a>>(
    wanted: u8,
    bytes: &'a [u8],
    limit: usize,
) -> Result<T, WireError> {
    check_len(bytes.len(), limit)?;
    let (&version, body) = bytes.split_first().ok_or(WireError::Parse)?;
    if version != wanted {
        return Err(WireError::Version(version));
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(WireError::Parse),
    }
}

fn check_len(got: usize, limit: usize) -> Result<(), WireError> {
    if got > limit {
        return Err(WireError::TooLarge { got, limit });
    }
    Ok(())
}
