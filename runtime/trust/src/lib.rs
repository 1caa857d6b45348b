//! Who may say what: roles, keys, signed metadata and their verification.
//!
//! Every signature covers the pre-authenticated encoding (DSSE style) of a domain string
//! and the payload, so that bytes signed for one purpose never verify for another. Nothing
//! is parsed before its signatures have been counted against the threshold of its role.
//!
//! This crate is `no_std`, so that server, board and node run the same code. It never draws
//! random numbers, reads clocks or touches files: callers hand those in.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod assignment;
pub mod catalog;
pub mod device;
pub mod envelope;
pub mod error;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod key;
pub mod keyfile;
pub mod mutation;
pub mod root;
#[cfg(feature = "sealed")]
pub mod sealed;
pub mod voucher;

pub use assignment::{AssignedBundle, Assignment};
pub use catalog::{Catalog, CatalogMark, Listed};
pub use device::DeviceId;
pub use envelope::{Domain, Envelope, Signature};
pub use error::{Class, TrustError};
pub use key::{KeyId, PublicKey, SecretKey};
pub use root::{Role, RoleKeys, Root, TrustedRoot};
pub use voucher::Voucher;
