//! What the agent persists, behind one object-safe trait: [`Journal`].
//!
//! State cells, the outbox of unacknowledged records, staged chunks and finished bundle files all
//! pass through it. [`SledJournal`] keeps them on disk, [`MemJournal`] in memory, and
//! [`FaultJournal`] in a memory that loses power, tears writes or fills up on demand. All three are
//! the same [`Store`] over another [`Medium`], so what the power-cut tests exercise is what ships.
//!
//! This crate never interprets what it stores, never talks to a network, and owns no clock and no
//! runtime: every call blocks, and the caller chooses the thread.

mod disk;
mod envelope;
mod error;
mod fault;
mod journal;
mod key;
mod medium;
mod memory;
mod open;
mod part;
mod salvage;
mod store;

pub use disk::SledMedium;
pub use error::{Class, StoreError};
pub use fault::{Cut, FaultJournal, FaultMedium};
pub use journal::{BundleEntry, Journal, OpenReport, OutboxQuota, Salvage};
pub use key::{Digest, RecordKey};
pub use medium::{Healed, KvOp, Medium, Visit};
pub use memory::{MemJournal, MemMedium};
pub use open::{SledJournal, SledOptions};
pub use store::Store;

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, StoreError>;
