//! Raw bytes for the parsers of signed metadata.
#![no_main]

use drover_fuzz::{start, trust};

libfuzzer_sys::fuzz_target!(init: start::seeds(trust::raw_seeds), |bytes: &[u8]| trust::raw(bytes));
