//! A simulated I²C bus with one register-map device and faults that a test switches on.

use embedded_hal::i2c::{Error, ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

/// What is wrong with the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The device does not acknowledge its address.
    Nack,
    /// A line is held low.
    Stuck,
}

/// A device with 16-bit big-endian registers, addressed by a pointer byte, as an LM75 has them.
#[derive(Debug)]
pub(crate) struct SimI2c {
    pub(crate) address: u8,
    pub(crate) registers: [u16; 4],
    pub(crate) trouble: Option<Trouble>,
    pointer: usize,
}

impl SimI2c {
    pub(crate) fn lm75(degrees: f32) -> Self {
        let mut sim = Self {
            address: 0x48,
            registers: [0; 4],
            trouble: None,
            pointer: 0,
        };
        sim.set_degrees(degrees);
        sim
    }

    /// Nine bits, half a degree each, left-aligned (LM75 data sheet, "temperature register").
    pub(crate) fn set_degrees(&mut self, degrees: f32) {
        self.registers[0] = ((degrees * 2.0) as i16 as u16) << 7;
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SimError(ErrorKind);

impl Error for SimError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl ErrorType for SimI2c {
    type Error = SimError;
}

impl I2c for SimI2c {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), SimError> {
        let nack = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
        match self.trouble {
            Some(Trouble::Stuck) => return Err(SimError(ErrorKind::Bus)),
            Some(Trouble::Nack) => return Err(SimError(nack)),
            None if address != self.address => return Err(SimError(nack)),
            None => {}
        }
        for operation in operations {
            match operation {
                Operation::Write(bytes) => self.pointer = usize::from(bytes[0] & 3),
                Operation::Read(bytes) => {
                    let register = self.registers[self.pointer].to_be_bytes();
                    for (to, from) in bytes.iter_mut().zip(register.iter().cycle()) {
                        *to = *from;
                    }
                }
            }
        }
        Ok(())
    }
}
