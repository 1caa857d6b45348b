//! Streams, merges and drawn profiles.
#![no_main]

use drover_fuzz::{sketch, start};

libfuzzer_sys::fuzz_target!(init: start::seeds(sketch::structured_seeds), |bytes: &[u8]| sketch::structured(bytes));
