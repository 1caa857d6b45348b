//! The program without the verifier.

#![no_std]
#![no_main]

extern crate alloc;

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    let bytes = alloc::vec::Vec::from(drover_trust_size::input());
    drover_trust_size::done(bytes.is_empty())
}
