//! A whole fleet on one machine, for the demo, the end-to-end tests and the benchmarks.
//!
//! It starts the real programs as processes, talks to them as people and applications do (the
//! command line, the REST interface, the local socket), and stops exactly what it started.

pub mod agent;
pub mod bench;
pub mod demo;
pub mod fleet;
pub mod poll;
pub mod process;
pub mod rig;
