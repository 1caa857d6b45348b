//! An I²C master on two open-drain pins, for boards without an I²C controller, as an embedded-hal
//! [`I2c`]. Single master, 7-bit addresses, clock stretching with a limit, and a stuck bus is
//! freed once per transaction. Timing source: NXP UM10204, standard mode (100 kHz).

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::i2c::{self, ErrorKind, I2c, NoAcknowledgeSource, Operation};

const HALF_BIT_NS: u32 = 5_000;
/// A slave that holds the clock for longer than 1 ms holds up the node.
const STRETCH_HALF_BITS: u32 = 200;

/// A bus on two pins that are read back while released: setting one high lets go of the line.
#[derive(Debug)]
pub struct BitBangI2c<Scl, Sda, Delay> {
    scl: Scl,
    sda: Sda,
    delay: Delay,
}

/// Why a transfer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error(ErrorKind);

impl i2c::Error for Error {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl<Scl, Sda, Delay> i2c::ErrorType for BitBangI2c<Scl, Sda, Delay> {
    type Error = Error;
}

impl<Scl, Sda, Delay> I2c for BitBangI2c<Scl, Sda, Delay>
where
    Scl: InputPin + OutputPin,
    Sda: InputPin + OutputPin,
    Delay: DelayNs,
{
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), Error> {
        let result = self.run(address, operations);
        // Also after a failure: a slave left in the middle of a byte would answer the next one.
        let stopped = self.stop();
        result.and(stopped)
    }
}

impl<Scl, Sda, Delay> BitBangI2c<Scl, Sda, Delay>
where
    Scl: InputPin + OutputPin,
    Sda: InputPin + OutputPin,
    Delay: DelayNs,
{
    /// A bus on these pins; nothing moves before the first transaction.
    #[must_use]
    pub const fn new(scl: Scl, sda: Sda, delay: Delay) -> Self {
        Self { scl, sda, delay }
    }

    /// Neighbours of one direction are one transfer without a start between them, as
    /// [`I2c::transaction`] asks; only the last byte of a read transfer is not acknowledged.
    fn run(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), Error> {
        self.free()?;
        let mut reading = None;
        let mut rest = operations;
        while let Some((operation, after)) = rest.split_first_mut() {
            let is_read = matches!(operation, Operation::Read(_));
            if reading != Some(is_read) {
                reading = Some(is_read);
                self.start()?;
                let byte = address << 1 | u8::from(is_read);
                self.write(byte, NoAcknowledgeSource::Address)?;
            }
            match operation {
                Operation::Write(bytes) => {
                    for byte in *bytes {
                        self.write(*byte, NoAcknowledgeSource::Data)?;
                    }
                }
                Operation::Read(bytes) => {
                    let more_follows = matches!(after.first(), Some(Operation::Read(_)));
                    let last = bytes.len().saturating_sub(1);
                    for (index, byte) in bytes.iter_mut().enumerate() {
                        *byte = self.read(index < last || more_follows)?;
                    }
                }
            }
            rest = after;
        }
        Ok(())
    }

    /// Clocks out a slave that a reset of this node left in the middle of a byte.
    fn free(&mut self) -> Result<(), Error> {
        self.sda(true)?;
        self.scl(true)?;
        for _ in 0..9 {
            if self.sda.is_high().map_err(pin)? {
                return Ok(());
            }
            self.scl(false)?;
            self.scl(true)?;
        }
        if self.sda.is_high().map_err(pin)? {
            return Ok(());
        }
        Err(Error(ErrorKind::Bus))
    }

    fn start(&mut self) -> Result<(), Error> {
        self.sda(true)?;
        self.scl(true)?;
        self.sda(false)?;
        self.scl(false)
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.scl(false)?;
        self.sda(false)?;
        self.scl(true)?;
        self.sda(true)
    }

    fn write(&mut self, byte: u8, source: NoAcknowledgeSource) -> Result<(), Error> {
        for bit in (0..8).rev() {
            self.clock(byte >> bit & 1 == 1)?;
        }
        if self.clock(true)? {
            return Err(Error(ErrorKind::NoAcknowledge(source)));
        }
        Ok(())
    }

    fn read(&mut self, acknowledge: bool) -> Result<u8, Error> {
        let mut byte = 0;
        for _ in 0..8 {
            byte = byte << 1 | u8::from(self.clock(true)?);
        }
        self.clock(!acknowledge)?;
        Ok(byte)
    }

    /// One clock pulse with `bit` offered; what the line carried. Clock low before and after.
    fn clock(&mut self, bit: bool) -> Result<bool, Error> {
        self.sda(bit)?;
        self.scl(true)?;
        let level = self.sda.is_high().map_err(pin)?;
        self.scl(false)?;
        Ok(level)
    }

    fn sda(&mut self, high: bool) -> Result<(), Error> {
        self.sda.set_state(high.into()).map_err(pin)?;
        self.delay.delay_ns(HALF_BIT_NS);
        Ok(())
    }

    fn scl(&mut self, high: bool) -> Result<(), Error> {
        self.scl.set_state(high.into()).map_err(pin)?;
        self.delay.delay_ns(HALF_BIT_NS);
        let mut waited = 0;
        while high && self.scl.is_low().map_err(pin)? {
            if waited == STRETCH_HALF_BITS {
                return Err(Error(ErrorKind::Bus));
            }
            waited += 1;
            self.delay.delay_ns(HALF_BIT_NS);
        }
        Ok(())
    }
}

fn pin<E>(_: E) -> Error {
    Error(ErrorKind::Other)
}
