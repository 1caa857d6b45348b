//! Drawn manifests and tensors, damaged bundles.
#![no_main]

use drover_fuzz::{bundle, start};

libfuzzer_sys::fuzz_target!(init: start::seeds(bundle::structured_seeds), |bytes: &[u8]| bundle::structured(bytes));
