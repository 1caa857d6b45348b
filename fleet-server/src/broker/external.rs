//! A broker that somebody else runs, and whose permissions `drover broker config` writes.
//!
//! A device is cut off by taking over its session: whoever connects with the same identity
//! ends the older connection. Whether the device gets back in is the broker's revocation
//! list's to say, which is written first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drover_api::BrokerKind;
use drover_trust::SecretKey;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, TlsConfiguration, Transport};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Boxed, Broker, Endpoint, Login};
use crate::store::{Kind, Store};
use crate::tls::{Authority, Issue, client_config, ed25519_pkcs8};
use crate::{ServerError, clock, data_dir, random};

/// Longest attempt to take a session over.
const PATIENCE: Duration = Duration::from_secs(5);

/// A broker that somebody else runs.
pub(crate) struct ExternalBroker {
    pub(crate) endpoint: Endpoint,
    pub(crate) login: Login,
    pub(crate) revocation_list: Option<PathBuf>,
    /// Signs the certificate with which a session is taken over; none when the broker is of
    /// another authority or asks for no certificates.
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) store: Store,
}

impl ExternalBroker {
    async fn take_over(&self, device: &str) -> Result<(), ServerError> {
        let mut options = MqttOptions::new(device, &self.endpoint.host, self.endpoint.port);
        options.set_clean_session(true);
        if let Some((user, password)) = &self.login.credentials {
            options.set_credentials(user, password);
        }
        let mut serial = None;
        if self.endpoint.tls.is_some() {
            let Some(authority) = &self.authority else {
                tracing::warn!(device, "only the broker's operator can end this session");
                return Ok(());
            };
            let secret = SecretKey::from_seed(&random::bytes()?);
            let issued = authority.issue(&Issue {
                kind: Kind::Device,
                subject: device,
                key: secret.public(),
                names: vec![device.to_owned()],
                now_unix_s: clock::unix_s(),
                life_secs: 60,
            })?;
            // A minute is enough for this one connection.
            self.store.add_certificate(&issued.row).await?;
            serial = Some(issued.row.serial);
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(ed25519_pkcs8(&secret)));
            let roots = vec![authority.certificate().clone()];
            let tls = client_config(roots, vec![issued.der], key)?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        }
        self.take_over_with(device, options).await;
        match serial {
            Some(serial) => {
                self.store
                    .revoke_certificate(&serial, clock::unix_s())
                    .await
            }
            None => Ok(()),
        }
    }

    async fn take_over_with(&self, device: &str, options: MqttOptions) {
        let (client, mut events) = AsyncClient::new(options, 4);
        let taken = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        // The queue has room: nothing else was put there.
                        let _ = client.try_disconnect();
                    }
                    Ok(_) => {}
                    // Closed, after the disconnect or because the broker refuses us.
                    Err(_) => break,
                }
            }
        };
        if tokio::time::timeout(PATIENCE, taken).await.is_err() {
            tracing::warn!(device, "the broker did not let its session be ended");
        }
    }
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

    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn login(&self) -> Login {
        self.login.clone()
    }

    fn for_devices(&self) -> (String, u16) {
        (self.endpoint.host.clone(), self.endpoint.port)
    }

    fn cut<'a>(&'a self, device: &'a str) -> Boxed<'a, Result<(), ServerError>> {
        Box::pin(self.take_over(device))
    }

    fn revoked(&self, list: &str) -> Result<(), ServerError> {
        match &self.revocation_list {
            Some(path) => data_dir::write_for_others(path, list.as_bytes()),
            None => Ok(()),
        }
    }

    fn sessions(&self) -> Option<usize> {
        None
    }
}
