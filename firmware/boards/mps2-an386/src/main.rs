//! The sensor node on an Arm MPS2 with the AN386 image: joins `drover-node` to UART 0, an LM75
//! compatible thermometer on a bit-banged I²C bus, and the clock.
//!
//! What to say and when is in `drover-node`; here are only registers. This is the one place of
//! the firmware with `unsafe`, each use with its reason. A panic resets the board: the node keeps
//! nothing, so starting over is its way to recover.
#![no_std]
#![no_main]

mod clock;
mod mmio;
mod sbcon;
mod uart;

use cortex_m::peripheral::SCB;
use cortex_m_rt::entry;
use drover_node::{BitBangI2c, Event, Identity, Node, lm75::Thermometer};

mod target {
    include!(concat!(env!("OUT_DIR"), "/target.rs"));
}

#[entry]
fn main() -> ! {
    let peripherals = cortex_m::Peripherals::take().expect("the entry point runs once");
    clock::start(peripherals.SYST);
    let mut uart = uart::Uart::start(peripherals.NVIC);
    let (scl, sda) = sbcon::lines();
    let identity = Identity {
        uid: target::UID,
        board: target::NAME,
        fw_version: env!("CARGO_PKG_VERSION"),
    };
    let bus = BitBangI2c::new(scl, sda, clock::Busy);
    let mut node = Node::new(identity, Thermometer::new(bus));
    loop {
        let received = uart::received();
        if !received.is_empty() {
            node.on(clock::now_us(), Event::Received(&received), &mut uart);
        }
        node.on(clock::now_us(), Event::Tick, &mut uart);
        // A byte or the next millisecond wakes it.
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
