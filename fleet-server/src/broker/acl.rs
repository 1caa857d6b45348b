//! Who may log in to the embedded broker, and who may use which topic.
//!
//! Two credentials exist, both drawn at each start and never stored: the server's own link's,
//! and the one that the TLS front adds to a device's connection once its certificate has named
//! it. A device may publish only its own up topic, subscribe only its own down and roots topics
//! and bundles. Everything else is refused: wildcards over other topics, shared subscriptions,
//! `$SYS`.

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
use crate::{ServerError, random};

/// Filter that matches the chunks of all bundles.
const ALL_BUNDLES: &str = "drover/v1/b/+";

/// The embedded broker's door.
pub(crate) struct Gate {
    server: String,
    password: String,
    front_password: String,
}

impl Gate {
    pub(crate) fn new() -> Result<Self, ServerError> {
        Ok(Self {
            server: format!("drover-server-{}", random::id()?),
            password: random::secret()?,
            front_password: random::secret()?,
        })
    }

    /// What the front adds to the connection of a device that has proved itself.
    pub(crate) fn front_password(&self) -> String {
        self.front_password.clone()
    }

    /// How the server's own link gets in.
    pub(crate) fn login(&self) -> Login {
        Login {
            client_id: self.server.clone(),
            credentials: Some((self.server.clone(), self.password.clone())),
        }
    }

    fn knows(&self, client: &str, user: Option<&str>, password: Option<&[u8]>) -> bool {
        let (Some(user), Some(password)) = (user, password) else {
            return false;
        };
        let wanted = if client == self.server {
            &self.password
        } else if DeviceId::parse(client).is_ok() {
            &self.front_password
        } else {
            return false;
        };
        // Secrets are compared by their hashes, so that timing tells nothing of them.
        let hash = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        user == client && hash(password) == hash(wanted.as_bytes())
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
            || filter == topic::roots(client)
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
            Ok(if self.knows(&connect.client_id, user, password) {
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

    #[test]
    fn a_device_reaches_its_own_topics_only() {
        let gate = Gate::new().unwrap();
        assert!(gate.may_publish(ME, &topic::up(ME)));
        assert!(!gate.may_publish(ME, &topic::up(OTHER)));
        assert!(!gate.may_publish(ME, &topic::down(ME)));
        assert!(!gate.may_publish(ME, &topic::bundle(&[1; 32])));
        assert!(gate.may_subscribe(ME, &topic::down(ME)));
        assert!(gate.may_subscribe(ME, &topic::roots(ME)));
        assert!(!gate.may_publish(ME, &topic::roots(ME)));
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
            &topic::roots(OTHER),
            &format!("$share/g/{}", topic::down(ME)),
            "$SYS/#",
        ] {
            assert!(!gate.may_subscribe(ME, filter), "{filter} was allowed");
        }
        // Nobody gets in by the server's name, or past the front, without the secret of each.
        let (server, front) = (gate.server.clone(), gate.front_password());
        let own = gate.login().credentials.unwrap().1;
        let knows = |id: &str, user: &str, password: &str| {
            gate.knows(id, Some(user), Some(password.as_bytes()))
        };
        assert!(knows(&server, &server, &own) && knows(ME, ME, &front));
        assert!(!knows(&server, &server, &front) && !knows(ME, ME, &own));
        assert!(!knows(ME, OTHER, &front) && !knows("somebody", "somebody", &front));
        assert!(!knows(ME, ME, "") && !gate.knows(ME, None, None));
    }
}
