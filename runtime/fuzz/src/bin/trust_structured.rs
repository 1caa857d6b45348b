//! Drawn metadata, and sequences in which it arrives.
#![no_main]

use drover_fuzz::{start, trust};

libfuzzer_sys::fuzz_target!(init: start::seeds(trust::structured_seeds), |bytes: &[u8]| trust::structured(bytes));
