//! Raw bytes for the parsers of drift sketches.
#![no_main]

use drover_fuzz::{sketch, start};

libfuzzer_sys::fuzz_target!(init: start::seeds(sketch::raw_seeds), |bytes: &[u8]| sketch::raw(bytes));
