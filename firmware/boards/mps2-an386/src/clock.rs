//! Microseconds since the start, from SysTick: its interrupt counts milliseconds, its counter
//! gives the part between two of them. 64 bits do not wrap in the life of the board.

use core::cell::Cell;

use cortex_m::peripheral::{SCB, SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use critical_section::Mutex;
use embedded_hal::delay::DelayNs;

use crate::target::CORE_HZ;

const CYCLES_PER_MS: u32 = CORE_HZ / 1_000;
const CYCLES_PER_US: u32 = CORE_HZ / 1_000_000;

static MILLISECONDS: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Starts the clock at zero.
pub fn start(mut syst: SYST) {
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(CYCLES_PER_MS - 1);
    syst.clear_current();
    syst.enable_interrupt();
    syst.enable_counter();
}

/// The time since [`start`]; never steps back.
pub fn now_us() -> u64 {
    critical_section::with(|cs| {
        let mut count = SYST::get_current();
        let mut ms = MILLISECONDS.borrow(cs).get();
        if SCB::is_pendst_pending() {
            // It wrapped after interrupts went off: count that millisecond, with a fresh counter.
            count = SYST::get_current();
            ms += 1;
        }
        let cycles = (CYCLES_PER_MS - 1).saturating_sub(count);
        ms * 1_000 + u64::from(cycles / CYCLES_PER_US)
    })
}

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        let ms = MILLISECONDS.borrow(cs);
        ms.set(ms.get() + 1);
    });
}

/// Waits by counting cycles.
pub struct Busy;

impl DelayNs for Busy {
    fn delay_ns(&mut self, ns: u32) {
        cortex_m::asm::delay((ns / 1_000).max(1) * CYCLES_PER_US);
    }
}
