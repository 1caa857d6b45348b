//! The fleet server: REST interface, MQTT broker, ingest, rollouts and their database.
//!
//! [`start`] brings one up in this process; the `drover serve` command is a thin shell around
//! it. Desired state lives in the database, and the broker is a lossy pipe by contract: only
//! what has been committed is acknowledged, and whoever misses a message gets it again.

mod affected;
mod api_docs;
mod audit;
mod broker;
mod catalog;
mod certificate;
mod clock;
mod confidential;
mod config;
mod data_dir;
mod dispatch;
mod drift;
mod enrol;
mod error;
mod http;
mod identity;
mod ingest;
mod link;
mod metrics;
mod mosquitto;
mod operator;
mod publisher;
mod random;
mod rate;
mod release;
mod rollout;
mod roots;
mod server;
mod state;
mod store;
mod tls;
mod transfer;

pub use api_docs::openapi_json;
pub use config::{BrokerConfig, ClientFiles, Config};
pub use error::ServerError;
pub use operator::OidcConfig;
pub use server::{Server, start};
pub use tls::ed25519_pem;
