//! A fleet for tests: keys, a running server, an operator and fake devices.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use drover_api::{Client, CreateTokens};
use drover_bundle::manifest::{
    Channel, Decision, FileRole, InputSpec, Manifest, Normalisation, OutputSpec, Requires, Scoring,
    TensorSpec, Tolerance, Window,
};
use drover_bundle::{Container, DType};
use drover_server::{Config, Server};
use drover_sketch::{Baseline, FeatureBaseline};
use drover_trust::{Domain, Envelope, Role, RoleKeys, Root, SecretKey, TrustedRoot, keyfile};
use drover_wire::enrol::{EnrolRequest, REQUEST_PROOF_DOMAIN};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

const ROOT: u8 = 1;
const RELEASE: [u8; 2] = [2, 3];
const FLEET: u8 = 4;

/// A running server with its operator.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) server: Option<Server>,
    pub(crate) root: TrustedRoot,
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
            roles: vec![
                role(Role::Root, &[ROOT]),
                role(Role::Release, &RELEASE),
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
        let server = drover_server::start(config.clone()).await.unwrap();
        Self {
            dir,
            config,
            server: Some(server),
            root: TrustedRoot::self_signed(envelope).unwrap(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.as_ref().unwrap().http_addr())
    }

    pub(crate) fn operator(&self) -> Client {
        let token = self.config.data_dir.join("operator.token");
        Client::new(&self.url(), &std::fs::read_to_string(token).unwrap())
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

/// A request for `count` tokens.
pub(crate) fn auto(count: u32) -> CreateTokens {
    CreateTokens {
        count,
        ttl_secs: 600,
        approval: drover_api::Approval::Auto,
        labels: BTreeMap::new(),
    }
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
    let request = EnrolRequest {
        public_key,
        claim_id: claim_id.into(),
        nonce,
        name: name.into(),
        labels: BTreeMap::new(),
        arch: "x86_64".into(),
        agent_version: "0".into(),
        proof: mac(&k, &[REQUEST_PROOF_DOMAIN, &public_key, &nonce]),
    };
    let payload = request.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Enrolment, device);
    (envelope.encode().unwrap(), k, nonce)
}

pub(crate) fn mac(k: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(k).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Posts octets; gives the status and the body.
pub(crate) async fn post(url: String, token: Option<String>, body: Vec<u8>) -> (u16, Vec<u8>) {
    let send = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
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
