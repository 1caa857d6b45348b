//! The two lines of the "shield" I²C bus: an Arm SBCon, which is a pair of open-drain pins
//! behind one set and one clear register (Arm Versatile Express TRM, "serial bus interface").

use core::convert::Infallible;

use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

use crate::mmio::Register;

const BASE: usize = 0x4002_a000;
// SAFETY: SB_CONTROL (read) and SB_CONTROLS (write: set bits) of the SBCon at this address of the
// AN386 memory map; it masters no memory.
const SET: Register = unsafe { Register::at(BASE) };
// SAFETY: SB_CONTROLC (write: clear bits) of the same device.
const CLEAR: Register = unsafe { Register::at(BASE + 4) };

/// The clock and the data line. Both registers act on single bits, so the two never disturb
/// each other.
pub fn lines() -> (Line<0>, Line<1>) {
    (Line, Line)
}

/// One line of the bus; high means released.
pub struct Line<const BIT: u32>;

impl<const BIT: u32> ErrorType for Line<BIT> {
    type Error = Infallible;
}

impl<const BIT: u32> OutputPin for Line<BIT> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        CLEAR.write(1 << BIT);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        SET.write(1 << BIT);
        Ok(())
    }
}

impl<const BIT: u32> InputPin for Line<BIT> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(SET.read() & 1 << BIT != 0)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(SET.read() & 1 << BIT == 0)
    }
}
