//! A device whose power can be cut before every persist and every effect, and which checks
//! after each of them what must hold at every moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use drover_agent_core::{
    Config, Ctx, Durable, Effect, Event, Machine, Platform, Stored, Timing, VerifiedDown,
};
use drover_bundle::VerifiedManifest;
use drover_trust::{Envelope, Role, TrustedRoot};
use drover_wire::message::{self, Digest, FailureCode, Phase, Up};

use super::fixture::{device_id, trusted_root};

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
    /// Stagings that were asked for before every chunk was there.
    pub(crate) early_stages: u32,
    /// Points passed at which the power can be cut.
    pub(crate) points: u64,
    pub(crate) cut_at: Option<u64>,
    pub(crate) signed: BTreeSet<Digest>,
    /// Subscribed to these bundles' topics.
    pub(crate) topics: BTreeSet<Digest>,
    /// What the driver verifies messages with.
    pub(crate) root: TrustedRoot,
    /// Effects of trust that a driver would act on elsewhere.
    pub(crate) other: Vec<Effect>,
    /// The root that comes with the image.
    pub(crate) image_root: TrustedRoot,
    /// When that image was built.
    pub(crate) built_s: u64,
    boot: u64,
    random: u64,
    seen: Seen,
}

/// The durable state seen last, which must never be undercut.
type Seen = Durable;

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

fn machine(disk: &Disk, image: (&TrustedRoot, u64), boot: u64, now_ms: u64) -> Machine {
    let config = Config {
        device: device_id(),
        root: image.0.clone(),
        boot,
        built_unix_s: image.1,
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
        super::switch_off();
        let disk = Disk::default();
        let root = trusted_root();
        let mut device = Self {
            machine: machine(&disk, (&root, 500), 1, 0),
            image_root: root.clone(),
            built_s: 500,
            root,
            topics: BTreeSet::new(),
            other: Vec::new(),
            disk,
            running: None,
            trial: None,
            fate: Fate::Good,
            up: VecDeque::new(),
            records: Vec::new(),
            now_ms: 0,
            connected: false,
            disk_full: false,
            early_stages: 0,
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
        let image = (&self.image_root, self.built_s);
        self.machine = machine(&self.disk, image, self.boot, self.now_ms);
        self.root = self.machine.root().clone();
        self.topics.clear();
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
            Effect::Subscribe { digest } => {
                self.topics.insert(digest);
            }
            Effect::Unsubscribe { digest } => {
                self.topics.remove(&digest);
            }
            Effect::RootChanged(root) => self.root = root,
            Effect::ContentKey { .. } | Effect::Transfer(_) => self.other.push(effect),
            Effect::StoreManifest { digest, envelope } => {
                self.disk.manifests.insert(digest, envelope);
            }
            Effect::StoreChunk {
                digest,
                index,
                bytes,
            } => {
                if self.disk_full {
                    return Some(Event::ChunkLost {
                        digest,
                        detail: "full".into(),
                    });
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
            self.early_stages += 1;
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
        let bytes = self.disk.durable.as_deref();
        let durable = bytes.map(|b| Durable::decode(b).unwrap());
        let durable = durable.unwrap_or_default();
        let seen = &self.seen;
        if *seen == durable {
            return;
        }
        let (before, after) = match seen.root == durable.root {
            true => (None, None),
            false => (root_of(seen), root_of(&durable)),
        };
        let version = |root: &Option<TrustedRoot>| root.as_ref().map_or(0, |r| r.root().version);
        assert!(version(&after) >= version(&before), "root went back");
        let restarts = before.zip(after).is_some_and(|(before, after)| {
            before.revokes(Role::Fleet, &after) || before.revokes(Role::Catalog, &after)
        });
        if !restarts {
            assert!(durable.sequence >= seen.sequence, "sequence went back");
            assert!(durable.time_floor_s >= seen.time_floor_s, "time went back");
            let (had, has) = (&seen.catalog, &durable.catalog);
            assert!(has.version >= had.version, "catalog went back");
            assert!(has.version > had.version || has == had, "two catalogs");
        }
        assert!(durable.epoch_floor >= seen.epoch_floor, "epoch went back");
        for (name, floor) in &seen.floors {
            assert!(durable.floor(name) >= *floor, "floor of {name} went back");
        }
        if let Some(active) = &durable.active {
            assert!(active.epoch >= durable.epoch_floor, "active below floor");
        }
        self.seen = durable;
    }

    /// What was counted for one fleet says nothing about another.
    pub(crate) fn forget_seen(&mut self) {
        self.seen = Durable::default();
    }

    /// A message on the device's topic.
    pub(crate) fn message(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        match VerifiedDown::open(bytes, &self.root, &device_id()) {
            Ok(down) => self.on(Event::Down(down)),
            Err(error) => self.on(Event::Rejected {
                code: error.code(),
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

fn root_of(durable: &Durable) -> Option<TrustedRoot> {
    let envelope = Envelope::decode(durable.root.as_deref()?).unwrap();
    Some(TrustedRoot::self_signed(envelope).unwrap())
}
