//! Microseconds since the start, from the prescaled counter of the board's FPGA, and a tick of
//! SysTick that wakes the main loop each millisecond.
//!
//! The time is read, not counted by the tick: an emulator on a busy machine merges late ticks,
//! and a time made of them ran six per cent slow.

use core::cell::Cell;

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use critical_section::Mutex;
use embedded_hal::delay::DelayNs;

use crate::{mmio::Register, target::CORE_HZ};

const CYCLES_PER_MS: u32 = CORE_HZ / 1_000;
const CYCLES_PER_US: u32 = CORE_HZ / 1_000_000;

const BASE: usize = 0x4002_8000;
// SAFETY: COUNTER of the FPGA I/O block in the AN386 memory map; the block masters no memory.
const COUNTER: Register = unsafe { Register::at(BASE + 0x18) };
// SAFETY: PRESCALE of the same block.
const PRESCALE: Register = unsafe { Register::at(BASE + 0x1c) };

/// The time at the last reading. Its low half is what the counter said then.
static TIME_US: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Starts the clock at zero, and the tick.
pub fn start(mut syst: SYST) {
    PRESCALE.write(CYCLES_PER_US - 1);
    COUNTER.write(0);
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(CYCLES_PER_MS - 1);
    syst.clear_current();
    syst.enable_interrupt();
    syst.enable_counter();
}

/// The time since [`start`]; never steps back. The counter wraps after 71 minutes, so call it
/// more often than that: the main loop does so at each tick.
pub fn now_us() -> u64 {
    critical_section::with(|cs| {
        let time = TIME_US.borrow(cs);
        let passed = COUNTER.read().wrapping_sub(time.get() as u32);
        time.set(time.get() + u64::from(passed));
        time.get()
    })
}

#[exception]
fn SysTick() {}

/// Waits by counting cycles.
pub struct Busy;

impl DelayNs for Busy {
    fn delay_ns(&mut self, ns: u32) {
        cortex_m::asm::delay((ns / 1_000).max(1) * CYCLES_PER_US);
    }
}
