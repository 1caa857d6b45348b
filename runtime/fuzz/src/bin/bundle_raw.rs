//! Raw bytes for the parsers of bundles and their specs.
#![no_main]

use drover_fuzz::{bundle, start};

libfuzzer_sys::fuzz_target!(init: start::seeds(bundle::raw_seeds), |bytes: &[u8]| bundle::raw(bytes));
