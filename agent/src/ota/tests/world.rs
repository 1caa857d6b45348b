//! A running agent with the test as its server, and a host that only notes what it is told.

use std::path::Path;
use std::time::Duration;

use drover_agent_store::{SledJournal, SledOptions, StoreError};
use drover_bundle::{
    Channel, DType, Decision, FileRole, GoldenCase, GoldenVectors, InputSpec, Manifest,
    Normalisation, OutputSpec, Requires, Scoring, Tensor, TensorSpec, Tolerance, Window, container,
};
use drover_trust::fixture::{CREATED, Keys, key};
use drover_trust::{AssignedBundle, Assignment, Catalog, DeviceId, Domain, Envelope, Listed};
use drover_wire::chunk::Chunk;
use drover_wire::enrol::Access;
use drover_wire::message::{Ack, Addressed, Body, Down, Event, Phase, Record};
use tokio::sync::Semaphore;

use super::super::*;
use crate::exchange::ExchangeKey;
use crate::exchange::tests::{seal, wrap};
use crate::identity::Identity;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A time when the fixture's root holds.
pub(super) const NOW: u64 = CREATED + 1000;

pub(super) fn keys() -> Keys {
    Keys::new("test")
}

pub(super) fn device() -> DeviceId {
    DeviceId::of(&key(30).public())
}

pub(super) fn root() -> TrustedRoot {
    keys().trusted()
}

pub(super) fn member(data: &Path) -> Arc<Membership> {
    let access = Access {
        broker_host: String::new(),
        broker_port: 0,
        certificate: Vec::new(),
        expires_unix_s: 0,
        renew_unix_s: 0,
        authorities: Vec::new(),
    };
    let enrolment = Enrolment {
        server: "https://fleet.local".into(),
        fleet: "test".into(),
        root: root().envelope().encode().unwrap(),
        access,
        time_floor_s: 0,
    };
    let identity = Identity {
        device: device(),
        key: key(30),
        root: root(),
        enrolment,
    };
    Arc::new(Membership::new(data, &identity))
}

pub(super) struct Bundle {
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    pub(super) envelope: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

pub(super) fn bundle(counter: u64) -> Bundle {
    let tensor = |x: f32| Tensor::from_f32(vec![1, 2], &[x, x]).unwrap();
    let golden = GoldenVectors {
        cases: vec![GoldenCase {
            input: tensor(1.0),
            output: tensor(2.0),
        }],
    };
    let model: Vec<u8> = (0..20_000u32)
        .map(|n| (n % 251) as u8 ^ counter as u8)
        .collect();
    let (files, chunking, payload) = container::pack(vec![
        ("model.onnx".into(), FileRole::Model, model),
        (
            "golden.bin".into(),
            FileRole::Golden,
            golden.encode().unwrap(),
        ),
        ("baseline.bin".into(), FileRole::Baseline, vec![5; 10]),
    ]);
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        dtype: DType::F32,
        shape: vec![1, 2],
    };
    let manifest = Manifest {
        name: "pump".into(),
        version: format!("{counter}.0.0"),
        counter,
        epoch: 0,
        lineage: Default::default(),
        components: Vec::new(),
        numerics: None,
        created_unix_s: 0,
        description: String::new(),
        files,
        chunking,
        requires: Requires {
            engine: "tract".into(),
            arch: vec![],
            memory_bytes: 0,
        },
        input: InputSpec {
            tensor: spec("x"),
            channels: vec![Channel {
                name: "a".into(),
                unit: String::new(),
            }],
            window: Window { rows: 2, stride: 1 },
            normalisation: Normalisation::None,
            quantisation: None,
        },
        output: OutputSpec {
            tensor: spec("y"),
            quantisation: None,
            scoring: Scoring::First,
            decision: Decision::None,
        },
        tolerance: Tolerance::RangeFraction(0.1),
    };
    let signed = Envelope::signed(
        manifest.encode().unwrap(),
        Domain::Manifest,
        &keys().release,
    );
    let verified = drover_bundle::VerifiedManifest::open(&signed, &root()).unwrap();
    Bundle {
        digest: *verified.digest(),
        manifest,
        envelope: signed.encode().unwrap(),
        payload,
    }
}

/// Notes its calls; every trial passes at once.
pub(super) struct Host {
    calls: Arc<Mutex<Vec<String>>>,
    reports: HostReports,
}

impl Host {
    pub(super) fn note(&self, what: &str, digest: &Digest) {
        let call = format!("{what} {:02x}", digest[0]);
        self.calls.lock().unwrap().push(call);
    }
}

impl ModelHost for Host {
    fn load_committed(&self, bundle: BundleFiles) -> Result<(), LoadFailure> {
        assert_eq!(bundle.baseline, Some(vec![5; 10]));
        self.note("committed", bundle.digest());
        Ok(())
    }

    fn load_candidate(&self, bundle: BundleFiles) -> Result<(), LoadFailure> {
        assert_eq!(bundle.model.len(), 20_000);
        assert_eq!(bundle.golden.cases.len(), 1);
        self.note("candidate", bundle.digest());
        Ok(())
    }

    fn start_trial(&self, digest: &Digest) {
        self.note("trial", digest);
        self.reports.trial_passed(*digest);
    }

    fn activate(&self, digest: &Digest) {
        self.note("activate", digest);
    }

    fn deactivate(&self) {
        self.note("deactivate", &[0; 32]);
    }

    fn drop_candidate(&self) {
        self.note("drop", &[0; 32]);
    }
}

/// A running agent with the test as its server.
pub(super) struct World {
    pub(super) driver: Option<Driver>,
    pub(super) ends: LinkEnds,
    pub(super) recorder: Recorder,
    pub(super) calls: Arc<Mutex<Vec<String>>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) bundles: Vec<Bundle>,
    /// Key of the bundles, when they are confidential.
    pub(super) content_key: Option<[u8; 32]>,
    /// Assignment and catalog.
    pub(super) desired: Option<(Vec<u8>, Vec<u8>)>,
    /// Every record that came, with its boot.
    pub(super) stored: Vec<(u64, Record)>,
}

impl World {
    pub(super) fn start(journal: Box<dyn Journal>) -> Self {
        // Nothing is written there in most tests.
        Self::start_as(journal, member(Path::new("/nonexistent")))
    }

    pub(super) fn start_as(journal: Box<dyn Journal>, member: Arc<Membership>) -> Self {
        let prepared = Prepared::open(journal).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let host = Arc::new(Host {
            calls: Arc::clone(&calls),
            reports: prepared.reports(),
        });
        let recorder = prepared.recorder();
        let options = Options {
            member,
            root: root(),
            built_unix_s: 0,
            platform: Platform {
                agent_version: "0".into(),
                arch: "arm".into(),
                memory_bytes: 1,
                model_memory_bytes: 1,
                engines: vec!["tract".into()],
            },
            timing: Timing::default(),
            outbox: OutboxConfig::default(),
        };
        let mut driver = prepared.start(options, host).unwrap();
        let ends = driver.link_ends().unwrap();
        assert!(driver.link_ends().is_none());
        Self {
            driver: Some(driver),
            ends,
            recorder,
            calls,
            permits: Arc::new(Semaphore::new(1000)),
            bundles: Vec::new(),
            content_key: None,
            desired: None,
            stored: Vec::new(),
        }
    }

    pub(super) fn assign(&mut self, sequence: u64, bundle: Bundle) {
        self.bundles.push(bundle);
        let listed = |bundle: &Bundle| Listed {
            name: bundle.manifest.name.clone(),
            version: bundle.manifest.version.clone(),
            digest: bundle.digest,
            counter: bundle.manifest.counter,
            epoch: bundle.manifest.epoch,
            total_bytes: bundle.manifest.total_bytes(),
        };
        let releases: Vec<Listed> = self.bundles.iter().map(listed).collect();
        let assigned = releases.last().map(|l| AssignedBundle {
            name: l.name.clone(),
            digest: l.digest,
            counter: l.counter,
            total_bytes: l.total_bytes,
            epoch: l.epoch,
        });
        let catalog = Catalog {
            fleet: "test".into(),
            version: sequence,
            issued_unix_s: NOW,
            expires_unix_s: NOW + 1000,
            releases,
        };
        let assignment = Assignment {
            fleet: "test".into(),
            device: device(),
            sequence,
            nonce: [0; 16],
            rollout: String::new(),
            bundles: assigned.into_iter().collect(),
            issued_unix_s: NOW,
            expires_unix_s: NOW + 1000,
            catalog_version: sequence,
        };
        let payload = assignment.encode().unwrap();
        let assignment = Envelope::signed(payload, Domain::Assignment, &keys().fleet);
        let payload = catalog.encode().unwrap();
        let catalog = Envelope::signed(payload, Domain::Catalog, &keys().catalog);
        self.desired = Some((assignment.encode().unwrap(), catalog.encode().unwrap()));
    }

    pub(super) fn input(&self, input: Input) {
        self.ends.input.send(input).unwrap();
    }

    pub(super) fn say(&self, message: Down) {
        let addressed = Addressed {
            device: device().as_str().into(),
            sent_unix_s: NOW,
            message,
        };
        let payload = addressed.encode().unwrap();
        let envelope = Envelope::signed(payload, Domain::Down, &keys().fleet);
        self.input(Input::Message {
            bytes: envelope.encode().unwrap(),
            permit: Arc::clone(&self.permits).try_acquire_owned().unwrap(),
        });
    }

    pub(super) fn answer(&mut self, message: Up) {
        let find = |digest| self.bundles.iter().find(|b| b.digest == digest).unwrap();
        match message {
            Up::Hello(_) => {
                if let Some((assignment, catalog)) = self.desired.clone() {
                    self.say(Down::Desired {
                        assignment,
                        catalog,
                    });
                }
            }
            Up::WantManifest { digest } => {
                if let Some(content) = &self.content_key {
                    let public = ExchangeKey::of(&key(30)).public();
                    let (encapsulated, wrapped) = wrap(&public, &digest, content);
                    self.say(Down::ContentKey {
                        digest,
                        encapsulated,
                        wrapped,
                    });
                }
                let envelope = find(digest).envelope.clone();
                self.say(Down::Manifest { digest, envelope });
            }
            Up::WantChunks { digest, missing } => {
                let bundle = find(digest);
                let size = bundle.manifest.chunking.chunk_bytes as usize;
                let chunks: Vec<&[u8]> = bundle.payload.chunks(size).collect();
                for index in missing.iter() {
                    let plain = chunks[index as usize];
                    let bytes = match &self.content_key {
                        Some(content) => seal(content, &digest, index, plain),
                        None => plain.to_vec(),
                    };
                    let bytes = bytes.as_slice();
                    self.input(Input::Chunk {
                        digest,
                        bytes: Chunk { index, bytes }.encode(),
                        permit: Arc::clone(&self.permits).try_acquire_owned().unwrap(),
                    });
                }
            }
            Up::Batch(batch) => {
                let sequences = batch.records.iter().map(|r| r.sequence);
                self.say(Down::Ack(Ack::of(batch.boot, sequences)));
                let records = batch.records.into_iter();
                self.stored.extend(records.map(|r| (batch.boot, r)));
            }
            Up::State(_) | Up::Trust(_) => {}
        }
    }

    /// Answers what the agent says until `done`.
    pub(super) async fn serve_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !done(self) {
            let tick = tokio::time::timeout(Duration::from_millis(20), self.ends.outgoing.recv());
            match tick.await {
                Ok(Some(Outgoing::Publish(message))) => self.answer(message),
                Ok(Some(Outgoing::Subscribe(_) | Outgoing::Unsubscribe(_))) | Err(_) => {}
                Ok(None) => panic!("the driver ended before {what}"),
            }
            let now = tokio::time::Instant::now();
            assert!(
                now < deadline,
                "{what}: {:?}, {:?}",
                self.snapshot(),
                self.calls()
            );
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.driver.as_ref().unwrap().snapshot()
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(super) fn is_committed(&self, digest: Digest) -> bool {
        self.snapshot().state.phase == Phase::Committed { digest }
    }

    pub(super) fn stop(&mut self) {
        self.driver.take().unwrap().stop();
    }

    pub(super) fn events(&self) -> Vec<Event> {
        let event = |(_, record): &(u64, Record)| match &record.body {
            Body::Event(event) => Some(event.clone()),
            Body::Observation(_) | Body::Profile(_) => None,
        };
        self.stored.iter().filter_map(event).collect()
    }
}

/// The threads of an earlier agent may hold the folder for a moment after its stop.
pub(super) fn open(path: &Path) -> Box<dyn Journal> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match SledJournal::open(path, SledOptions::default()) {
            Ok((journal, _)) => return Box::new(journal),
            Err(StoreError::Locked { .. }) if std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}
