//! What is fuzzed of the programs: models, the agent's files and its local socket, and the
//! first packet that the server's front reads.
//!
//! As in the library beside this one, which see for the rules.

pub mod agent;
pub mod engine;
pub mod front;
