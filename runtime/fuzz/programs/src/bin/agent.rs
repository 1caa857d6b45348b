//! The agent's files and its local socket, raw and drawn.
#![no_main]

use drover_fuzz::start;
use drover_fuzz_programs::agent;

libfuzzer_sys::fuzz_target!(init: start::seeds(agent::seeds), |bytes: &[u8]| agent::run(bytes));
