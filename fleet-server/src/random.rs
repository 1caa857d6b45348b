//! Random numbers from the operating system.

use crate::ServerError;

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], ServerError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| ServerError::Random)?;
    Ok(bytes)
}

/// A secret of 256 bits as 52 characters of `a-z2-7`.
pub(crate) fn secret() -> Result<String, ServerError> {
    Ok(text(&bytes::<32>()?))
}

/// An identifier of 80 bits as 16 characters of `a-z2-7`.
pub(crate) fn id() -> Result<String, ServerError> {
    Ok(text(&bytes::<10>()?))
}

/// A number below `bound`, for jitter.
pub(crate) fn below(bound: u64) -> u64 {
    let drawn = bytes::<8>().map_or(0, u64::from_le_bytes);
    drawn % bound.max(1)
}

fn text(bytes: &[u8]) -> String {
    data_encoding::BASE32_NOPAD
        .encode(bytes)
        .to_ascii_lowercase()
}
