//! What crosses the fleet's network: messages, topics, limits and versions.
//!
//! Every message is one version byte and postcard of one enum. Enums only ever grow at
//! their end; unknown versions are refused; each version has golden bytes in the tests for
//! ever. Signatures lie around these bytes (`drover-trust`), never inside them.
//!
//! The crate is `no_std`. Without the feature `alloc` only [`limits`] and the frames between
//! node and agent ([`node`]) are there.

#![cfg_attr(not(test), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
pub mod bitmap;
#[cfg(feature = "alloc")]
pub mod chunk;
#[cfg(feature = "alloc")]
mod codec;
#[cfg(feature = "alloc")]
pub mod enrol;
pub mod limits;
#[cfg(feature = "alloc")]
pub mod message;
pub mod node;
#[cfg(feature = "alloc")]
pub mod topic;
