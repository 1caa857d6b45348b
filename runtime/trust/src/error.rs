//! Why metadata is refused, and what a caller may do about it.

use crate::Role;

/// What to do after an error; the one place that every retry decision reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same bytes may be accepted later.
    Retry,
    /// These bytes will never be accepted.
    Refuse,
}

/// Why metadata is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Fewer distinct keys of the role signed than its threshold.
    #[error("{got} of {needed} needed {role} signatures are valid")]
    Threshold {
        /// Role whose signatures were counted.
        role: Role,
        /// Distinct keys of the role with a valid signature.
        got: usize,
        /// Threshold of the role.
        needed: usize,
    },
    /// The bytes do not parse, or bytes follow their end.
    #[error("{0} does not parse")]
    Parse(&'static str),
    /// More bytes than the limit of this kind of metadata.
    #[error("{what} of {got} bytes is over the limit of {limit}")]
    TooLarge {
        /// Kind of metadata.
        what: &'static str,
        /// Length found.
        got: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A format version that this build does not know.
    #[error("{what} format {got} is unknown")]
    Version {
        /// Kind of metadata.
        what: &'static str,
        /// Version found.
        got: u8,
    },
    /// Not a valid ed25519 public key, or one of small order.
    #[error("public key is not usable")]
    Key,
    /// Root metadata whose roles contradict themselves.
    #[error("root metadata is inconsistent: {0}")]
    Root(&'static str),
    /// A root that is not the successor of the trusted one.
    #[error("root version {got} does not follow {have}")]
    RootVersion {
        /// Version trusted now.
        have: u64,
        /// Version offered.
        got: u64,
    },
    /// The passphrase does not open the key.
    #[error("the passphrase does not open the key")]
    Passphrase,
    /// A catalog that contradicts itself or an earlier one.
    #[error("catalog is inconsistent: {0}")]
    Catalog(&'static str),
    /// Metadata past its end: somebody may hold newer metadata back.
    #[error("{what} ended at {expired}, it is {now} (seconds since 1970)")]
    Stale {
        /// Kind of metadata.
        what: &'static str,
        /// End of its life.
        expired: u64,
        /// Trusted time.
        now: u64,
    },
    /// The catalog does not list a bundle as it is assigned.
    #[error("the fleet's catalog does not list the bundle as it is assigned")]
    Unlisted,
    /// A security epoch below the least one that is accepted.
    #[error("security epoch {got} is below {have}")]
    Epoch {
        /// Least epoch accepted.
        have: u64,
        /// Epoch offered.
        got: u64,
    },
    /// Metadata of another fleet.
    #[error("metadata is for another fleet")]
    Fleet,
    /// An instruction for another device.
    #[error("instruction is for another device")]
    Device,
    /// A sequence that is not above the last accepted one.
    #[error("sequence {got} is not above {have}")]
    Rollback {
        /// Last accepted.
        have: u64,
        /// Offered.
        got: u64,
    },
    /// The instruction expired before it was accepted.
    #[error("instruction expired at {expired}, it is {now} (seconds since 1970)")]
    Expired {
        /// End of its life.
        expired: u64,
        /// Trusted time.
        now: u64,
    },
}

impl TrustError {
    /// Whether the same bytes can be accepted later.
    pub fn class(&self) -> Class {
        match self {
            // A root that is missing in between can still arrive.
            Self::RootVersion { have, got } if got > have => Class::Retry,
            _ => Class::Refuse,
        }
    }
}
