//! Checks that a test build can switch off, to see that some test notices.
//!
//! Without the feature `mutation`, which nothing but tests enables, every question here is
//! answered "no" at compile time and the binary holds no switch.

/// A check that decides whether something is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Check {
    /// A signature must verify at all (A1).
    Signature,
    /// Distinct keys are counted, not entries (A2).
    DistinctKeys,
    /// The threshold of a role must be reached (A3).
    Threshold,
    /// A root must be the very next version (A4).
    RootVersion,
    /// A root must be signed by its predecessor's keys (A4).
    RootPredecessor,
    /// What revoked keys signed dies with them (A5).
    Revocation,
    /// Catalogs only grow (B1).
    CatalogRollback,
    /// Assignments only grow (B1, F3).
    AssignmentRollback,
    /// Counters of bundles only grow (B2).
    BundleRollback,
    /// Security epochs only grow (B2, B3).
    Epoch,
    /// Catalogs end (C1).
    CatalogExpiry,
    /// Assignments end (C1, F3).
    AssignmentExpiry,
    /// The time floor never steps back, and the board's clock has no say (C2).
    TimeFloor,
    /// Expiry stops acceptance only, never a commit under way (C3).
    ExpiryStopsAcceptanceOnly,
    /// Downloads have a least rate (C4).
    SlowSource,
    /// Reconnects are jittered and the outbox keeps what was not delivered (C5).
    LostReports,
    /// Chunks match their signed digests (A1, C6).
    ChunkDigest,
    /// A rotated fleet or catalog key resets what the old one counted (C7).
    FastForward,
    /// Nothing is remembered of what is refused (C8).
    RefusedIsForgotten,
    /// Files match the hashes of the one manifest that names them (D1).
    FileHash,
    /// A bundle is complete before it is staged (D2).
    Completeness,
    /// A container holds exactly the files of its manifest (D3).
    ExactFiles,
    /// Instructions are for this device (D4, D5, F3).
    Recipient,
    /// A bundle fits this board (D4).
    Compatibility,
    /// The catalog lists what is assigned (A3, D1).
    CatalogListing,
    /// Deltas name their base and their result (D6).
    DeltaBase,
    /// Nothing is parsed over its limit (E1).
    SizeLimit,
    /// Models are bounded before they are loaded (E2).
    ModelBounds,
    /// File names are names (E3).
    FileNames,
    /// What was verified is what is loaded (E4).
    LoadedIsVerified,
    /// Content of confidential bundles is encrypted (F1).
    Confidentiality,
    /// Reports are numbered and signed by their device (F2).
    ReportReplay,
    /// A claim serves one device, once; a cloned identity is noticed (F4).
    Claim,
    /// Two people, limits of exposure, an audit chain (F5).
    SecondPerson,
}

#[cfg(not(feature = "mutation"))]
mod switch {
    use super::Check;

    /// Whether a test has switched this check off; never, in this build.
    #[inline(always)]
    pub const fn is_disabled(_: Check) -> bool {
        false
    }
}

#[cfg(feature = "mutation")]
mod switch {
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::Check;

    static DISABLED: AtomicU64 = AtomicU64::new(0);

    /// Whether a test has switched this check off.
    pub fn is_disabled(check: Check) -> bool {
        DISABLED.load(Ordering::Relaxed) & (1 << check as u8) != 0
    }

    impl Check {
        /// Every check.
        pub const ALL: [Self; 34] = [
            Self::Signature,
            Self::DistinctKeys,
            Self::Threshold,
            Self::RootVersion,
            Self::RootPredecessor,
            Self::Revocation,
            Self::CatalogRollback,
            Self::AssignmentRollback,
            Self::BundleRollback,
            Self::Epoch,
            Self::CatalogExpiry,
            Self::AssignmentExpiry,
            Self::TimeFloor,
            Self::ExpiryStopsAcceptanceOnly,
            Self::SlowSource,
            Self::LostReports,
            Self::ChunkDigest,
            Self::FastForward,
            Self::RefusedIsForgotten,
            Self::FileHash,
            Self::Completeness,
            Self::ExactFiles,
            Self::Recipient,
            Self::Compatibility,
            Self::CatalogListing,
            Self::DeltaBase,
            Self::SizeLimit,
            Self::ModelBounds,
            Self::FileNames,
            Self::LoadedIsVerified,
            Self::Confidentiality,
            Self::ReportReplay,
            Self::Claim,
            Self::SecondPerson,
        ];

        /// Name of the check, as in its variant.
        pub fn name(self) -> alloc::string::String {
            alloc::format!("{self:?}")
        }

        /// Switches it off for this process.
        pub fn disable(self) {
            DISABLED.fetch_or(1 << self as u8, Ordering::Relaxed);
        }

        /// Switches off the check of this name; `false` when there is none.
        pub fn disable_named(name: &str) -> bool {
            let found = Self::ALL.into_iter().find(|c| c.name() == name);
            found.map(Self::disable).is_some()
        }
    }
}

pub use switch::is_disabled;
