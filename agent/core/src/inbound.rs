//! Messages from the server whose signature, recipient and form have been checked.
//!
//! [`crate::Machine`] and [`crate::Outbox`] take only [`VerifiedDown`], and only
//! [`VerifiedDown::open`] makes one: an unchecked message cannot reach them.

use drover_trust::mutation::{Check, is_disabled};
use drover_trust::{DeviceId, Domain, Envelope, Role, TrustError, TrustedRoot};
use drover_wire::message::{Addressed, Down, FailureCode, WireError};

/// Why bytes on the device's topic are not for it to act on.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// The envelope does not parse, or the fleet role did not sign it.
    #[error("message is not signed by the fleet")]
    Signature(#[source] TrustError),
    /// Signed, but not a message that this build reads.
    #[error("signed message is not readable")]
    Form(#[source] WireError),
    /// Signed, for another device.
    #[error("message is for device {0}")]
    Recipient(String),
}

impl InboundError {
    /// The number under which it is reported.
    #[must_use]
    pub fn code(&self) -> FailureCode {
        match self {
            Self::Signature(_) => FailureCode::SignatureInvalid,
            Self::Form(_) => FailureCode::Incompatible,
            Self::Recipient(_) => FailureCode::WrongRecipient,
        }
    }
}

/// A message that the fleet role signed for this device.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedDown {
    sent_unix_s: u64,
    message: Down,
}

impl VerifiedDown {
    /// Checks the bytes of one MQTT message.
    ///
    /// # Errors
    /// [`InboundError`]; nothing of the message is to be used then.
    pub fn open(bytes: &[u8], root: &TrustedRoot, device: &DeviceId) -> Result<Self, InboundError> {
        let envelope = Envelope::decode(bytes).map_err(InboundError::Signature)?;
        let payload = root
            .verify(Role::Fleet, Domain::Down, &envelope)
            .map_err(InboundError::Signature)?;
        let addressed = Addressed::decode(payload).map_err(InboundError::Form)?;
        if addressed.device != device.as_str() && !is_disabled(Check::Recipient) {
            return Err(InboundError::Recipient(addressed.device));
        }
        Ok(Self {
            sent_unix_s: addressed.sent_unix_s,
            message: addressed.message,
        })
    }

    /// The server's clock when it signed, in seconds since 1970.
    #[must_use]
    pub fn sent_unix_s(&self) -> u64 {
        self.sent_unix_s
    }

    /// What it says.
    #[must_use]
    pub fn message(&self) -> &Down {
        &self.message
    }

    pub(crate) fn into_message(self) -> Down {
        self.message
    }
}
