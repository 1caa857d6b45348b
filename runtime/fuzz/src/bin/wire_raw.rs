//! Raw bytes for the parsers of the fleet's messages.
#![no_main]

use drover_fuzz::{start, wire};

libfuzzer_sys::fuzz_target!(init: start::seeds(wire::raw_seeds), |bytes: &[u8]| wire::raw(bytes));
