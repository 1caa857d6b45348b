//! What the machine wants done, and the context that it asks and tells.

use drover_bundle::VerifiedManifest;
use drover_trust::{TrustedRoot, Voucher};
use drover_wire::message::{self, Digest, Up};

/// Something to do, after the durable state has been persisted.
///
/// Each effect names what it is about and may be performed twice. A power cut may keep any of
/// them from happening; [`crate::Event::Resumed`] then asks for it again where it matters.
/// Only [`Effect::Record`] is not repeated: the state that the server hears at each connect
/// is the truth, events are its commentary.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send if there is a connection; otherwise drop.
    Publish(Up),
    /// Take chunks from the bundle's topic.
    Subscribe {
        /// Which bundle.
        digest: Digest,
    },
    /// Take no more chunks from the bundle's topic.
    Unsubscribe {
        /// Which bundle.
        digest: Digest,
    },
    /// Keep a manifest; its signatures were checked.
    StoreManifest {
        /// Which bundle.
        digest: Digest,
        /// Encoded envelope.
        envelope: Vec<u8>,
    },
    /// Keep a chunk, whose digest was checked, and answer [`crate::Event::ChunkStored`] or
    /// [`crate::Event::ChunkLost`].
    StoreChunk {
        /// Which bundle.
        digest: Digest,
        /// Which chunk.
        index: u32,
        /// Content.
        bytes: Vec<u8>,
    },
    /// Make files of the chunks, compare each with its signed hash, keep them for good, and
    /// answer [`crate::Event::Staged`], [`crate::Event::Incomplete`] or
    /// [`crate::Event::StageFailed`].
    Stage {
        /// The bundle's manifest.
        manifest: Box<VerifiedManifest>,
        /// Its encoded envelope, which is one of the files.
        envelope: Vec<u8>,
    },
    /// Chunks are of no more use.
    DropChunks {
        /// Which bundle.
        digest: Digest,
    },
    /// Load beside what runs, run the golden vectors, and answer [`crate::Event::Loaded`],
    /// [`crate::Event::LoadFailed`] or, when files are damaged, [`crate::Event::Incomplete`].
    LoadCandidate {
        /// Which bundle.
        digest: Digest,
    },
    /// Give the loaded candidate live data.
    StartTrial {
        /// Which bundle.
        digest: Digest,
    },
    /// The candidate takes over.
    Activate {
        /// Which bundle.
        digest: Digest,
    },
    /// Load what is committed and run it; answered only by [`crate::Event::ActiveLost`].
    LoadCommitted {
        /// Which bundle.
        digest: Digest,
    },
    /// Run nothing.
    Deactivate,
    /// Unload the candidate.
    DropCandidate,
    /// Forget the files and chunks of a bundle.
    RemoveBundle {
        /// Which bundle.
        digest: Digest,
    },
    /// Verify further messages and bundles with this root; it has been persisted. At a start
    /// [`crate::Machine::root`] says which one it is.
    RootChanged(TrustedRoot),
    /// Unwrap the key to a confidential bundle's chunks, and decrypt them with it before
    /// [`crate::Event::Chunk`].
    ContentKey {
        /// Which bundle.
        digest: Digest,
        /// HPKE's encapsulated key.
        encapsulated: [u8; 32],
        /// The wrapped content key, with its tag.
        wrapped: Vec<u8>,
    },
    /// Join the fleet that the old one has given the device to; the voucher was verified.
    Transfer(Box<Voucher>),
    /// Put an event into the outbox.
    Record(message::Event),
}

/// What the machine asks of its surroundings, and where its effects go.
pub trait Ctx {
    /// Milliseconds of a clock that never steps, from any origin.
    fn now_ms(&self) -> u64;

    /// A random number, for jitter only.
    fn random(&mut self) -> u64;

    /// Takes an effect; it is performed after the durable state was persisted, in order.
    fn effect(&mut self, effect: Effect);
}
