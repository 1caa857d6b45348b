//! Models, raw and drawn.
#![no_main]

use drover_fuzz_programs::engine;

libfuzzer_sys::fuzz_target!(init: engine::start(), |bytes: &[u8]| engine::run(bytes));
