//! A fleet for tests: keys, a running server, an operator and fake devices.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drover_api::{Client, CreateTokens, TlsFiles};
use drover_bundle::manifest::{
    Channel, Decision, FileRole, InputSpec, Manifest, Normalisation, OutputSpec, Requires, Scoring,
    TensorSpec, Tolerance, Window,
};
use drover_bundle::{Container, DType};
use drover_server::{Config, Server};
use drover_sketch::{Baseline, FeatureBaseline};
use drover_trust::{Domain, Envelope, Role, RoleKeys, Root, SecretKey, TrustedRoot, keyfile};
use drover_wire::enrol::{
    Access, CertificateGrant, CertificateReply, CertificateRequest, EnrolReply, EnrolRequest,
};
use drover_wire::limits;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, Serializable as _};
use rumqttc::{AsyncClient, EventLoop, MqttOptions, TlsConfiguration, Transport};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

const ROOT: u8 = 1;
const RELEASE: [u8; 2] = [2, 3];
const FLEET: u8 = 4;
const CATALOG: u8 = 5;

/// A running server with its operator.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) server: Option<Server>,
    pub(crate) root: TrustedRoot,
    counter: AtomicU64,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts a server whose configuration is `change`d.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let role = |role, keys: &[u8]| RoleKeys {
            role,
            threshold: u8::try_from(keys.len()).unwrap(),
            keys: keys.iter().map(|&n| key(n).public()).collect(),
        };
        let root = Root {
            version: 1,
            fleet: "test".into(),
            created_unix_s: 0,
            expires_unix_s: u64::MAX,
            epoch: 0,
            roles: vec![
                role(Role::Root, &[ROOT]),
                role(Role::Release, &RELEASE),
                role(Role::Catalog, &[CATALOG]),
                role(Role::Fleet, &[FLEET]),
            ],
        };
        let envelope = Envelope::signed(root.encode().unwrap(), Domain::Root, &key(ROOT));
        let mut config = Config {
            data_dir: dir.path().join("data"),
            root: dir.path().join("root"),
            fleet_key: dir.path().join("fleet.key"),
            http_listen: ([127, 0, 0, 1], 0).into(),
            mqtt_listen: ([127, 0, 0, 1], 0).into(),
            chunk_gap_ms: 1,
            coalesce_ms: 50,
            plan_interval_ms: 50,
            ..Config::default()
        };
        change(&mut config);
        std::fs::write(&config.root, envelope.encode().unwrap()).unwrap();
        std::fs::write(&config.fleet_key, keyfile::format(Role::Fleet, &key(FLEET))).unwrap();
        let catalog_key = dir.path().join("catalog.key");
        std::fs::write(catalog_key, keyfile::format(Role::Catalog, &key(CATALOG))).unwrap();
        let server = drover_server::start(config.clone()).await.unwrap();
        Self {
            dir,
            config,
            server: Some(server),
            root: TrustedRoot::self_signed(envelope).unwrap(),
            counter: AtomicU64::new(1),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.server.as_ref().unwrap().http_addr())
    }

    pub(crate) fn operator(&self) -> Client {
        let token = self.config.data_dir.join("operator.token");
        self.client(&std::fs::read_to_string(token).unwrap(), None)
    }

    /// A client with a token and, maybe, a certificate and key in PEM.
    pub(crate) fn client(&self, token: &str, identity: Option<(Vec<u8>, Vec<u8>)>) -> Client {
        let ca = std::fs::read(self.config.data_dir.join("ca.pem")).unwrap();
        let files = TlsFiles {
            ca: Some(ca),
            identity,
        };
        Client::with_tls(&self.url(), token, &files).unwrap()
    }

    /// A simulated device that has enrolled; see [`Member::connect`].
    pub(crate) async fn enrol(&self, n: u8) -> Member {
        let token = self.tokens(auto(1)).await.remove(0);
        self.claim(n, &token).await
    }

    /// The same with a token that is there already.
    pub(crate) async fn claim(&self, n: u8, token: &str) -> Member {
        let (body, _, _) = enrolment(&key(n), token, &format!("device-{n}"));
        let (status, reply) = post(format!("{}/v1/enroll", self.url()), None, body).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
        let reply = EnrolReply::decode(&reply).unwrap();
        Member {
            key: key(n),
            id: reply.device,
            access: reply.access,
        }
    }

    /// Runs something of the operator, whose client blocks.
    pub(crate) async fn operate<T: Send + 'static>(
        &self,
        act: impl FnOnce(Client) -> T + Send + 'static,
    ) -> T {
        let client = self.operator();
        tokio::task::spawn_blocking(move || act(client))
            .await
            .unwrap()
    }

    pub(crate) async fn tokens(&self, request: CreateTokens) -> Vec<String> {
        let tokens = self.operate(move |c| c.create_tokens(&request)).await;
        tokens.unwrap().into_iter().map(|t| t.token).collect()
    }

    /// Waits until `reached` says so.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        look: impl Fn(&Client) -> T + Clone + Send + 'static,
        reached: impl Fn(&T) -> bool,
    ) -> T
    where
        T: std::fmt::Debug + Send + 'static,
    {
        let start = Instant::now();
        loop {
            let look = look.clone();
            let seen = self.operate(move |c| look(&c)).await;
            if reached(&seen) {
                return seen;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what} did not happen; last seen: {seen:#?}"
            );
            tokio::task::yield_now().await;
        }
    }

    /// A number above all that it gave before, for messages of devices.
    pub(crate) fn count(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
    }

    pub(crate) fn bundles(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.config.data_dir.join("bundles")).unwrap();
        entries.map(|e| e.unwrap().path()).collect()
    }
}

impl Fleet {
    /// Asks for a new certificate of a device's key; `None` when it is refused.
    pub(crate) async fn renew(&self, member: &Member) -> Option<Access> {
        match self.try_renew(member).await {
            Ok(access) => Some(access),
            Err(403) => None,
            Err(status) => panic!("the renewal ended with {status}"),
        }
    }

    /// The same; gives the HTTP status of a refusal.
    pub(crate) async fn try_renew(&self, member: &Member) -> Result<Access, u16> {
        let request = CertificateRequest {
            device: member.id.clone(),
            nonce: [7; 16],
            root_version: 0,
        };
        let payload = request.encode().unwrap();
        let body = Envelope::signed(payload, Domain::CertificateRequest, &member.key);
        let url = format!("{}/v1/certificate", self.url());
        let (status, reply) = post(url, None, body.encode().unwrap()).await;
        if status != 200 {
            return Err(status);
        }
        let reply = CertificateReply::decode(&reply).unwrap();
        assert_eq!(reply.roots.len(), 1);
        let grant = Envelope::decode(&reply.grant).unwrap();
        let domain = Domain::CertificateGrant;
        let grant = self.root.verify(Role::Fleet, domain, &grant).unwrap();
        let grant = CertificateGrant::decode(grant).unwrap();
        assert_eq!((&grant.device, grant.nonce), (&member.id, [7; 16]));
        Ok(grant.access)
    }
}

/// A simulated device that is in the fleet.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) key: SecretKey,
    pub(crate) id: String,
    pub(crate) access: Access,
}

/// PKCS #8 of an ed25519 seed, RFC 8410.
fn pkcs8(key: &SecretKey) -> Vec<u8> {
    let prefix = b"\x30\x2e\x02\x01\0\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    [&prefix[..], &key.seed()].concat()
}

/// The same as PEM.
pub(crate) fn pem_of(key: &SecretKey) -> String {
    let text = data_encoding::BASE64.encode(&pkcs8(key));
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

impl Member {
    /// How it presents itself.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for authority in &self.access.authorities {
            roots.add(authority.clone().into()).unwrap();
        }
        let pkcs8 = pkcs8(&self.key);
        let chain = vec![CertificateDer::from(self.access.certificate.clone())];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8)))
            .unwrap();
        Arc::new(config)
    }

    /// What it connects with, under any client id.
    pub(crate) fn options(&self, client_id: &str) -> MqttOptions {
        let Access {
            broker_host,
            broker_port,
            ..
        } = &self.access;
        let mut options = MqttOptions::new(client_id, broker_host, *broker_port);
        let tls = TlsConfiguration::Rustls(self.tls());
        options
            .set_transport(Transport::tls_with_config(tls))
            .set_keep_alive(Duration::from_secs(5))
            .set_max_packet_size(limits::MAX_PACKET_BYTES, limits::MAX_PACKET_BYTES);
        options
    }

    /// Connects as itself.
    pub(crate) fn connect(&self) -> (AsyncClient, EventLoop) {
        AsyncClient::new(self.options(&self.id), 64)
    }
}

/// A request for `count` tokens.
pub(crate) fn auto(count: u32) -> CreateTokens {
    CreateTokens {
        count,
        ttl_secs: 600,
        approval: drover_api::Approval::Auto,
        approve_if: None,
        labels: BTreeMap::new(),
        for_device: None,
    }
}

/// The key of a simulated device that wraps content keys.
pub(crate) type Private = <X25519HkdfSha256 as Kem>::PrivateKey;

pub(crate) fn exchange_secret(device: &SecretKey) -> Private {
    Private::from_bytes(&device.seed()).unwrap()
}

/// The X25519 key that a simulated device enrols with.
fn exchange_key(device: &SecretKey) -> [u8; 32] {
    X25519HkdfSha256::sk_to_pk(&exchange_secret(device))
        .to_bytes()
        .into()
}

/// The body of an enrolment request, and the `k` of its token.
pub(crate) fn enrolment(
    device: &SecretKey,
    token: &str,
    name: &str,
) -> (Vec<u8>, [u8; 32], [u8; 16]) {
    let (claim_id, secret) = token.split_once('.').unwrap();
    let k: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    let public_key = device.public().0;
    let nonce = [5; 16];
    let mut request = EnrolRequest {
        public_key,
        exchange_key: exchange_key(device),
        claim_id: claim_id.into(),
        nonce,
        name: name.into(),
        hardware: format!("serial-{name}"),
        labels: BTreeMap::new(),
        arch: "x86_64".into(),
        agent_version: "0".into(),
        proof: [0; 32],
    };
    request.proof = mac(&k, &request.proven().unwrap());
    let payload = request.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Enrolment, device);
    (envelope.encode().unwrap(), k, nonce)
}

pub(crate) fn mac(k: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(k).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

/// Posts octets to whoever answers there, as devices do: what they carry vouches for itself.
/// Gives the status and the body.
pub(crate) async fn post(url: String, token: Option<String>, body: Vec<u8>) -> (u16, Vec<u8>) {
    let send = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(
                ureq::tls::TlsConfig::builder()
                    .disable_verification(true)
                    .unversioned_rustls_crypto_provider(Arc::new(
                        rustls::crypto::ring::default_provider(),
                    ))
                    .build(),
            )
            .build()
            .into();
        let mut request = agent.post(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.send(&body[..]).unwrap();
        let body = response.body_mut().read_to_vec().unwrap();
        (response.status().as_u16(), body)
    };
    tokio::task::spawn_blocking(send).await.unwrap()
}

/// What one channel looked like in training.
pub(crate) fn baseline() -> Baseline {
    let values: Vec<f32> = (0..4000u32).map(wave).collect();
    Baseline::new(vec![
        FeatureBaseline::from_values("a", &values, 16).unwrap(),
    ])
    .unwrap()
}

/// A sensor without drift, uniform between 0 and 1.
pub(crate) fn wave(n: u32) -> f32 {
    f32::from(u16::try_from(n * 7919 % 1009).unwrap()) / 1009.0
}

/// A bundle of some chunks, signed by the given keys.
pub(crate) fn bundle(counter: u64, signers: &[u8]) -> Container {
    let model: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
    let (files, chunking, payload) = drover_bundle::container::pack(vec![
        ("model.onnx".into(), FileRole::Model, model),
        ("golden.bin".into(), FileRole::Golden, vec![8; 100]),
        (
            "baseline.bin".into(),
            FileRole::Baseline,
            baseline().encode().unwrap(),
        ),
    ]);
    let tensor = |name: &str| TensorSpec {
        name: name.into(),
        dtype: DType::F32,
        shape: vec![1, 2],
    };
    let manifest = Manifest {
        name: "pump".into(),
        version: format!("1.{counter}"),
        counter,
        epoch: 0,
        lineage: Default::default(),
        components: Vec::new(),
        numerics: None,
        created_unix_s: 1,
        description: "a test".into(),
        files,
        chunking,
        requires: Requires {
            engine: "tract".into(),
            arch: vec![],
            memory_bytes: 1,
        },
        input: InputSpec {
            tensor: tensor("x"),
            channels: vec![Channel {
                name: "a".into(),
                unit: String::new(),
            }],
            window: Window { rows: 2, stride: 1 },
            normalisation: Normalisation::None,
            quantisation: None,
        },
        output: OutputSpec {
            tensor: tensor("y"),
            quantisation: None,
            scoring: Scoring::First,
            decision: Decision::None,
        },
        tolerance: Tolerance::RangeFraction(0.01),
    };
    let mut envelope = Envelope::unsigned(manifest.encode().unwrap());
    for &n in signers {
        envelope.sign(Domain::Manifest, &key(n));
    }
    Container { envelope, payload }
}

/// A bundle as the release role signs it.
pub(crate) fn signed_bundle(counter: u64) -> Container {
    bundle(counter, &RELEASE)
}
