//! The attacker holds the catalog key, the fleet key, one of two release keys and the broker,
//! and does what he likes, in any order, with power cuts and jumps of the clock in between.
//!
//! At every moment (checked inside [`crate::world::Device`]) nothing runs that the release
//! threshold did not sign, and no version, sequence, floor or time steps back outside the
//! rule of rotation. After it all the owner rotates the stolen keys, and the next honest
//! update is accepted.

use std::cell::Cell;

use drover_agent_core::{Effect, Event};
use drover_trust::{Domain, Envelope, Role, Voucher};
use drover_wire::message::{Ack, Down, FailureCode, RootChain, Up};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::world::{
    Bundle, CATALOG_KEY, Cut, Device, FLEET_KEY, Fate, Mail, RELEASE_KEYS, ROOT_KEY, Server,
    assignment, assignment_bytes, catalog, catalog_bytes, committed, deliver, device_id, down, key,
    root_envelope, root_metadata, set_role, settle,
};

/// Releases of the owner; the others are the attacker's.
const HONEST: usize = 5;
/// Keys that the attacker makes for himself.
const OWN_KEYS: [u8; 2] = [90, 91];
const OWN_ROOT: u8 = 92;

/// A number that the attacker writes into what he signs.
#[derive(Clone, Copy, Debug)]
enum Number {
    Next,
    Small(u8),
    Greatest,
}

#[derive(Clone, Debug)]
enum Action {
    /// Signs catalog, assignment and message for release number n.
    Order {
        bundle: usize,
        sequence: Number,
        version: Number,
        sent: Number,
    },
    /// Answers what the device asks for, as an honest server would.
    Serve,
    /// Sends some manifest as that of the candidate.
    Manifest(usize),
    /// Sends a chunk of the candidate, wrong unless told otherwise.
    Chunk(u32, bool),
    /// Sends roots that he signed with what he has.
    Roots(usize),
    /// Sends again what was sent once, his or the owner's.
    Replay(usize),
    /// Gives the device away.
    Transfer,
    /// Says other things that the fleet key may say.
    Say(usize),
    Connect,
    Disconnect,
    Wait,
    /// So many hours pass.
    Hours(u32),
    Restart(bool),
    /// The power will be cut after so many more steps.
    CutIn(u64),
    Fate(Fate),
    /// What runs turns out to be broken.
    Lost(bool),
    /// The owner replaces the stolen online keys in the midst of it.
    Rotate,
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        12 => Just(Number::Next),
        2 => any::<u8>().prop_map(Number::Small),
        1 => Just(Number::Greatest),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let order =
        (0..12usize, number(), number(), number()).prop_map(|(bundle, sequence, version, sent)| {
            Action::Order {
                bundle,
                sequence,
                version,
                sent,
            }
        });
    let fate = prop_oneof![
        4 => Just(Fate::Good),
        1 => Just(Fate::TrialFails),
        2 => Just(Fate::Hangs),
        1 => Just(Fate::LoadFails(FailureCode::GoldenMismatch)),
    ];
    prop_oneof![
        10 => order,
        12 => Just(Action::Serve),
        2 => (0..12usize).prop_map(Action::Manifest),
        2 => (0..6u32, any::<bool>()).prop_map(|(index, good)| Action::Chunk(index, good)),
        3 => (0..8usize).prop_map(Action::Roots),
        4 => (0..64usize).prop_map(Action::Replay),
        1 => Just(Action::Transfer),
        1 => (0..4usize).prop_map(Action::Say),
        3 => Just(Action::Connect),
        1 => Just(Action::Disconnect),
        3 => Just(Action::Wait),
        1 => (0..10_000u32).prop_map(Action::Hours),
        1 => any::<bool>().prop_map(Action::Restart),
        2 => (0..20u64).prop_map(Action::CutIn),
        2 => fate.prop_map(Action::Fate),
        1 => any::<bool>().prop_map(Action::Lost),
        1 => Just(Action::Rotate),
    ]
}

/// The owner's releases, then what the attacker can sign.
fn releases() -> Vec<Bundle> {
    let honest = (1..=5)
        .map(|counter| Bundle::altered(counter, &RELEASE_KEYS, |m| m.epoch = counter.div_ceil(2)));
    let stolen = RELEASE_KEYS[0];
    let signers: [&[u8]; 7] = [
        &[stolen],
        &[stolen, FLEET_KEY],
        &[stolen, CATALOG_KEY, FLEET_KEY],
        &[FLEET_KEY, CATALOG_KEY],
        &OWN_KEYS,
        &[stolen, OWN_KEYS[0]],
        &[],
    ];
    let forged = (10u64..)
        .zip(signers)
        .map(|(counter, signers)| Bundle::altered(counter, signers, |m| m.epoch = 9));
    honest.chain(forged).collect()
}

struct Run {
    device: Device,
    /// The owner's server; its keys are the attacker's too until a rotation.
    server: Server,
    releases: Vec<Bundle>,
    said: Vec<Mail>,
    sequence: u64,
    version: u64,
    sent_s: u64,
}

impl Run {
    fn new() -> Self {
        let releases = releases();
        let (mut device, mut server) = committed(&releases[0]);
        device.signed = releases.iter().take(HONEST).map(|b| b.digest).collect();
        for bundle in &releases {
            server.list(bundle.assigned());
        }
        server.bundles = releases.clone();
        let said = vec![
            server.message(server.desired(server.assignment.clone().unwrap())),
            server.message(Down::Resync),
        ];
        Self {
            device,
            server,
            releases,
            said,
            sequence: 1,
            version: 100_000_000,
            sent_s: 2000,
        }
    }

    fn pick(last: &mut u64, number: Number) -> u64 {
        match number {
            Number::Next => {
                *last = last.saturating_add(1);
                *last
            }
            Number::Small(n) => n.into(),
            Number::Greatest => u64::MAX,
        }
    }

    /// Sends something signed with the stolen fleet key.
    fn say(&mut self, message: Down, sent_s: u64) -> Result<(), Cut> {
        let bytes = down(message, device_id().as_str(), sent_s, FLEET_KEY);
        self.send(Mail::Message(bytes))
    }

    fn send(&mut self, mail: Mail) -> Result<(), Cut> {
        if self.said.len() < 256 {
            self.said.push(mail.clone());
        }
        deliver(&mut self.device, mail)
    }

    fn act(&mut self, action: Action) -> Result<(), Cut> {
        match action {
            Action::Order {
                bundle,
                sequence,
                version,
                sent,
            } => {
                let mut order = assignment(
                    Self::pick(&mut self.sequence, sequence),
                    vec![self.releases[bundle].assigned()],
                );
                order.expires_unix_s = u64::MAX;
                let version = Self::pick(&mut self.version, version);
                let mut list = catalog(version, 2000, &self.server.listed);
                list.expires_unix_s = u64::MAX;
                let sent_s = Self::pick(&mut self.sent_s, sent);
                let desired = Down::Desired {
                    assignment: assignment_bytes(&order, FLEET_KEY),
                    catalog: catalog_bytes(&list, CATALOG_KEY),
                };
                self.say(desired, sent_s)?;
            }
            Action::Serve => {
                for _ in 0..3 {
                    for up in std::mem::take(&mut self.device.up) {
                        let asks = matches!(up, Up::WantManifest { .. } | Up::WantChunks { .. });
                        let mails = if asks { self.serve(&up) } else { vec![] };
                        for mail in mails {
                            self.send(mail)?;
                        }
                    }
                }
            }
            Action::Manifest(n) => {
                let candidate = self.device.machine.durable().candidate.as_ref();
                let digest = candidate.map_or([0; 32], |c| c.digest);
                let envelope = self.releases[n].envelope.clone();
                self.say(Down::Manifest { digest, envelope }, self.sent_s)?;
            }
            Action::Chunk(index, good) => {
                let candidate = self.device.machine.durable().candidate.as_ref();
                let digest = candidate.map_or([0; 32], |c| c.digest);
                let bundle = self.releases.iter().find(|b| b.digest == digest);
                let bytes = match bundle {
                    Some(bundle) if good => bundle.chunk(index % 5),
                    _ => vec![index as u8; 10],
                };
                self.send(Mail::Chunk(digest, index, bytes))?;
            }
            Action::Roots(n) => {
                let bytes = self.forged_roots(n);
                self.send(Mail::Roots(bytes))?;
            }
            Action::Replay(n) => {
                let mail = self.said[n % self.said.len()].clone();
                deliver(&mut self.device, mail)?;
            }
            Action::Transfer => {
                let message = self.forged_voucher();
                self.say(message, self.sent_s)?;
            }
            Action::Say(n) => {
                let everything = Ack {
                    boot: u64::MAX,
                    ranges: vec![(0, u64::MAX)],
                };
                let digest = self.releases[n].digest;
                let message = match n {
                    0 => Down::Resync,
                    1 => Down::Ack(everything),
                    2 => Down::Unknown { digest },
                    _ => Down::ContentKey {
                        digest,
                        encapsulated: [0; 32],
                        wrapped: vec![0; 48],
                    },
                };
                self.say(message, self.sent_s)?;
            }
            Action::Connect => self.device.on(Event::Connected)?,
            Action::Disconnect => {
                self.device.up.clear();
                self.device.on(Event::Disconnected)?;
            }
            Action::Wait => {
                self.device.wait()?;
            }
            Action::Hours(n) => self.device.now_ms += u64::from(n) * 3_600_000,
            Action::Restart(keep_chunks) => self.device.restart(keep_chunks)?,
            Action::CutIn(points) => self.device.cut_at = Some(self.device.points + points),
            Action::Fate(fate) => self.device.fate = fate,
            Action::Lost(is_damage) => self.lose(is_damage)?,
            Action::Rotate => {
                self.rotate();
                let bytes = self.server.chain();
                self.send(Mail::Roots(bytes))?;
            }
        }
        Ok(())
    }

    /// What the attacker answers, with his own copies of everything.
    fn serve(&self, up: &Up) -> Vec<Mail> {
        let mut server = self.server.clone();
        server.fleet_key = FLEET_KEY;
        server.answer(up)
    }

    fn forged_roots(&self, n: usize) -> Vec<u8> {
        let mut root = self.server.root.clone();
        root.version = match n % 3 {
            0 => root.version + 1,
            1 => root.version + 2,
            _ => u64::MAX,
        };
        set_role(&mut root, Role::Release, 1, &OWN_KEYS);
        set_role(&mut root, Role::Catalog, 1, &[CATALOG_KEY]);
        set_role(&mut root, Role::Fleet, 1, &[FLEET_KEY]);
        if n >= 4 {
            set_role(&mut root, Role::Root, 1, &[OWN_ROOT]);
        }
        let signers: &[u8] = &[FLEET_KEY, CATALOG_KEY, RELEASE_KEYS[0], OWN_ROOT];
        let forged = root_envelope(&root, signers);
        let first = root_envelope(&root_metadata(), &[ROOT_KEY]);
        let mut chain = vec![first];
        chain.extend(self.server.roots.iter().cloned());
        if n != 3 {
            chain.push(forged);
        }
        let roots = chain.iter().map(|r| r.encode().unwrap()).collect();
        RootChain { roots }.encode().unwrap()
    }

    fn forged_voucher(&self) -> Down {
        let voucher = Voucher {
            from_fleet: "test".into(),
            device: device_id(),
            to_fleet: "attacker".into(),
            to_root: [9; 32],
            server: "https://attacker".into(),
            claim: "c".into(),
            issued_unix_s: 2000,
            expires_unix_s: u64::MAX,
        };
        let mut envelope = Envelope::unsigned(voucher.encode().unwrap());
        for n in [FLEET_KEY, CATALOG_KEY, RELEASE_KEYS[0], OWN_ROOT] {
            envelope.sign(Domain::Voucher, &key(n));
        }
        let voucher = envelope.encode().unwrap();
        Down::Transfer { voucher }
    }

    fn lose(&mut self, is_damage: bool) -> Result<(), Cut> {
        let Some(active) = self.device.machine.durable().active.clone() else {
            return Ok(());
        };
        let digest = active.running.digest;
        self.device.running = None;
        let code = match is_damage {
            true => FailureCode::Mismatch,
            false => FailureCode::GoldenMismatch,
        };
        self.device.on(Event::ActiveLost {
            digest,
            code,
            detail: "lost".into(),
        })
    }

    /// The owner takes the online keys away.
    fn rotate(&mut self) {
        let n = 100 + 2 * self.server.roots.len() as u8;
        self.server.rotate(&[ROOT_KEY], |root| {
            set_role(root, Role::Catalog, 1, &[n]);
            set_role(root, Role::Fleet, 1, &[n + 1]);
        });
        (self.server.catalog_key, self.server.fleet_key) = (n, n + 1);
    }

    /// The attacker is gone; the owner rotates and publishes.
    fn recover(&mut self) -> Result<(), TestCaseError> {
        self.device.cut_at = None;
        self.device.fate = Fate::Good;
        self.device.restart(true).unwrap();
        self.rotate();
        let honest = Bundle::altered(90, &RELEASE_KEYS, |m| m.epoch = 3);
        self.device.signed.insert(honest.digest);
        self.server.assign(1, &honest);
        settle(&mut self.device, &self.server).unwrap();
        prop_assert_eq!(
            self.device.running,
            Some(honest.digest),
            "{:?}, refused {:?}",
            self.device.phase(),
            self.device.refusals()
        );
        let gone = |e: &Effect| matches!(e, Effect::Transfer(_));
        prop_assert!(!self.device.other.iter().any(gone), "given away");
        Ok(())
    }
}

/// 32 bytes out of `DROVER_SEED` (hex of 8), or new ones.
fn seed() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let given = std::env::var("DROVER_SEED").ok();
    let number = match given {
        Some(hex) => u64::from_str_radix(&hex, 16).unwrap(),
        None => RandomState::new().hash_one(0),
    };
    println!("to see the same actions again: DROVER_SEED={number:016x}");
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed
}

#[test]
fn nothing_runs_that_the_release_threshold_did_not_sign() {
    let config = ProptestConfig {
        cases: 256,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let actions = prop::collection::vec(action(), 10..120);
    let (forged, orders) = (Cell::new(0), Cell::new(0));
    let outcome = runner.run(&actions, |actions| {
        let mut run = Run::new();
        for action in actions {
            if run.act(action).is_err() {
                run.device.restart(true).unwrap();
            }
            let durable = run.device.machine.durable();
            let candidate = durable.candidate.as_ref().map(|c| c.digest);
            if candidate.is_some_and(|d| !run.device.signed.contains(&d)) {
                forged.set(forged.get() + 1);
            }
            if run.device.running != Some(run.releases[0].digest) {
                orders.set(orders.get() + 1);
            }
        }
        run.recover()
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // He came as far as stolen keys can: devices took up forged bundles, and followed him
    // among the owner's releases.
    let (forged, orders) = (forged.get(), orders.get());
    println!("a forged candidate after {forged} actions, his choice of release after {orders}");
    assert!(forged > 100 && orders > 100, "{forged} {orders}");
}
