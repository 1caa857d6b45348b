//! The first packet of an MQTT connection, raw and put together.
#![no_main]

use drover_fuzz::start;
use drover_fuzz_programs::front;

libfuzzer_sys::fuzz_target!(init: start::seeds(front::seeds), |bytes: &[u8]| front::run(bytes));
