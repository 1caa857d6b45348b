//! The MQTT broker behind one trait: ours in this process, or somebody else's.
//!
//! By contract a broker is a lossy pipe: nothing here is asked to keep or to order anything,
//! and a broker that forgets everything costs time, never data.

mod acl;
mod embedded;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use drover_api::BrokerKind;

use crate::ServerError;

pub(crate) use acl::Gate;
pub(crate) use embedded::EmbeddedBroker;

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

    /// Host and port that the server connects to.
    fn endpoint(&self) -> (String, u16);

    /// How the server logs in.
    fn login(&self) -> Login;
}

/// A broker that somebody else runs.
pub(crate) struct ExternalBroker {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Login,
}

impl Broker for ExternalBroker {
    fn kind(&self) -> BrokerKind {
        BrokerKind::External
    }

    fn start(&self) -> Boxed<'_, Result<(), ServerError>> {
        Box::pin(async { Err(ServerError::ExternalBroker) })
    }

    fn stop(&self) -> Boxed<'_, Result<(), ServerError>> {
        Box::pin(async { Err(ServerError::ExternalBroker) })
    }

    fn is_running(&self) -> bool {
        true
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn endpoint(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }

    fn login(&self) -> Login {
        self.login.clone()
    }
}
