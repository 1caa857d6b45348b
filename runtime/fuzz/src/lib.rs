//! What is fuzzed: every parser of bytes that come from a network or a file.
//!
//! Each parser has raw bytes thrown at it and is held to a round trip and to a bound on the
//! heap that it may take; structured targets draw valid values and sequences of actions
//! instead. The library builds without libFuzzer, so that the bounds are an ordinary test.
//! Parsers that need an engine or a whole program are in `programs/`, so that these build in
//! seconds.

pub mod bound;
pub mod bundle;
pub mod compile;
pub mod draw;
pub mod hostile;
pub mod node;
pub mod parser;
pub mod sketch;
pub mod start;
pub mod trust;
pub mod wire;

pub use bound::Bound;
pub use parser::Parser;
