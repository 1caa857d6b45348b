//! Devices of the attacker's own making: a key, an enrolment, an MQTT client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_trust::{DeviceId, Domain, Envelope, SecretKey};
use drover_wire::enrol::{Access, EnrolReply, EnrolRequest};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::broker::client_config;
use crate::clock::{Look, wait};
use crate::error::{Result, fail};
use crate::http::Answer;
use crate::keys::{draw, random};
use crate::lab::SOON;
use crate::server::Server;

/// What precedes the seed in an Ed25519 key's PKCS #8 form (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A device that is no agent of ours.
pub(crate) struct Impostor {
    pub(crate) key: SecretKey,
    pub(crate) id: String,
    access: Access,
}

/// Asks to enrol `key` by a claim token.
pub(crate) fn claim(server: &Server, token: &str, key: &SecretKey) -> Result<Answer> {
    let Some((claim_id, secret)) = token.split_once('.') else {
        return fail("a claim token without two halves");
    };
    let mut request = EnrolRequest {
        public_key: key.public().0,
        exchange_key: random()?,
        claim_id: claim_id.into(),
        nonce: random()?,
        name: String::new(),
        hardware: String::new(),
        labels: Default::default(),
        arch: std::env::consts::ARCH.into(),
        agent_version: "0".into(),
        proof: [0; 32],
    };
    let secret = Sha256::digest(secret.as_bytes());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&secret) else {
        return fail("a secret that is no key");
    };
    mac.update(&request.proven()?);
    request.proof = mac.finalize().into_bytes().into();
    let envelope = Envelope::signed(request.encode()?, Domain::Enrolment, key).encode()?;
    server.stranger().post_bytes("/v1/enroll", &envelope)
}

impl Impostor {
    /// Enrols with a key of its own and an honest claim.
    pub(crate) fn enrol(server: &Server) -> Result<Self> {
        let key = draw()?;
        let answer = claim(server, &server.token()?, &key)?;
        if !answer.is_ok() {
            return fail(format!(
                "an honest enrolment was refused: {}",
                answer.text()
            ));
        }
        let reply = EnrolReply::decode(&answer.body)?;
        Ok(Self {
            id: DeviceId::of(&key.public()).to_string(),
            key,
            access: reply.access,
        })
    }

    /// Connects to the embedded broker with its certificate, under any client id.
    pub(crate) fn connect(&self, runtime: &Runtime, port: u16, client_id: &str) -> Result<Client> {
        let pkcs8 = [&PKCS8[..], &self.key.seed()].concat();
        let access = &self.access;
        let tls = client_config(&access.authorities, &access.certificate, pkcs8)?;
        let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
            .set_keep_alive(Duration::from_secs(30));
        let (client, mut events) = AsyncClient::new(options, 32);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = seen.clone();
        let task = runtime.spawn(async move {
            loop {
                let event = events.poll().await;
                let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => seen.connected = true,
                    Ok(Event::Incoming(Packet::SubAck(_))) => seen.subscribed += 1,
                    Ok(Event::Incoming(Packet::PubAck(_))) => seen.taken += 1,
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        seen.heard.push((publish.topic, publish.payload.to_vec()));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        seen.ended = Some(error.to_string());
                        return;
                    }
                }
            }
        });
        Ok(Client { client, seen, task })
    }
}

/// An MQTT client; it never reconnects.
pub(crate) struct Client {
    client: AsyncClient,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected: bool,
    pub(crate) subscribed: usize,
    /// Publishes that the broker acknowledged: that says nothing about where they went.
    pub(crate) taken: usize,
    pub(crate) heard: Vec<(String, Vec<u8>)>,
    /// Why the connection ended, if it did.
    pub(crate) ended: Option<String>,
}

impl Client {
    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Waits until it is connected, or until the broker has turned it away.
    pub(crate) fn settled(&self) -> Result<bool> {
        wait("the broker's answer to a connection", SOON, || {
            let seen = self.seen();
            Ok(if seen.connected || seen.ended.is_some() {
                Look::Ready(seen.connected && seen.ended.is_none())
            } else {
                Look::NotYet(format!("{seen:?}"))
            })
        })
    }

    /// Asks for a topic; the answer, good or bad, or the end of the connection is awaited.
    pub(crate) fn subscribe(&self, topic: &str) -> Result<()> {
        let before = self.seen().subscribed;
        self.client
            .try_subscribe(topic, QoS::AtLeastOnce)
            .or_else(|e| fail(e.to_string()))?;
        self.answered("the answer to a subscription", |seen| {
            seen.subscribed > before
        })
    }

    /// Publishes; an acknowledgement or the end of the connection is awaited.
    pub(crate) fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<()> {
        let before = self.seen().taken;
        self.client
            .try_publish(topic, QoS::AtLeastOnce, false, payload)
            .or_else(|e| fail(e.to_string()))?;
        self.answered("the answer to a publish", |seen| seen.taken > before)
    }

    fn answered(&self, what: &str, is_there: impl Fn(&Seen) -> bool) -> Result<()> {
        wait(what, SOON, || {
            let seen = self.seen();
            Ok(if is_there(&seen) || seen.ended.is_some() {
                Look::Ready(())
            } else {
                Look::NotYet(format!("{seen:?}"))
            })
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
