//! The serial link between a node (a microcontroller) and the agent on its device.
//!
//! A frame is `COBS(postcard(message) | crc32c, little-endian)` closed by one zero byte, at most
//! [`MAX_FRAME`] bytes in all. A zero never occurs inside a frame, so a receiver that joined
//! late, lost bytes or read garbage is in step again at the next zero.
//!
//! The link loses frames by contract: the node repeats its [`Hello`] until it is welcomed, the
//! host repeats a [`NodeDown::Config`] until a [`Pong`] shows it, and samples carry sequence
//! numbers so that a gap is seen. This module never allocates and never panics on input; it
//! knows frames and their meaning, not when to send them (that is `drover-node` on one end and
//! the agent's node source on the other).
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use core::marker::PhantomData;

use crc::{CRC_32_ISCSI, Crc};
use heapless::{String, Vec};
use postcard::ser_flavors::{Cobs, Slice, crc::CrcModifier};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of the messages below; each side offers its own and refuses another.
pub const PROTO_VERSION: u16 = 1;
/// The longest frame in bytes, its closing zero included.
pub const MAX_FRAME: usize = 512;
/// The most channels that one node reports.
pub const MAX_CHANNELS: usize = 8;
/// The longest channel name in bytes.
pub const MAX_NAME: usize = 32;
/// The longest board name or firmware version in bytes.
pub const MAX_LABEL: usize = 24;
/// The longest log text in bytes.
pub const MAX_LOG: usize = 96;

const CRC_LEN: usize = 4;
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A message from the node to its host. New variants go to the end: the order is the format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap to box the greeting in, and one message exists at a time"
)]
pub enum NodeUp {
    /// "Here I am", repeated until a [`NodeDown::Welcome`] arrives.
    Hello(Hello),
    /// One reading of all channels.
    Samples(Samples),
    /// A line for a person.
    Log(Log),
    /// The answer to a [`NodeDown::Ping`] of the session that the node is in.
    Pong(Pong),
}

/// A message from the host to its node. New variants go to the end: the order is the format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NodeDown {
    /// Accepts a node; its samples start from sequence 0. A repeat for the same session changes
    /// nothing.
    Welcome {
        /// The host's [`PROTO_VERSION`]; a node that speaks another ignores the message.
        proto_version: u16,
        /// A number that the host draws anew for each run and each accepted [`Hello`] of it.
        session: u32,
    },
    /// Sets the sampling period, in force from the next sample on.
    Config {
        /// Time between samples in milliseconds; the node clamps it to what it can do and
        /// reports the result in [`Pong::period_ms`].
        period_ms: u32,
    },
    /// Asks for a sign of life. A node that is not in this session answers with a [`Hello`]:
    /// that is how a restarted host learns whom it talks to.
    Ping {
        /// The session that the host believes in; any number when it knows none yet.
        session: u32,
        /// Comes back in the [`Pong`].
        nonce: u32,
    },
}

/// Who the node is and what it measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's [`PROTO_VERSION`]. First, and as an integer, in every version to come.
    pub proto_version: u16,
    /// The chip's own number, or one that its firmware was given.
    pub uid: [u8; 8],
    /// The board's name as in `targets/`.
    pub board: String<MAX_LABEL>,
    /// The firmware's version.
    pub fw_version: String<MAX_LABEL>,
    /// Names with units (`temperature_degc`), in the order of [`Samples::values`].
    pub channels: Vec<String<MAX_NAME>, MAX_CHANNELS>,
}

/// One reading of all channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Counts up by one from 0 within a session; a jump is a lost frame.
    pub seq: u32,
    /// The node's monotonic time since its start in microseconds.
    pub t_us: u64,
    /// Readings since the start of the node that failed. While it grows, `values` are NaN.
    pub sensor_errors: u32,
    /// One value per channel; NaN where the sensor gave none.
    pub values: Vec<f32, MAX_CHANNELS>,
}

/// A line for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// How much it matters.
    pub level: Level,
    /// The text, cut at [`MAX_LOG`] bytes.
    pub text: String<MAX_LOG>,
}

/// How much a [`Log`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Something failed and was dealt with.
    Warn,
    /// Something failed and data is lost.
    Error,
}

/// A sign of life, with what the host may have to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Of the [`NodeDown::Ping`] that this answers.
    pub nonce: u32,
    /// The sampling period in force, in milliseconds.
    pub period_ms: u32,
    /// Frames that the node's receiver dropped since its start.
    pub bad_frames: u32,
}

/// What may be put on the link: the two message enums and nothing else.
pub trait Message: Serialize + DeserializeOwned + sealed::Sealed {}

impl Message for NodeUp {}
impl Message for NodeDown {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::NodeUp {}
    impl Sealed for super::NodeDown {}
}

/// Why a message could not be framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The caller's buffer is too short; [`MAX_FRAME`] bytes always suffice.
    #[error("frame does not fit its buffer of {have} bytes")]
    BufferTooShort {
        /// The length of the buffer.
        have: usize,
    },
}

/// Writes `message` as one frame, closing zero included, and returns the part of `out` it took.
///
/// A sender that has just opened the line sends one zero first, so that noise before its first
/// frame is not taken for a part of it.
///
/// # Errors
/// [`FrameError::BufferTooShort`] when `out` cannot hold the frame.
pub fn encode<'a, M: Message>(message: &M, out: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
    let have = out.len();
    let too_short = |_| FrameError::BufferTooShort { have };
    let cobs = Cobs::try_new(Slice::new(out)).map_err(too_short)?;
    let flavor = CrcModifier::new(cobs, CRC32C.digest());
    let frame = postcard::serialize_with_flavor(message, flavor).map_err(too_short)?;
    Ok(frame)
}

/// Takes frames out of a byte stream that may be cut anywhere and damaged anyhow.
#[derive(Debug, Clone)]
pub struct Decoder<M> {
    buffer: Vec<u8, { MAX_FRAME - 1 }>,
    /// The frame under way outgrew the buffer: drop it up to its zero.
    overflowed: bool,
    bad_frames: u32,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Decoder<M> {
    /// A decoder at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            overflowed: false,
            bad_frames: 0,
            message: PhantomData,
        }
    }

    /// Reads up to the end of the next good frame, moves `input` past what it read and returns
    /// the message; `None` when `input` is used up. Call it until then.
    pub fn pull(&mut self, input: &mut &[u8]) -> Option<M> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            if byte != 0 {
                self.overflowed |= self.buffer.push(byte).is_err();
                continue;
            }
            // Zeros between frames are idle line, not damage.
            if self.buffer.is_empty() {
                continue;
            }
            let message = if self.overflowed {
                None
            } else {
                parse(&mut self.buffer)
            };
            self.buffer.clear();
            self.overflowed = false;
            if message.is_some() {
                return message;
            }
            self.bad_frames = self.bad_frames.saturating_add(1);
        }
        None
    }

    /// Frames dropped so far: damaged, too long, or of no known message.
    #[must_use]
    pub const fn bad_frames(&self) -> u32 {
        self.bad_frames
    }
}

impl<M: Message> Default for Decoder<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// The message in a frame without its zero; `frame` is scratch space afterwards.
fn parse<M: Message>(frame: &mut [u8]) -> Option<M> {
    let len = cobs::decode_in_place(frame).ok()?;
    let (body, crc) = frame.get(..len)?.split_last_chunk::<CRC_LEN>()?;
    if CRC32C.checksum(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    // Bytes behind the message would be unread but accepted: refuse them.
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}
