//! Who may log in to the embedded broker, and who may use which topic.
//!
//! A device logs in as itself (client id and user name are its identity) and may publish only
//! its own up topic, subscribe only its own down topic and bundles. Everything else is
//! refused: wildcards over other topics, shared subscriptions, `$SYS`. The server's own link
//! has a credential that is drawn at each start and never stored.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use drover_trust::DeviceId;
use drover_wire::topic;
use mqtt5::broker::{AuthProvider, AuthResult};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use sha2::{Digest as _, Sha256};

use super::Login;
use crate::store::Store;
use crate::{ServerError, random};

/// Filter that matches the chunks of all bundles.
const ALL_BUNDLES: &str = "drover/v1/b/+";

/// The embedded broker's door.
pub(crate) struct Gate {
    store: Store,
    server: String,
    password: String,
}

impl Gate {
    pub(crate) fn new(store: Store) -> Result<Self, ServerError> {
        Ok(Self {
            store,
            server: format!("drover-server-{}", random::id()?),
            password: random::secret()?,
        })
    }

    /// How the server's own link gets in.
    pub(crate) fn login(&self) -> Login {
        Login {
            client_id: self.server.clone(),
            credentials: Some((self.server.clone(), self.password.clone())),
        }
    }

    async fn knows(&self, client: &str, user: Option<&str>, password: Option<&[u8]>) -> bool {
        let (Some(user), Some(password)) = (user, password) else {
            return false;
        };
        if client != user {
            return false;
        }
        // Secrets are compared by their hashes, so that timing tells nothing of them.
        let given: [u8; 32] = Sha256::digest(password).into();
        if user == self.server {
            let wanted: [u8; 32] = Sha256::digest(self.password.as_bytes()).into();
            return given == wanted;
        }
        let Ok(device) = DeviceId::parse(user) else {
            return false;
        };
        match self.store.password_sha256(device.as_str()).await {
            Ok(wanted) => wanted == Some(given),
            Err(error) => {
                tracing::error!(%error, "device cannot log in: the database does not answer");
                false
            }
        }
    }

    fn may_publish(&self, client: &str, to: &str) -> bool {
        if client == self.server {
            return !to.contains(['+', '#']) && to.starts_with("drover/v1/");
        }
        topic::device_of_up(to) == Some(client)
    }

    fn may_subscribe(&self, client: &str, filter: &str) -> bool {
        if client == self.server {
            return filter == topic::ALL_UP;
        }
        filter == ALL_BUNDLES
            || filter == topic::down(client)
            || topic::digest_of_bundle(filter).is_some()
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Gate {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            let user = connect.username.as_deref();
            let password = connect.password.as_deref();
            // The broker does not ask for the topic of a last will; so none is taken that the
            // client might not publish itself.
            let will = connect.will.as_ref();
            if will.is_some_and(|will| !self.may_publish(&connect.client_id, &will.topic)) {
                return Ok(AuthResult::fail(ReasonCode::NotAuthorized));
            }
            Ok(if self.knows(&connect.client_id, user, password).await {
                AuthResult::success_with_user(&connect.client_id)
            } else {
                AuthResult::fail(ReasonCode::BadUsernameOrPassword)
            })
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        client: &str,
        user: Option<&'a str>,
        to: &'a str,
    ) -> Answer<'a, bool> {
        let allowed = user == Some(client) && self.may_publish(client, to);
        Box::pin(async move { allowed })
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Answer<'a, bool> {
        let allowed = user == Some(client) && self.may_subscribe(client, filter);
        Box::pin(async move { allowed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[tokio::test]
    async fn a_device_reaches_its_own_topics_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), "f").await.unwrap();
        let gate = Gate::new(store).unwrap();
        assert!(gate.may_publish(ME, &topic::up(ME)));
        assert!(!gate.may_publish(ME, &topic::up(OTHER)));
        assert!(!gate.may_publish(ME, &topic::down(ME)));
        assert!(!gate.may_publish(ME, &topic::bundle(&[1; 32])));
        assert!(gate.may_subscribe(ME, &topic::down(ME)));
        assert!(gate.may_subscribe(ME, &topic::bundle(&[1; 32])));
        assert!(gate.may_subscribe(ME, ALL_BUNDLES));
        for filter in [
            "#",
            "+/#",
            "drover/v1/d/+/down",
            "drover/v1/b/#",
            "drover/#",
            topic::ALL_UP,
            &topic::down(OTHER),
            &format!("$share/g/{}", topic::down(ME)),
            "$SYS/#",
        ] {
            assert!(!gate.may_subscribe(ME, filter), "{filter} was allowed");
        }
        // Nobody gets in by the server's name without its password.
        let name = gate.server.clone();
        assert!(!gate.knows(&name, Some(&name), Some(b"guess")).await);
        assert!(!gate.knows(ME, None, None).await);
        assert!(!gate.knows(ME, Some(ME), Some(b"")).await);
    }
}
