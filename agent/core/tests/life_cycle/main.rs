//! The whole life cycle of updates on one device in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod floor;
mod hostile;
#[cfg(feature = "mutation")]
mod mutated;
mod pace;
mod power_cut;
mod random;
mod refused;
mod stolen;
mod trust;
mod upgrade;
mod world;
