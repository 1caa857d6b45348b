//! What all parts of a running server share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use crate::broker::Broker;
use crate::catalog::Catalogs;
use crate::certificate::Limits;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::identity::Identity;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::operator::Operators;
use crate::publisher::Publishers;
use crate::roots::Roots;
use crate::store::Store;
use crate::tls::Authority;

/// What all parts of a running server share.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) roots: Arc<Roots>,
    pub(crate) catalogs: Catalogs,
    pub(crate) data: Arc<DataDir>,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    /// Certificates of the authorities that vouch for the broker, DER.
    pub(crate) broker_authorities: Vec<Vec<u8>>,
    pub(crate) broker: Box<dyn Broker>,
    pub(crate) link: Link,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) publishers: Publishers,
    /// Asks the planner to look now.
    pub(crate) replan: Notify,
    /// When it was last noted in the database that a device was heard.
    pub(crate) seen: Mutex<HashMap<String, Instant>>,
    /// When each device's assignment was sent last, so that it is not sent with every report.
    pub(crate) sent: Mutex<HashMap<String, Instant>>,
    /// Version of the root that each device has reported last.
    pub(crate) trusted: Mutex<HashMap<String, u64>>,
    /// Limits what strangers may try.
    pub(crate) limits: Limits,
    pub(crate) operator_token: String,
    pub(crate) operators: Operators,
    pub(crate) started_unix_ms: u64,
}

impl Core {
    /// Host and port of the broker that devices are told.
    pub(crate) fn advertised(&self) -> (String, u16) {
        let (host, port) = self.broker.for_devices();
        (
            self.config.advertised_broker_host.clone().unwrap_or(host),
            self.config.advertised_broker_port.unwrap_or(port),
        )
    }
}
