//! Bounds that both sides hold. A peer that exceeds one is refused before its bytes are
//! parsed.

/// Version of the fleet protocol; the first byte of every message and part of every topic.
pub const PROTOCOL_VERSION: u8 = 1;
/// Largest MQTT packet either side sends or accepts, in bytes.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;
/// Largest chunk of a bundle, in bytes.
pub const MAX_CHUNK_BYTES: usize = 128 * 1024;
/// What encryption adds to a chunk of a confidential bundle, in bytes.
pub const SEAL_BYTES: usize = 16;
/// Largest encoded message from a device, its signature not counted, in bytes.
pub const MAX_UP_BYTES: usize = 192 * 1024;
/// Largest encoded message to a device, its signature not counted, in bytes.
pub const MAX_DOWN_BYTES: usize = 192 * 1024;
/// Bytes of records that a device puts into one batch at most.
pub const MAX_BATCH_BYTES: usize = 48 * 1024;
/// Records that a device puts into one batch at most.
pub const MAX_BATCH_RECORDS: usize = 512;

const _: () = assert!(MAX_BATCH_BYTES < MAX_UP_BYTES);
const _: () = assert!(MAX_CHUNK_BYTES + SEAL_BYTES + 1024 < MAX_PACKET_BYTES);
const _: () = assert!(MAX_UP_BYTES + 4096 < MAX_PACKET_BYTES);
