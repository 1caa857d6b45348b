//! The MQTT broker behind one trait: ours in this process, or somebody else's.
//!
//! By contract a broker is a lossy pipe: nothing here is asked to keep or to order anything,
//! and a broker that forgets everything costs time, never data.

mod acl;
mod embedded;
mod external;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use drover_api::BrokerKind;
use rustls::ClientConfig;

use crate::ServerError;

pub(crate) use acl::Gate;
pub(crate) use embedded::EmbeddedBroker;
pub(crate) use external::ExternalBroker;

/// A future that a trait object can give.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How the server logs in.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) client_id: String,
    /// User name and password.
    pub(crate) credentials: Option<(String, String)>,
}

/// A broker.
pub(crate) trait Broker: Send + Sync {
    /// Which kind.
    fn kind(&self) -> BrokerKind;

    /// Listens; does nothing when it does already.
    fn start(&self) -> Boxed<'_, Result<(), ServerError>>;

    /// Closes the listener and all sessions; does nothing when it has stopped.
    fn stop(&self) -> Boxed<'_, Result<(), ServerError>>;

    /// Whether it listens, as far as is known here.
    fn is_running(&self) -> bool;

    /// Address that it is bound to, if it is bound in this process.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// Where and how the server connects.
    fn endpoint(&self) -> Endpoint;

    /// How the server logs in.
    fn login(&self) -> Login;

    /// Host and port for devices, unless the configuration knows better.
    fn for_devices(&self) -> (String, u16);

    /// Ends the sessions of a device now. It comes back unless it has been revoked or
    /// quarantined before.
    fn cut<'a>(&'a self, device: &'a str) -> Boxed<'a, Result<(), ServerError>>;

    /// Makes a new revocation list known, as PEM.
    fn revoked(&self, list: &str) -> Result<(), ServerError>;

    /// Sessions of devices that live now, as far as is known here.
    fn sessions(&self) -> Option<usize>;
}

/// Where and how the server connects.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Settings of TLS; none for plain MQTT.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}
