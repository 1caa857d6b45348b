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

/// Asks for mosquitto's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MosquittoRequest {
    /// Names and addresses under which devices reach the broker, for its certificate.
    pub names: Vec<String>,
    /// Port that it listens on.
    pub port: u16,
    /// Folder in which the files will lie, as the broker sees it.
    pub folder: String,
}

/// A file of a configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigFile {
    /// Name in its folder.
    pub name: String,
    /// Content.
    pub content: String,
    /// Whether only the broker may read it.
    #[serde(default)]
    pub secret: bool,
}

impl std::fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigFile({})", self.name)
    }
}

/// Asks for a certificate of an operator's own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertifyOperator {
    /// Name of the operator's account.
    pub name: String,
    /// Ed25519 key, hexadecimal.
    pub public_key: String,
}

/// A certificate of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperatorCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// End of its life, in seconds since 1970.
    pub expires_unix_s: u64,
}

/// What was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// How many certificates were valid until now.
    pub certificates: u64,
}
