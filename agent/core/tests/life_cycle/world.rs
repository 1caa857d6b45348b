//! A fleet of one device without input or output: keys, bundles, a server that answers, and a
//! device whose power can be cut before every persist and every effect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use drover_agent_core::{
    Config, Ctx, Durable, Effect, Event, Machine, Platform, Stored, Timing, VerifiedDown,
};
use drover_bundle::DType;
use drover_bundle::{
    Channel, Decision, FileRole, InputSpec, Manifest, Normalisation, OutputSpec, Requires, Scoring,
    TensorSpec, Tolerance, VerifiedManifest, Window, container,
};
use drover_trust::{
    AssignedBundle, Assignment, DeviceId, Domain, Envelope, Role, RoleKeys, Root, SecretKey,
    TrustedRoot,
};
use drover_wire::message::{self, Addressed, Digest, Down, FailureCode, Phase, Up};

pub(crate) const MODEL: &str = "pump";

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) const ROOT_KEY: u8 = 1;
pub(crate) const RELEASE_KEYS: [u8; 2] = [2, 3];
pub(crate) const FLEET_KEY: u8 = 4;
pub(crate) const DEVICE_KEY: u8 = 30;

pub(crate) fn trusted_root() -> TrustedRoot {
    let role = |role, threshold, keys: &[u8]| RoleKeys {
        role,
        threshold,
        keys: keys.iter().map(|&n| key(n).public()).collect(),
    };
    let root = Root {
        version: 1,
        fleet: "test".into(),
        created_unix_s: 1000,
        roles: vec![
            role(Role::Root, 1, &[ROOT_KEY]),
            role(Role::Release, 2, &RELEASE_KEYS),
            role(Role::Fleet, 1, &[FLEET_KEY]),
        ],
    };
    let envelope = Envelope::signed(root.encode().unwrap(), Domain::Root, &key(ROOT_KEY));
    TrustedRoot::self_signed(envelope).unwrap()
}

pub(crate) fn device() -> DeviceId {
    DeviceId::of(&key(DEVICE_KEY).public())
}

/// A bundle as the server has it.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) manifest: Manifest,
    pub(crate) digest: Digest,
    pub(crate) envelope: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Bundle {
    pub(crate) fn new(counter: u64, signers: &[u8]) -> Self {
        Self::altered(counter, signers, |_| {})
    }

    pub(crate) fn altered(counter: u64, signers: &[u8], alter: impl FnOnce(&mut Manifest)) -> Self {
        let (files, mut chunking, payload) = container::pack(vec![
            (
                "model.onnx".into(),
                FileRole::Model,
                (0..40).map(|n| n ^ counter as u8).collect(),
            ),
            ("golden.bin".into(), FileRole::Golden, vec![8; 10]),
        ]);
        chunking.chunk_bytes = 10;
        let sha = |bytes: &[u8]| {
            let (entries, _, _) =
                container::pack(vec![("x".into(), FileRole::Asset, bytes.to_vec())]);
            entries[0].sha256
        };
        chunking.digests = payload.chunks(10).map(sha).collect();
        let tensor = |name: &str| TensorSpec {
            name: name.into(),
            dtype: DType::F32,
            shape: vec![1, 2],
        };
        let mut manifest = Manifest {
            name: MODEL.into(),
            version: format!("{counter}.0.0"),
            counter,
            epoch: 0,
            lineage: Default::default(),
            components: Vec::new(),
            created_unix_s: 1000,
            description: String::new(),
            files,
            chunking,
            requires: Requires {
                engine: "tract".into(),
                arch: vec![],
                memory_bytes: 1000,
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
            tolerance: Tolerance::RangeFraction(0.05),
        };
        alter(&mut manifest);
        let bytes = manifest.encode().unwrap();
        let digest = sha(&bytes);
        let mut envelope = Envelope::unsigned(bytes);
        for &n in signers {
            envelope.sign(Domain::Manifest, &key(n));
        }
        Self {
            manifest,
            digest,
            envelope: envelope.encode().unwrap(),
            payload,
        }
    }

    pub(crate) fn assigned(&self) -> AssignedBundle {
        AssignedBundle {
            name: self.manifest.name.clone(),
            digest: self.digest,
            counter: self.manifest.counter,
            total_bytes: self.manifest.total_bytes(),
        }
    }

    pub(crate) fn chunk(&self, index: u32) -> Vec<u8> {
        let chunks: Vec<&[u8]> = self.payload.chunks(10).collect();
        chunks[index as usize].to_vec()
    }
}

pub(crate) fn assignment(sequence: u64, bundles: Vec<AssignedBundle>) -> Assignment {
    Assignment {
        fleet: "test".into(),
        device: device(),
        sequence,
        nonce: [sequence as u8; 16],
        rollout: "r".into(),
        bundles,
        issued_unix_s: 2000,
        expires_unix_s: 9000,
    }
}

pub(crate) fn assignment_bytes(assignment: &Assignment, signer: u8) -> Vec<u8> {
    let payload = assignment.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Assignment, &key(signer));
    envelope.encode().unwrap()
}

/// Bytes of a message to a device.
pub(crate) fn down(message: Down, to: &str, sent_unix_s: u64, signer: u8) -> Vec<u8> {
    let addressed = Addressed {
        device: to.into(),
        sent_unix_s,
        message,
    };
    let payload = addressed.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Down, &key(signer));
    envelope.encode().unwrap()
}

/// The power was cut.
#[derive(Debug)]
pub(crate) struct Cut;

/// What a test makes of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    LoadFails(FailureCode),
    TrialFails,
    /// The verdict never comes.
    Hangs,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) durable: Option<Vec<u8>>,
    pub(crate) manifests: BTreeMap<Digest, Vec<u8>>,
    pub(crate) chunks: BTreeMap<Digest, BTreeMap<u32, Vec<u8>>>,
    /// Whole bundles, by digest.
    pub(crate) files: BTreeSet<Digest>,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// What the host runs.
    pub(crate) running: Option<Digest>,
    pub(crate) trial: Option<Digest>,
    pub(crate) fate: Fate,
    pub(crate) up: VecDeque<Up>,
    pub(crate) records: Vec<message::Event>,
    pub(crate) now_ms: u64,
    pub(crate) connected: bool,
    pub(crate) disk_full: bool,
    /// Points passed at which the power can be cut.
    pub(crate) points: u64,
    pub(crate) cut_at: Option<u64>,
    pub(crate) signed: BTreeSet<Digest>,
    boot: u64,
    random: u64,
    seen: Seen,
}

/// Highest values seen, which must never be undercut.
#[derive(Debug, Default)]
struct Seen {
    sequence: u64,
    floors: BTreeMap<String, u64>,
    time_floor_s: u64,
}

struct Step<'a> {
    now_ms: u64,
    random: &'a mut u64,
    effects: Vec<Effect>,
}

impl Ctx for Step<'_> {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn random(&mut self) -> u64 {
        *self.random = self
            .random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1);
        *self.random >> 33
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

fn machine(disk: &Disk, boot: u64, now_ms: u64) -> Machine {
    let config = Config {
        device: device(),
        root: trusted_root(),
        boot,
        platform: Platform {
            agent_version: "0".into(),
            arch: "arm".into(),
            memory_bytes: 1 << 20,
            model_memory_bytes: 10_000,
            engines: vec!["tract".into()],
        },
        timing: Timing::default(),
    };
    let durable = disk.durable.as_deref().map(|b| Durable::decode(b).unwrap());
    Machine::new(config, durable.unwrap_or_default(), now_ms)
}

impl Device {
    pub(crate) fn new() -> Self {
        let disk = Disk::default();
        let mut device = Self {
            machine: machine(&disk, 1, 0),
            disk,
            running: None,
            trial: None,
            fate: Fate::Good,
            up: VecDeque::new(),
            records: Vec::new(),
            now_ms: 0,
            connected: false,
            disk_full: false,
            points: 0,
            cut_at: None,
            signed: BTreeSet::new(),
            boot: 1,
            random: 1,
            seen: Seen::default(),
        };
        device.on(Event::Resumed(Stored::default())).unwrap();
        device
    }

    /// The power comes back. Chunks are not flushed; `keep_chunks` says whether they lived.
    pub(crate) fn restart(&mut self, keep_chunks: bool) -> Result<(), Cut> {
        self.boot += 1;
        if !keep_chunks {
            self.disk.chunks.clear();
        }
        self.machine = machine(&self.disk, self.boot, self.now_ms);
        self.running = None;
        self.trial = None;
        self.connected = false;
        self.up.clear();
        let stored = self.stored();
        self.on(Event::Resumed(stored))
    }

    fn stored(&self) -> Stored {
        let candidate = self.machine.durable().candidate.as_ref().map(|c| c.digest);
        let chunks = candidate.and_then(|d| self.disk.chunks.get(&d));
        let mut bundles: BTreeSet<Digest> = self.disk.files.clone();
        bundles.extend(self.disk.manifests.keys());
        Stored {
            manifest: candidate.and_then(|d| self.disk.manifests.get(&d).cloned()),
            chunks: chunks
                .map(|c| c.keys().copied().collect())
                .unwrap_or_default(),
            bundles: bundles.into_iter().collect(),
        }
    }

    /// One event and everything that it leads to at once.
    pub(crate) fn on(&mut self, event: Event) -> Result<(), Cut> {
        match &event {
            Event::Connected => self.connected = true,
            Event::Disconnected => self.connected = false,
            _ => {}
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut step = Step {
                now_ms: self.now_ms,
                random: &mut self.random,
                effects: Vec::new(),
            };
            self.machine.on(&mut step, event);
            let effects = step.effects;
            self.point()?;
            if let Some(bytes) = self.machine.take_dirty() {
                self.disk.durable = Some(bytes);
                self.check();
                self.point()?;
            }
            for effect in effects {
                events.extend(self.perform(effect));
                self.check();
                self.point()?;
            }
        }
        Ok(())
    }

    fn point(&mut self) -> Result<(), Cut> {
        self.points += 1;
        if self.cut_at.take_if(|at| *at < self.points).is_some() {
            return Err(Cut);
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Publish(message) => {
                assert!(self.connected, "published without a connection");
                self.up.push_back(message);
            }
            Effect::Subscribe { .. } | Effect::Unsubscribe { .. } => {}
            Effect::StoreManifest { digest, envelope } => {
                self.disk.manifests.insert(digest, envelope);
            }
            Effect::StoreChunk {
                digest,
                index,
                bytes,
            } => {
                if self.disk_full {
                    return None;
                }
                let chunks = self.disk.chunks.entry(digest).or_default();
                chunks.insert(index, bytes);
                return Some(Event::ChunkStored { digest, index });
            }
            Effect::Stage { manifest, envelope } => return Some(self.stage(&manifest, envelope)),
            Effect::DropChunks { digest } => {
                self.disk.chunks.remove(&digest);
            }
            Effect::LoadCandidate { digest } => {
                assert!(
                    self.disk.files.contains(&digest),
                    "load before it is staged"
                );
                match self.fate.clone() {
                    Fate::LoadFails(code) => {
                        return Some(Event::LoadFailed {
                            digest,
                            code,
                            detail: "load".into(),
                        });
                    }
                    Fate::Good | Fate::TrialFails | Fate::Hangs => {
                        return Some(Event::Loaded { digest });
                    }
                }
            }
            Effect::StartTrial { digest } => {
                self.trial = Some(digest);
                match self.fate {
                    Fate::Good => return Some(Event::TrialPassed { digest }),
                    Fate::TrialFails => {
                        return Some(Event::TrialFailed {
                            digest,
                            detail: "trial".into(),
                        });
                    }
                    Fate::Hangs | Fate::LoadFails(_) => {}
                }
            }
            Effect::Activate { digest } => {
                self.running = Some(digest);
                self.trial = None;
            }
            Effect::LoadCommitted { digest } => {
                if self.disk.files.contains(&digest) {
                    self.running = Some(digest);
                } else {
                    self.running = None;
                    return Some(Event::ActiveLost {
                        digest,
                        code: FailureCode::Mismatch,
                        detail: "damaged".into(),
                    });
                }
            }
            Effect::Deactivate => self.running = None,
            Effect::DropCandidate => self.trial = None,
            Effect::RemoveBundle { digest } => {
                self.disk.files.remove(&digest);
                self.disk.manifests.remove(&digest);
                self.disk.chunks.remove(&digest);
            }
            Effect::Record(event) => self.records.push(event),
        }
        None
    }

    fn stage(&mut self, manifest: &VerifiedManifest, envelope: Vec<u8>) -> Event {
        let digest = *manifest.digest();
        let here = self.disk.chunks.get(&digest).cloned().unwrap_or_default();
        if here.len() < manifest.manifest().chunking.digests.len() {
            let chunks = here.keys().copied().collect();
            return Event::Incomplete { digest, chunks };
        }
        if self.disk_full {
            return Event::StageFailed {
                digest,
                code: FailureCode::StorageFull,
                detail: "full".into(),
            };
        }
        let payload = here.into_values().flatten().collect::<Vec<u8>>();
        manifest.check_payload(&payload).unwrap();
        self.disk.manifests.insert(digest, envelope);
        self.disk.files.insert(digest);
        Event::Staged { digest }
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        for digest in [self.running, self.trial].into_iter().flatten() {
            assert!(self.signed.contains(&digest), "runs what nobody released");
        }
        let durable = self
            .disk
            .durable
            .as_deref()
            .map(|b| Durable::decode(b).unwrap());
        let durable = durable.unwrap_or_default();
        let seen = &mut self.seen;
        assert!(durable.sequence >= seen.sequence, "sequence went back");
        assert!(durable.time_floor_s >= seen.time_floor_s, "time went back");
        for (name, floor) in &seen.floors {
            assert!(durable.floor(name) >= *floor, "floor of {name} went back");
        }
        if let Some(active) = &durable.active {
            assert!(
                active.counter >= durable.floor(&active.name),
                "active below floor"
            );
        }
        seen.sequence = durable.sequence;
        seen.time_floor_s = durable.time_floor_s;
        seen.floors = durable.floors;
    }

    /// A message on the device's topic.
    pub(crate) fn message(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        match VerifiedDown::open(bytes, &trusted_root(), &device()) {
            Ok(down) => self.on(Event::Down(down)),
            Err(error) => self.on(Event::Rejected {
                detail: error.to_string(),
            }),
        }
    }

    /// Lets the next timer run out.
    pub(crate) fn wait(&mut self) -> Result<bool, Cut> {
        let Some(at) = self.machine.deadline().filter(|at| *at < u64::MAX) else {
            return Ok(false);
        };
        self.now_ms = self.now_ms.max(at);
        self.on(Event::Tick)?;
        Ok(true)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.machine.state().phase
    }

    pub(crate) fn refusals(&self) -> Vec<FailureCode> {
        let code = |event: &message::Event| match event {
            message::Event::Refused { code, .. } => Some(*code),
            _ => None,
        };
        self.records.iter().filter_map(code).collect()
    }
}

/// An honest server and broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) assignment: Option<Vec<u8>>,
    pub(crate) now_s: u64,
}

/// Something on its way to the device.
#[derive(Clone, Debug)]
pub(crate) enum Mail {
    Message(Vec<u8>),
    Chunk(Digest, u32, Vec<u8>),
}

impl Server {
    pub(crate) fn assign(&mut self, sequence: u64, bundle: &Bundle) {
        self.bundles.push(bundle.clone());
        let assignment = assignment(sequence, vec![bundle.assigned()]);
        self.assignment = Some(assignment_bytes(&assignment, FLEET_KEY));
    }

    pub(crate) fn answer(&self, up: &Up) -> Vec<Mail> {
        let message =
            |message| Mail::Message(down(message, device().as_str(), self.now_s, FLEET_KEY));
        let find = |digest: &Digest| self.bundles.iter().find(|b| b.digest == *digest);
        match up {
            Up::Hello(_) => {
                let envelope = self.assignment.clone();
                let assignment = envelope.map(|envelope| Down::Assignment { envelope });
                assignment.map(message).into_iter().collect()
            }
            Up::WantManifest { digest } => {
                let digest = *digest;
                vec![message(match find(&digest) {
                    Some(bundle) => Down::Manifest {
                        digest,
                        envelope: bundle.envelope.clone(),
                    },
                    None => Down::Unknown { digest },
                })]
            }
            Up::WantChunks { digest, missing } => {
                let Some(bundle) = find(digest) else {
                    return vec![message(Down::Unknown { digest: *digest })];
                };
                let chunk = |i| Mail::Chunk(*digest, i, bundle.chunk(i));
                missing.iter().map(chunk).collect()
            }
            Up::State(_) | Up::Batch(_) => vec![],
        }
    }
}

pub(crate) fn deliver(device: &mut Device, mail: Mail) -> Result<(), Cut> {
    match mail {
        Mail::Message(bytes) => device.message(&bytes),
        Mail::Chunk(digest, index, bytes) => device.on(Event::Chunk {
            digest,
            index,
            bytes,
        }),
    }
}

/// Connects if need be and lets both talk until nothing more happens.
pub(crate) fn settle(device: &mut Device, server: &Server) -> Result<(), Cut> {
    if !device.connected {
        device.on(Event::Connected)?;
    }
    for _ in 0..200 {
        while let Some(up) = device.up.pop_front() {
            for mail in server.answer(&up) {
                deliver(device, mail)?;
            }
        }
        if !device.wait()? && device.up.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

/// A device that runs `bundle`, and its server.
pub(crate) fn committed(bundle: &Bundle) -> (Device, Server) {
    let mut device = Device::new();
    let mut server = Server {
        now_s: 2000,
        ..Server::default()
    };
    device.signed.insert(bundle.digest);
    server.assign(1, bundle);
    settle(&mut device, &server).unwrap();
    assert_eq!(
        device.phase(),
        Phase::Committed {
            digest: bundle.digest
        }
    );
    (device, server)
}
