//! What a node asks of a sensor, in the terms that its host needs: values per channel, or one of
//! a few reasons for none. Drivers stay stock crates; an adapter such as [`crate::lm75`] names
//! their channels and maps their errors.

use embedded_hal::i2c::ErrorKind;

/// A source of one reading of a fixed set of channels.
pub trait Sensor {
    /// Channel names with their units, for example `temperature_degc`; at most
    /// [`drover_wire::node::MAX_CHANNELS`].
    const CHANNELS: &'static [&'static str];

    /// Reads all channels into `values`, which has the length of [`Self::CHANNELS`].
    ///
    /// # Errors
    /// The [`Fault`] that kept the sensor from answering; `values` is then unspecified.
    fn read(&mut self, values: &mut [f32]) -> Result<(), Fault>;
}

/// Why a sensor gave no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody acknowledged: absent, unpowered, or at another address.
    NoAnswer,
    /// The bus itself failed: a line held low, lost arbitration, an overrun.
    Bus,
}

impl Fault {
    /// A few words for a log line. A text, not `Display`: formatting costs a small board more
    /// flash than all of this crate.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoAnswer => "sensor does not answer: check its power and address",
            Self::Bus => "sensor bus is stuck: check the wiring and pull-ups",
        }
    }
}

impl From<ErrorKind> for Fault {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NoAcknowledge(_) => Self::NoAnswer,
            _ => Self::Bus,
        }
    }
}
