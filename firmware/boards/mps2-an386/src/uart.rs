//! UART 0, a CMSDK APB UART (Arm DDI 0479): sends by polling with a limit, receives by interrupt
//! into a queue, because the device itself holds one byte only.

use core::cell::RefCell;

use cortex_m::peripheral::NVIC;
use critical_section::Mutex;
use drover_node::Sink;
use heapless::Vec;

use crate::{clock, mmio::Register, target::CORE_HZ};

const BASE: usize = 0x4000_4000;
// SAFETY: the registers of UART 0 in the AN386 memory map; the device masters no memory.
const DATA: Register = unsafe { Register::at(BASE) };
// SAFETY: as above.
const STATE: Register = unsafe { Register::at(BASE + 0x4) };
// SAFETY: as above.
const CTRL: Register = unsafe { Register::at(BASE + 0x8) };
// SAFETY: as above.
const INT_CLEAR: Register = unsafe { Register::at(BASE + 0xc) };
// SAFETY: as above.
const BAUD_DIV: Register = unsafe { Register::at(BASE + 0x10) };

const STATE_TX_FULL: u32 = 1 << 0;
const STATE_RX_FULL: u32 = 1 << 1;
const CTRL_TX: u32 = 1 << 0;
const CTRL_RX: u32 = 1 << 1;
const CTRL_RX_INTERRUPT: u32 = 1 << 3;
const INT_RX: u32 = 1 << 1;

const BAUD: u32 = 115_200;
/// A line that takes no byte for this long has nobody at its end.
const SEND_LIMIT_US: u64 = 20_000;
/// Twice what the line brings in the time of one sensor reading.
const QUEUE: usize = 256;

static RECEIVED: Mutex<RefCell<Vec<u8, QUEUE>>> = Mutex::new(RefCell::new(Vec::new()));

/// The sending side.
pub struct Uart {
    /// The last frame was cut short: close it off, or it takes the next one with it.
    cut: bool,
}

impl Uart {
    /// Sets the line up; from now on bytes are received.
    pub fn start(mut nvic: NVIC) -> Self {
        BAUD_DIV.write(CORE_HZ / BAUD);
        CTRL.write(CTRL_TX | CTRL_RX | CTRL_RX_INTERRUPT);
        // SAFETY: its handler is in the table below and takes the queue in a critical section;
        // no other critical section relies on this interrupt's mask.
        unsafe {
            nvic.set_priority(Irq::Uart0Rx, 0);
            NVIC::unmask(Irq::Uart0Rx);
        }
        Self { cut: false }
    }
}

impl Sink for Uart {
    fn send(&mut self, frame: &[u8]) {
        let closing: &[u8] = if self.cut { &[0] } else { &[] };
        self.cut = !closing.iter().chain(frame).all(|&byte| put(byte));
    }
}

/// Sends a byte; false when the line did not take it in time.
fn put(byte: u8) -> bool {
    let since = clock::now_us();
    while STATE.read() & STATE_TX_FULL != 0 {
        if clock::now_us() - since > SEND_LIMIT_US {
            return false;
        }
    }
    DATA.write(u32::from(byte));
    true
}

/// Takes what came in since the last call.
pub fn received() -> Vec<u8, QUEUE> {
    critical_section::with(|cs| core::mem::take(&mut *RECEIVED.borrow_ref_mut(cs)))
}

extern "C" fn uart0_rx() {
    INT_CLEAR.write(INT_RX);
    critical_section::with(|cs| {
        let mut queue = RECEIVED.borrow_ref_mut(cs);
        while STATE.read() & STATE_RX_FULL != 0 {
            // A full queue loses bytes; the frame's checksum finds it and the host repeats.
            let _ = queue.push(DATA.read() as u8);
        }
    });
}

#[derive(Clone, Copy)]
enum Irq {
    Uart0Rx = 0,
}

// SAFETY: the number is the line's position in the AN386 interrupt map and never changes.
unsafe impl cortex_m::interrupt::InterruptNumber for Irq {
    fn number(self) -> u16 {
        self as u16
    }
}

unsafe extern "C" {
    fn DefaultHandler();
}

/// The AN386's 32 interrupt lines. `cortex-m-rt` puts it behind the exceptions.
// SAFETY: this name and section are what cortex-m-rt's linker script asks a device for, and the
// functions have the signature of handlers.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".vector_table.interrupts")]
static __INTERRUPTS: [unsafe extern "C" fn(); 32] = {
    let mut table = [DefaultHandler as unsafe extern "C" fn(); 32];
    table[Irq::Uart0Rx as usize] = uart0_rx;
    table
};
