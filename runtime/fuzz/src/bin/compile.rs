//! Models for the compiler, raw and drawn.
#![no_main]

use drover_fuzz::{compile, start};

libfuzzer_sys::fuzz_target!(init: start::seeds(compile::seeds), |bytes: &[u8]| compile::run(bytes));
