//! Drawn messages of the fleet.
#![no_main]

use drover_fuzz::{start, wire};

libfuzzer_sys::fuzz_target!(init: start::seeds(wire::structured_seeds), |bytes: &[u8]| wire::structured(bytes));
