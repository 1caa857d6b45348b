//! What devices and server say to each other.
//!
//! Both directions are idempotent: records carry `(boot, sequence)`, instructions carry
//! their own sequence inside the signed assignment, and everything may arrive twice, late
//! or never. Only [`Down::Ack`] lets a device forget a record.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::bitmap::Bitmap;
use crate::codec;
pub use crate::codec::WireError;
use crate::limits::{MAX_DOWN_BYTES, MAX_UP_BYTES};

/// SHA-256 of a bundle's manifest.
pub type Digest = [u8; 32];

/// From a device to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Up {
    /// First message after each connect: who and in what state.
    Hello(Hello),
    /// The state of the update life cycle, sent when it changed and with each hello.
    State(State),
    /// Asks for a signed manifest.
    WantManifest {
        /// Which bundle.
        digest: Digest,
    },
    /// Asks for the chunks that are still missing, on the bundle's topic.
    WantChunks {
        /// Which bundle.
        digest: Digest,
        /// What is missing.
        missing: Bitmap,
    },
    /// Records out of the outbox.
    Batch(Batch),
    /// What the device trusts and what was tried against it; sent before each hello and
    /// whenever it changed.
    Trust(TrustReport),
}

/// The envelope around [`Up`]: says who sends and numbers the message, so that an old one
/// cannot be played again. The signature of the device's key covers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    /// Device that sends it.
    pub device: String,
    /// Drawn anew at each start of the agent; two that alternate are two devices with one key.
    pub instance: [u8; 16],
    /// Number of this start of the agent.
    pub boot: u64,
    /// Counts the messages of this boot from 1; never decreases within it.
    pub counter: u64,
    /// The message.
    pub message: Up,
}

/// What a device trusts and what was tried against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustReport {
    /// Version of the newest root that it has verified.
    pub root_version: u64,
    /// Version of the newest catalog that it has accepted; 0 for none.
    pub catalog_version: u64,
    /// When that catalog was issued, in seconds since 1970: how stale the device's view is.
    pub catalog_unix_s: u64,
    /// Its trusted time, in seconds since 1970; never more than the true time.
    pub time_floor_s: u64,
    /// What lies on its disk ready to run, the active bundle first.
    pub installed: Vec<Installed>,
    /// Refusals since it was enrolled, by reason: the attack indicator.
    pub refused: Vec<(FailureCode, u32)>,
}

/// A bundle on a device's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Which bundle.
    pub digest: Digest,
    /// Counter of the release.
    pub counter: u64,
    /// Security epoch of the release.
    pub epoch: u64,
    /// Sum of the sizes of its files, in bytes.
    pub total_bytes: u64,
}

/// From the server to one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Down {
    /// Desired state: an encoded, signed assignment.
    Assignment {
        /// Encoded envelope.
        envelope: Vec<u8>,
    },
    /// A bundle's signed manifest.
    Manifest {
        /// Which bundle.
        digest: Digest,
        /// Encoded envelope.
        envelope: Vec<u8>,
    },
    /// These records are stored for good; the device may forget them.
    Ack(Ack),
    /// The server does not know the device's state: say hello again.
    Resync,
    /// What was asked for does not exist here.
    Unknown {
        /// Which bundle.
        digest: Digest,
    },
    /// Desired state, with the catalog that lists what it names. [`Down::Assignment`], which
    /// brings none, is refused by devices of this version.
    Desired {
        /// Encoded envelope of the assignment.
        assignment: Vec<u8>,
        /// Encoded envelope of the catalog.
        catalog: Vec<u8>,
    },
    /// The key to a confidential bundle's chunks, for this device alone (HPKE over X25519,
    /// HKDF-SHA256, ChaCha20-Poly1305; info is `drover/content-key/v1`, the digest is
    /// authenticated beside it).
    ContentKey {
        /// Which bundle.
        digest: Digest,
        /// HPKE's encapsulated key.
        encapsulated: [u8; 32],
        /// The wrapped content key, with its tag.
        wrapped: Vec<u8>,
    },
    /// Moves the device to another fleet: an encoded, signed voucher.
    Transfer {
        /// Encoded envelope.
        voucher: Vec<u8>,
    },
}

/// What comes on a device's topic for roots: the successors of the root that it trusts, in
/// order. Each is verified by the one before it, so nobody else signs this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootChain {
    /// Encoded envelopes.
    pub roots: Vec<Vec<u8>>,
}

/// The envelope around [`Down`]: binds a message to its recipient. The signature of the
/// fleet role covers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Addressed {
    /// Device id that it is for.
    pub device: String,
    /// Server's clock, in seconds since 1970; raises the device's time floor.
    pub sent_unix_s: u64,
    /// The message.
    pub message: Down,
}

/// Who a device is and what it runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Number of this start of the agent; with a record's sequence it names the record.
    pub boot: u64,
    /// Version of the agent.
    pub agent_version: String,
    /// Architecture, as Rust names it.
    pub arch: String,
    /// Memory of the board, in bytes.
    pub memory_bytes: u64,
    /// Highest assignment sequence accepted.
    pub assignment: u64,
}

/// Where a device is in its update life cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Highest assignment sequence accepted.
    pub assignment: u64,
    /// What runs now.
    pub active: Option<Running>,
    /// What is being done about the assignment.
    pub phase: Phase,
}

/// A bundle that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Which bundle.
    pub digest: Digest,
    /// Counter of the release.
    pub counter: u64,
}

/// Step of the update life cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing to do.
    Idle,
    /// The manifest or chunks are under way.
    Fetching {
        /// Which bundle.
        digest: Digest,
        /// Chunks that are here.
        have: u32,
        /// Chunks in all; 0 while the manifest is missing.
        total: u32,
    },
    /// Everything is here and verified; the candidate is being loaded and checked.
    Staged {
        /// Which bundle.
        digest: Digest,
    },
    /// The candidate runs, not yet for good.
    Trial {
        /// Which bundle.
        digest: Digest,
    },
    /// The assigned bundle runs for good.
    Committed {
        /// Which bundle.
        digest: Digest,
    },
    /// The assigned bundle was not accepted; what ran before still runs.
    Failed {
        /// Which bundle.
        digest: Digest,
        /// At which step.
        step: Step,
        /// Why, for machines.
        code: FailureCode,
        /// Why, for people.
        detail: String,
    },
}

/// Where an update failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Manifest or compatibility.
    Accept,
    /// Transport or hashes.
    Fetch,
    /// Loading or golden vectors.
    Load,
    /// The trial on live data.
    Trial,
}

/// Why an update failed; numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum FailureCode {
    /// Signatures do not reach the threshold.
    SignatureInvalid = 1,
    /// A digest, length or counter differs from what was signed.
    Mismatch = 2,
    /// Below the counter that the device has committed.
    Rollback = 3,
    /// The device does not offer what the bundle requires.
    Incompatible = 4,
    /// The engine cannot load the model.
    LoadFailed = 5,
    /// Golden outputs differ.
    GoldenMismatch = 6,
    /// The candidate failed on live data.
    TrialFailed = 7,
    /// The version failed before and is quarantined on this device.
    Quarantined = 8,
    /// No room for it.
    StorageFull = 9,
    /// It did not get through in time.
    Expired = 10,
    /// Catalog, assignment or root is past its end: somebody may hold newer ones back.
    Frozen = 11,
    /// The keys that signed it were revoked by a newer root.
    Revoked = 12,
    /// Its source is slower than a download may be.
    Slow = 13,
    /// It is for another device, or another fleet.
    WrongRecipient = 14,
    /// The fleet's catalog does not list it as it is assigned.
    Unlisted = 15,
    /// Files or chunks that were signed are missing.
    Incomplete = 16,
    /// A root that does not follow the trusted one.
    RootInvalid = 17,
}

impl FailureCode {
    /// Name of the security event, as logs, events and attack reports show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SignatureInvalid => "SIG_INVALID",
            Self::Mismatch => "MISMATCH",
            Self::Rollback => "ROLLBACK",
            Self::Incompatible => "INCOMPATIBLE",
            Self::LoadFailed => "LOAD_FAILED",
            Self::GoldenMismatch => "GOLDEN_MISMATCH",
            Self::TrialFailed => "TRIAL_FAILED",
            Self::Quarantined => "QUARANTINED",
            Self::StorageFull => "STORAGE_FULL",
            Self::Expired => "EXPIRED",
            Self::Frozen => "FREEZE",
            Self::Revoked => "REVOKED",
            Self::Slow => "SLOW",
            Self::WrongRecipient => "WRONG_RECIPIENT",
            Self::Unlisted => "UNLISTED",
            Self::Incomplete => "INCOMPLETE",
            Self::RootInvalid => "ROOT_INVALID",
        }
    }
}

/// Records of one start of the agent, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Number of the start that made them.
    pub boot: u64,
    /// In order of their sequence; sequences need not be adjacent.
    pub records: Vec<Record>,
}

/// One thing the device wants known upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counts from 1 within a boot.
    pub sequence: u64,
    /// When it happened, in milliseconds since 1970 by the device's clock.
    pub unix_ms: u64,
    /// What happened.
    pub body: Body,
}

/// What a [`Record`] tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// A model ran on a window.
    Observation(Observation),
    /// An encoded drift profile (`drover-sketch`).
    Profile(Vec<u8>),
    /// Something an operator may want to know.
    Event(Event),
}

/// A model ran on a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Which bundle.
    pub model: Digest,
    /// Index of the window in its stream, from 0.
    pub window: u64,
    /// Score, as the manifest defines it.
    pub score: f32,
    /// What was decided.
    pub decision: Verdict,
    /// Time the engine took, in microseconds.
    pub latency_us: u32,
    /// Raw sensor values, rows x channels, when the device captures inputs.
    pub input: Vec<f32>,
    /// Model output when the device captures outputs.
    pub output: Vec<f32>,
}

/// What was decided on a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The manifest asks for no decision.
    None,
    /// Below the threshold.
    Normal,
    /// Above the threshold.
    Anomalous,
    /// Index of the class.
    Class(u32),
}

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The agent started.
    Started {
        /// Version of the agent.
        agent_version: String,
    },
    /// A bundle became active.
    Activated(Running),
    /// The candidate was taken back; the bundle named here runs again.
    RolledBack {
        /// Which bundle was given up.
        from: Digest,
        /// What runs now.
        to: Option<Running>,
        /// Why, for people.
        detail: String,
    },
    /// Something was refused: a security event when a signature or digest was wrong.
    Refused {
        /// Which bundle, where it is known.
        digest: Option<Digest>,
        /// Why, for machines.
        code: FailureCode,
        /// Why, for people.
        detail: String,
    },
    /// Records were given up because the disk quota was reached.
    Evicted {
        /// How many.
        records: u64,
    },
    /// Stored records were damaged.
    Salvaged {
        /// How many could not be read.
        lost: u64,
    },
    /// The sensor source ended, failed or came back.
    Source {
        /// What happened, for people.
        detail: String,
    },
}

/// Records that are stored for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Boot of the batch.
    pub boot: u64,
    /// Sequences of the batch, as inclusive ranges in order.
    pub ranges: Vec<(u64, u64)>,
}

impl Ack {
    /// The ack for all of `sequences`, which are in order.
    pub fn of(boot: u64, sequences: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for sequence in sequences {
            match ranges.last_mut() {
                Some(range) if range.1.checked_add(1) == Some(sequence) => range.1 = sequence,
                _ => ranges.push((sequence, sequence)),
            }
        }
        Self { boot, ranges }
    }
}

macro_rules! codec {
    ($($type:ty: $limit:expr),*) => {$(
        impl $type {
            /// Version byte and postcard.
            ///
            /// # Errors
            /// [`WireError::TooLarge`] when the other side would refuse it.
            pub fn encode(&self) -> Result<Vec<u8>, WireError> {
                codec::encode(self, $limit)
            }

            /// Parses bytes whose signature has been verified.
            ///
            /// # Errors
            /// Any [`WireError`].
            pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
                codec::decode(bytes, $limit)
            }
        }
    )*};
}

codec!(
    Up: MAX_UP_BYTES,
    Numbered: MAX_UP_BYTES,
    Addressed: MAX_DOWN_BYTES,
    RootChain: MAX_DOWN_BYTES,
    Record: MAX_UP_BYTES
);

#[cfg(test)]
mod tests;
