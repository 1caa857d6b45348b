//! What the machine is told.

use drover_wire::message::{Digest, FailureCode};

use crate::VerifiedDown;

/// Something happened. Events may come twice, late or for a candidate that is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first event after each start.
    Resumed(Stored),
    /// Messages can be sent; said again after each reconnect.
    Connected,
    /// Messages cannot be sent.
    Disconnected,
    /// The server says something.
    Down(VerifiedDown),
    /// Bytes came on the device's topic for roots: an encoded
    /// [`drover_wire::message::RootChain`], unchecked.
    Roots {
        /// As they came.
        bytes: Vec<u8>,
    },
    /// The fleet told the time beside its messages: at enrolment, or with a certificate.
    Time {
        /// Seconds since 1970.
        unix_s: u64,
    },
    /// Bytes came on the device's topic that [`VerifiedDown::open`] refused.
    Rejected {
        /// Why, for machines: [`crate::InboundError::code`].
        code: FailureCode,
        /// Why, for people.
        detail: String,
    },
    /// Bytes on the topic of a bundle, decrypted where it is confidential; nobody has checked
    /// them.
    Chunk {
        /// Which bundle's topic.
        digest: Digest,
        /// Position that the sender claims.
        index: u32,
        /// Content.
        bytes: Vec<u8>,
    },
    /// A chunk of the candidate came encrypted and no [`crate::Effect::ContentKey`] has come;
    /// it comes together with the manifest, which is asked for once more.
    KeyMissing {
        /// Which bundle.
        digest: Digest,
    },
    /// [`crate::Effect::StoreChunk`] was done.
    ChunkStored {
        /// Which bundle.
        digest: Digest,
        /// Which chunk.
        index: u32,
    },
    /// [`crate::Effect::StoreChunk`] failed, most often because the disk is full; the chunk is
    /// asked for again later.
    ChunkLost {
        /// Which bundle.
        digest: Digest,
        /// Why, for people.
        detail: String,
    },
    /// [`crate::Effect::Stage`] was done: every file is stored for good and has its signed
    /// hash.
    Staged {
        /// Which bundle.
        digest: Digest,
    },
    /// Chunks or files that should be here are missing or damaged.
    Incomplete {
        /// Which bundle.
        digest: Digest,
        /// Chunks that are here.
        chunks: Vec<u32>,
    },
    /// [`crate::Effect::Stage`] failed although all chunks are here.
    StageFailed {
        /// Which bundle.
        digest: Digest,
        /// [`FailureCode::StorageFull`] is tried again; others are final.
        code: FailureCode,
        /// Why, for people.
        detail: String,
    },
    /// [`crate::Effect::LoadCandidate`] was done: loaded, golden vectors right.
    Loaded {
        /// Which bundle.
        digest: Digest,
    },
    /// [`crate::Effect::LoadCandidate`] failed.
    LoadFailed {
        /// Which bundle.
        digest: Digest,
        /// Why, for machines.
        code: FailureCode,
        /// Why, for people.
        detail: String,
    },
    /// The candidate did well on live data.
    TrialPassed {
        /// Which bundle.
        digest: Digest,
    },
    /// The candidate failed on live data.
    TrialFailed {
        /// Which bundle.
        digest: Digest,
        /// Why, for people.
        detail: String,
    },
    /// [`crate::Effect::LoadCommitted`] failed: the bundle's files are damaged, or it does
    /// not run here any more.
    ActiveLost {
        /// Which bundle.
        digest: Digest,
        /// Why, for machines.
        code: FailureCode,
        /// Why, for people.
        detail: String,
    },
    /// [`crate::Machine::deadline`] has passed.
    Tick,
    /// The agent is about to stop in good order.
    Stopping,
}

/// What the driver found on the disk at a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The candidate's manifest as its encoded envelope, if it is there.
    pub manifest: Option<Vec<u8>>,
    /// The candidate's chunks that are there.
    pub chunks: Vec<u32>,
    /// Every bundle that has files.
    pub bundles: Vec<Digest>,
}

impl Event {
    /// The candidate that the event is about.
    pub(crate) fn candidate(&self) -> Option<&Digest> {
        match self {
            Self::Chunk { digest, .. }
            | Self::KeyMissing { digest }
            | Self::ChunkStored { digest, .. }
            | Self::ChunkLost { digest, .. }
            | Self::Staged { digest }
            | Self::Incomplete { digest, .. }
            | Self::StageFailed { digest, .. }
            | Self::Loaded { digest }
            | Self::LoadFailed { digest, .. }
            | Self::TrialPassed { digest }
            | Self::TrialFailed { digest, .. } => Some(digest),
            Self::Resumed(_)
            | Self::Connected
            | Self::Disconnected
            | Self::Down(_)
            | Self::Roots { .. }
            | Self::Time { .. }
            | Self::Rejected { .. }
            | Self::ActiveLost { .. }
            | Self::Tick
            | Self::Stopping => None,
        }
    }
}
