//! How many devices a server lets in per second: TLS 1.3 with certificates on both sides, then
//! CONNECT and CONNACK, against a server that runs and with devices that it enrolled.
//!
//! Each of a few devices connects again as soon as it was let in, so there are never more
//! connections under way than devices: the server sets the pace. Server and clients share this
//! machine, and are the programs beside this one, as `scripts/bench` builds them for development.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use drover_trust::{DeviceId, Domain, Envelope, SecretKey};
use drover_wire::enrol::{Access, EnrolReply, EnrolRequest};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sha2::{Digest as _, Sha256};
use ureq::tls::TlsConfig;

use super::median;
use crate::fleet::{Broker, Fleet};

/// Devices that connect side by side.
const DEVICES: u8 = 8;
/// Length of one round.
const ROUND: Duration = Duration::from_secs(3);

/// Connections per second: median of rounds, their number, and their spread.
pub(super) fn per_second(quick: bool) -> anyhow::Result<(f64, u32, f64)> {
    let folder = tempfile::tempdir()?;
    let fleet = Fleet::start(folder.path(), Broker::Embedded)?;
    let devices: Vec<Device> = (1..=DEVICES)
        .map(|number| Device::enrol(&fleet, number))
        .collect::<anyhow::Result<_>>()?;
    let mut rates = Vec::new();
    for round in 0..=if quick { 3 } else { 9 } {
        let started = Instant::now();
        let counts: Vec<anyhow::Result<u32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = devices
                .iter()
                .map(|device| scope.spawn(|| device.connect_until(started + ROUND)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(anyhow::anyhow!("a panic")))
                })
                .collect()
        });
        let seconds = started.elapsed().as_secs_f64();
        let connected: u32 = counts.into_iter().sum::<anyhow::Result<u32>>()?;
        // The first round warms caches and is not counted.
        if round > 0 {
            rates.push(f64::from(connected) / seconds);
        }
    }
    Ok(median(rates))
}

/// A device that the server knows.
struct Device {
    id: String,
    address: (String, u16),
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl Device {
    fn enrol(fleet: &Fleet, number: u8) -> anyhow::Result<Self> {
        let tokens = fleet.drover(["device", "token"])?;
        let token = tokens.first().and_then(|t| t["token"].as_str());
        let token = token.context("no token came")?;
        let key = SecretKey::from_seed(&[number; 32]);
        let reply = enrol(fleet.url(), token, &key, number)?;
        ensure!(
            !reply.access.certificate.is_empty(),
            "the device was not approved"
        );
        Ok(Self {
            id: DeviceId::of(&key.public()).as_str().to_owned(),
            address: (reply.access.broker_host.clone(), reply.access.broker_port),
            name: ServerName::try_from(reply.access.broker_host.clone())?,
            tls: Arc::new(tls(&reply.access, &key)?),
        })
    }

    /// Connects again and again; how often it was let in.
    fn connect_until(&self, end: Instant) -> anyhow::Result<u32> {
        let mut count = 0;
        while Instant::now() < end {
            self.connect()?;
            count += 1;
        }
        Ok(count)
    }

    fn connect(&self) -> anyhow::Result<()> {
        let tcp = TcpStream::connect((self.address.0.as_str(), self.address.1))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        let tls = ClientConnection::new(Arc::clone(&self.tls), self.name.clone())?;
        let mut stream = StreamOwned::new(tls, tcp);
        // MQTT 3.1.1, clean session, a minute of keep-alive.
        let mut packet = vec![0x10, u8::try_from(self.id.len() + 12)?];
        packet.extend(b"\0\x04MQTT\x04\x02\0\x3c\0");
        packet.push(u8::try_from(self.id.len())?);
        packet.extend(self.id.as_bytes());
        stream.write_all(&packet)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        ensure!(answer == [0x20, 2, 0, 0], "the broker answers {answer:x?}");
        stream.write_all(&[0xe0, 0])?;
        stream.conn.send_close_notify();
        Ok(stream.flush()?)
    }
}

/// Joins the fleet as `drover-agent enroll` does; the server is known to be ours.
fn enrol(url: &str, token: &str, key: &SecretKey, number: u8) -> anyhow::Result<EnrolReply> {
    let (claim, secret) = token.split_once('.').context("a token of another form")?;
    let mut request = EnrolRequest {
        public_key: key.public().0,
        // No confidential bundle is sent here, so nobody needs the other half.
        exchange_key: [9; 32],
        claim_id: claim.to_owned(),
        nonce: [number; 16],
        name: format!("bench-{number}"),
        hardware: String::new(),
        labels: [].into(),
        arch: std::env::consts::ARCH.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        proof: [0; 32],
    };
    let mac = Hmac::<Sha256>::new_from_slice(&Sha256::digest(secret))?;
    let mac = mac.chain_update(request.proven()?);
    request.proof = mac.finalize().into_bytes().into();
    let envelope = Envelope::signed(request.encode()?, Domain::Enrolment, key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .disable_verification(true)
        .build();
    let agent = ureq::Agent::config_builder().tls_config(tls).build();
    let mut answer = ureq::Agent::new_with_config(agent)
        .post(format!("{url}/v1/enroll"))
        .content_type("application/octet-stream")
        .send(&envelope.encode()?[..])?;
    Ok(EnrolReply::decode(&answer.body_mut().read_to_vec()?)?)
}

/// Every handshake in full: no session is resumed.
fn tls(access: &Access, key: &SecretKey) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in &access.authorities {
        roots.add(CertificateDer::from(authority.clone()))?;
    }
    let chain = vec![CertificateDer::from(access.certificate.clone())];
    let pkcs8 = drover_trust::sealed::to_pkcs8(key).to_vec();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
