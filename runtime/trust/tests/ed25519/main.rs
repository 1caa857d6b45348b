//! Which ed25519 keys and signatures are accepted: those that `verify_strict` accepts, of
//! canonical keys, and no others.
//!
//! Two verifiers that disagree about one signature can be played against each other, so the
//! rules are pinned here by published vectors and by points of small and mixed order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod order;
mod wycheproof;
