//! LM75 and its register-compatible kin (TMP105, PCT2075) as a one-channel [`Sensor`], through
//! the stock `lm75` driver. Half a degree per step, −55 to 125 °C.

use ::lm75::{Address, Error, Lm75, ic};
use embedded_hal::i2c::{Error as _, I2c};

use crate::sensor::{Fault, Sensor};

/// A temperature sensor at an address on an I²C bus.
pub struct Thermometer<I2C>(Lm75<I2C, ic::Lm75>);

impl<I2C: I2c> Thermometer<I2C> {
    /// The sensor whose address pins A2, A1, A0 are all low: 0x48.
    #[must_use]
    pub fn new(i2c: I2C) -> Self {
        Self(Lm75::new(i2c, Address::default()))
    }
}

impl<I2C: I2c> Sensor for Thermometer<I2C> {
    const CHANNELS: &'static [&'static str] = &["temperature_degc"];

    fn read(&mut self, values: &mut [f32]) -> Result<(), Fault> {
        let degrees = self.0.read_temperature().map_err(|error| match error {
            Error::I2C(error) => Fault::from(error.kind()),
            // The driver says this of arguments only, and a reading has none.
            Error::InvalidInputData => Fault::Bus,
        })?;
        values.fill(degrees);
        Ok(())
    }
}
