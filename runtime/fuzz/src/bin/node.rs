//! The serial line between node and agent, raw and drawn.
#![no_main]

use drover_fuzz::{node, start};

libfuzzer_sys::fuzz_target!(init: start::seeds(node::seeds), |bytes: &[u8]| node::run(bytes));
