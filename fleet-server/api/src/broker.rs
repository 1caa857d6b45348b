//! The MQTT broker, as an operator sees it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which broker the server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerKind {
    /// Inside the server's process.
    Embedded,
    /// Run by somebody else.
    External,
}

/// State of the broker and of the server's link to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Broker {
    /// Which one.
    pub kind: BrokerKind,
    /// Whether the embedded broker listens; always true for an external one.
    pub running: bool,
    /// Whether the server is connected to it.
    pub connected: bool,
    /// Address that the server connects to.
    pub addr: String,
    /// Host that devices are told at enrolment.
    pub advertised_host: String,
    /// Port that devices are told at enrolment.
    pub advertised_port: u16,
}
