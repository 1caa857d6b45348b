//! The server's configuration: one struct, with its defaults in one place.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{OidcConfig, ServerError};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder for everything the server keeps.
    pub data_dir: PathBuf,
    /// File with the fleet's signed root metadata.
    pub root: PathBuf,
    /// File with the fleet role's secret key.
    pub fleet_key: PathBuf,
    /// File with the catalog role's secret key; by default `catalog.key` beside the fleet key.
    pub catalog_key: Option<PathBuf>,
    /// Files with further keys of both roles, for roots to come: the newest root says which
    /// key signs.
    pub next_keys: Vec<PathBuf>,
    /// File whose first line is the passphrase of the key files, if they have one.
    pub passphrase_file: Option<PathBuf>,
    /// Life of a catalog, in seconds; a newer one is made after half of it.
    pub catalog_ttl_secs: u64,
    /// A device that has had no newer catalog for this long is marked, in seconds; by default
    /// after the life of a catalog.
    pub stale_after_secs: Option<u64>,
    /// Address of the REST interface; port 0 takes a free one.
    pub http_listen: SocketAddr,
    /// Address of the embedded broker; port 0 takes a free one.
    pub mqtt_listen: SocketAddr,
    /// Serves the REST interface without TLS: on loopback, or behind a proxy that has its own.
    pub plain_http: bool,
    /// Further DNS names and addresses under which this server is reached, for its certificate.
    pub tls_names: Vec<String>,
    /// Most connections to the REST interface at once.
    pub http_connections: usize,
    /// Most connections to the embedded broker at once.
    pub mqtt_connections: usize,
    /// Most TLS handshakes with devices that are computed at once.
    pub mqtt_handshakes: usize,
    /// Which broker.
    pub broker: BrokerConfig,
    /// Broker host that devices are told at enrolment; by default the one the server uses.
    pub advertised_broker_host: Option<String>,
    /// Broker port that devices are told at enrolment; by default the one the server uses.
    pub advertised_broker_port: Option<u16>,
    /// How long a device may take up an assignment, in seconds; a newer one is made for devices
    /// that come back later.
    pub assignment_ttl_secs: u64,
    /// Pause between two chunks of a bundle, in milliseconds.
    pub chunk_gap_ms: u64,
    /// How long requests for chunks are collected before the first is sent, in milliseconds.
    pub coalesce_ms: u64,
    /// How long a sent chunk is taken to be under way and not sent again, in milliseconds.
    pub chunk_repeat_ms: u64,
    /// How often rollouts are looked at when nothing happens, in milliseconds.
    pub plan_interval_ms: u64,
    /// Largest bundle that can be published, in bytes.
    pub max_release_bytes: u64,
    /// Whether every rollout waits until a second person approves it.
    pub require_approval: bool,
    /// Share of the fleet that the first stage of a rollout may have, from above 0 to 1.
    pub max_unstaged_share: f64,
    /// So many devices the first stage may always have.
    pub free_unstaged_devices: u32,
    /// Where operators can log in, apart from here.
    pub oidc: Option<OidcConfig>,
}

/// Which broker the server uses.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum BrokerConfig {
    /// The one inside this process, at `mqtt_listen`.
    #[default]
    Embedded,
    /// One that somebody else runs and whose accounts somebody else keeps.
    External {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// User name of the server, if the broker wants one.
        #[serde(default)]
        username: Option<String>,
        /// Password of the server, if the broker wants one.
        #[serde(default)]
        password: Option<String>,
        /// Speaks MQTT without TLS: for a broker on loopback alone.
        #[serde(default)]
        plain: bool,
        /// Files with the broker's authority and with the server's certificate and key, in PEM;
        /// without them the server shows a certificate of its own authority and trusts that.
        #[serde(default)]
        tls: Option<ClientFiles>,
        /// File where the broker reads its revocation list; the server writes it there beside
        /// the one in its data folder.
        #[serde(default)]
        revocation_list: Option<PathBuf>,
    },
}

impl BrokerConfig {
    /// Somebody else's broker, with certificates of the server's own authority.
    pub fn external(host: &str, port: u16) -> Self {
        Self::External {
            host: host.to_owned(),
            port,
            username: None,
            password: None,
            plain: false,
            tls: None,
            revocation_list: None,
        }
    }

    /// Whether devices and broker show each other certificates of the server's own authority.
    pub(crate) fn is_of_own_authority(&self) -> bool {
        match self {
            Self::Embedded => true,
            Self::External { plain, tls, .. } => !plain && tls.is_none(),
        }
    }
}

/// Certificates, as files in PEM, for a broker of another authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFiles {
    /// Authorities that vouch for the broker.
    pub ca: PathBuf,
    /// The server's certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// The server's secret key, PKCS #8.
    pub key: PathBuf,
}

impl std::fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded => f.write_str("Embedded"),
            Self::External { host, port, .. } => write!(f, "External({host}:{port})"),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("drover-data"),
            root: PathBuf::from("keys/root.drover-root"),
            fleet_key: PathBuf::from("keys/fleet.key"),
            catalog_key: None,
            next_keys: Vec::new(),
            passphrase_file: None,
            catalog_ttl_secs: 7 * 24 * 3600,
            stale_after_secs: None,
            http_listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            mqtt_listen: SocketAddr::from(([127, 0, 0, 1], 8883)),
            plain_http: false,
            tls_names: Vec::new(),
            http_connections: 1024,
            mqtt_connections: 10_000,
            mqtt_handshakes: 256,
            broker: BrokerConfig::Embedded,
            advertised_broker_host: None,
            advertised_broker_port: None,
            assignment_ttl_secs: 7 * 24 * 3600,
            chunk_gap_ms: 5,
            coalesce_ms: 200,
            chunk_repeat_ms: 2000,
            plan_interval_ms: 1000,
            max_release_bytes: 520 * 1024 * 1024,
            require_approval: false,
            max_unstaged_share: 0.2,
            free_unstaged_devices: 20,
            oidc: None,
        }
    }
}

impl Config {
    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`ServerError::Config`] names the field.
    pub fn check(&self) -> Result<(), ServerError> {
        let refuse = |field, why| Err(ServerError::Config { field, why });
        if self.assignment_ttl_secs < 60 {
            return refuse("assignment_ttl_secs", "use at least 60");
        }
        if self.catalog_ttl_secs == 0 || self.catalog_ttl_secs > 366 * 24 * 3600 {
            return refuse("catalog_ttl_secs", "use 1 to 31622400");
        }
        if self.plan_interval_ms == 0 {
            return refuse("plan_interval_ms", "use at least 1");
        }
        if self.chunk_gap_ms > 60_000 || self.coalesce_ms > 60_000 {
            return refuse("chunk_gap_ms and coalesce_ms", "use at most 60000");
        }
        if self.max_release_bytes == 0 || self.max_release_bytes > 1 << 30 {
            return refuse("max_release_bytes", "use 1 to 1073741824");
        }
        if self.http_connections == 0 || self.mqtt_connections == 0 || self.mqtt_handshakes == 0 {
            return refuse(
                "http_connections, mqtt_connections and mqtt_handshakes",
                "use at least 1",
            );
        }
        if !(self.max_unstaged_share > 0.0 && self.max_unstaged_share <= 1.0) {
            return refuse("max_unstaged_share", "use a share above 0, at most 1");
        }
        self.oidc.as_ref().map_or(Ok(()), OidcConfig::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_named_and_passwords_are_not_shown() {
        let error = serde_json::from_str::<Config>(r#"{"http_listn": "127.0.0.1:1"}"#);
        assert!(error.unwrap_err().to_string().contains("http_listn"));
        let config: Config = serde_json::from_str(
            r#"{"broker": {"kind": "external", "host": "h", "port": 1, "password": "hunter2"}}"#,
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
