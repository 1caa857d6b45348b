//! Random sequences of honest, lost, doubled, reordered and hostile messages, crashes and
//! cuts. What must hold at every moment is checked inside [`crate::world::Device`]: nothing
//! runs that release keys did not sign, and no sequence, floor or time goes back.

use drover_agent_core::Event;
use drover_trust::DeviceId;
use drover_wire::message::{Ack, Down, FailureCode, Phase};
use proptest::prelude::*;

use crate::world::{
    Bundle, Cut, DEVICE_KEY, Device, FLEET_KEY, Fate, Mail, RELEASE_KEYS, Server, assignment,
    assignment_bytes, deliver, device_id, down, key, settle,
};

#[derive(Clone, Debug)]
enum Action {
    /// The server assigns release number n, signed as it should be or not.
    Assign(usize),
    /// The server answers what the device has said.
    Answer,
    /// All messages go back and forth for a few rounds.
    Talk,
    /// Delivers the message at this place of the queue.
    Deliver(usize),
    /// Delivers a message and leaves it in the queue.
    Twice(usize),
    Lose(usize),
    /// Flips a bit of a message in the queue.
    Flip(usize, usize),
    Hostile(Hostile),
    Connect,
    Disconnect,
    Wait,
    Crash(bool),
    /// The power will be cut after so many more steps.
    CutIn(u64),
    Fate(Fate),
    DiskFull(bool),
}

#[derive(Clone, Copy, Debug)]
enum Hostile {
    UnsignedAssignment,
    OtherDevice,
    OldSequence,
    OtherManifest,
    AckOfEverything,
    FarFuture,
}

fn action() -> impl Strategy<Value = Action> {
    let fate = prop_oneof![
        3 => Just(Fate::Good),
        1 => Just(Fate::TrialFails),
        1 => Just(Fate::Hangs),
        1 => Just(Fate::LoadFails(FailureCode::LoadFailed)),
        1 => Just(Fate::LoadFails(FailureCode::GoldenMismatch)),
    ];
    let hostile = prop_oneof![
        Just(Hostile::UnsignedAssignment),
        Just(Hostile::OtherDevice),
        Just(Hostile::OldSequence),
        Just(Hostile::OtherManifest),
        Just(Hostile::AckOfEverything),
        Just(Hostile::FarFuture),
    ];
    prop_oneof![
        3 => (0..7usize).prop_map(Action::Assign),
        8 => Just(Action::Answer),
        6 => Just(Action::Talk),
        16 => (0..8usize).prop_map(Action::Deliver),
        2 => (0..8usize).prop_map(Action::Twice),
        2 => (0..8usize).prop_map(Action::Lose),
        1 => ((0..8usize), (0..4096usize)).prop_map(|(at, bit)| Action::Flip(at, bit)),
        2 => hostile.prop_map(Action::Hostile),
        4 => Just(Action::Connect),
        1 => Just(Action::Disconnect),
        3 => Just(Action::Wait),
        1 => any::<bool>().prop_map(Action::Crash),
        1 => (0..20u64).prop_map(Action::CutIn),
        2 => fate.prop_map(Action::Fate),
        1 => any::<bool>().prop_map(Action::DiskFull),
    ]
}

/// Releases 0 to 4 are honest; 5 and 6 lack signatures.
fn releases() -> Vec<Bundle> {
    let honest = (1..=5).map(|counter| Bundle::new(counter, &RELEASE_KEYS));
    let forged = [Bundle::new(6, &RELEASE_KEYS[..1]), Bundle::new(7, &[9])];
    honest.chain(forged).collect()
}

struct Run {
    device: Device,
    server: Server,
    releases: Vec<Bundle>,
    queue: Vec<Mail>,
    sequence: u64,
}

impl Run {
    fn new() -> Self {
        let releases = releases();
        let mut device = Device::new();
        device.signed = releases.iter().take(5).map(|b| b.digest).collect();
        let server = Server {
            bundles: releases.clone(),
            listed: releases.iter().map(Bundle::assigned).collect(),
            ..Server::default()
        };
        Self {
            device,
            server,
            releases,
            queue: Vec::new(),
            sequence: 0,
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Cut> {
        let at = |n: usize| n % self.queue.len().max(1);
        match action {
            Action::Assign(n) => {
                self.sequence += 1;
                let assigned = self.releases[n].assigned();
                let bytes = assignment_bytes(&assignment(self.sequence, vec![assigned]), FLEET_KEY);
                self.server.assignment = Some(bytes.clone());
                let mail = self.server.message(self.server.desired(bytes));
                self.queue.push(mail);
            }
            Action::Answer => {
                for up in self.device.up.drain(..) {
                    self.queue.extend(self.server.answer(&up));
                }
            }
            Action::Talk => {
                for _ in 0..3 {
                    for up in std::mem::take(&mut self.device.up) {
                        self.queue.extend(self.server.answer(&up));
                    }
                    for mail in std::mem::take(&mut self.queue) {
                        deliver(&mut self.device, mail)?;
                    }
                }
            }
            Action::Deliver(n) if !self.queue.is_empty() => {
                let mail = self.queue.remove(at(n));
                deliver(&mut self.device, mail)?;
            }
            Action::Twice(n) if !self.queue.is_empty() => {
                let mail = self.queue[at(n)].clone();
                deliver(&mut self.device, mail)?;
            }
            Action::Lose(n) if !self.queue.is_empty() => {
                let at = at(n);
                self.queue.remove(at);
            }
            Action::Flip(n, bit) if !self.queue.is_empty() => {
                let at = at(n);
                let (Mail::Message(bytes) | Mail::Roots(bytes) | Mail::Chunk(_, _, bytes)) =
                    &mut self.queue[at];
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Action::Deliver(_) | Action::Twice(_) | Action::Lose(_) | Action::Flip(..) => {}
            Action::Hostile(kind) => {
                let bytes = self.hostile(kind);
                self.device.message(&bytes)?;
            }
            Action::Connect => self.device.on(Event::Connected)?,
            Action::Disconnect => {
                self.device.up.clear();
                self.device.on(Event::Disconnected)?;
            }
            Action::Wait => {
                self.device.wait()?;
            }
            Action::Crash(keep_chunks) => self.device.restart(keep_chunks)?,
            Action::CutIn(points) => self.device.cut_at = Some(self.device.points + points),
            Action::Fate(fate) => self.device.fate = fate,
            Action::DiskFull(full) => self.device.disk_full = full,
        }
        Ok(())
    }

    fn hostile(&self, kind: Hostile) -> Vec<u8> {
        let (me, now_s) = (device_id(), self.server.now_s);
        let newest = assignment(u64::MAX, vec![self.releases[5].assigned()]);
        let assign = |assignment, signer| self.server.desired(assignment_bytes(assignment, signer));
        let fleet = |message| down(message, me.as_str(), now_s, FLEET_KEY);
        match kind {
            Hostile::UnsignedAssignment => fleet(assign(&newest, DEVICE_KEY)),
            Hostile::OtherDevice => {
                let mut foreign = newest;
                foreign.device = DeviceId::of(&key(31).public());
                fleet(assign(&foreign, FLEET_KEY))
            }
            Hostile::OldSequence => {
                let old = assignment(self.sequence / 2, vec![self.releases[0].assigned()]);
                fleet(assign(&old, FLEET_KEY))
            }
            Hostile::OtherManifest => {
                let candidate = self.device.machine.durable().candidate.as_ref();
                fleet(Down::Manifest {
                    digest: candidate.map_or([0; 32], |c| c.digest),
                    envelope: self.releases[6].envelope.clone(),
                })
            }
            Hostile::AckOfEverything => fleet(Down::Ack(Ack {
                boot: u64::MAX,
                ranges: vec![(0, u64::MAX)],
            })),
            Hostile::FarFuture => down(Down::Resync, me.as_str(), u64::MAX, DEVICE_KEY),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_what_must_hold(
        actions in prop::collection::vec(action(), 20..200),
    ) {
        let mut run = Run::new();
        let mut ran = false;
        for action in actions {
            if run.act(action).is_err() {
                run.device.restart(true).unwrap();
            }
            ran |= run.device.running.is_some();
            prop_assert!(!ran || run.device.running.is_some(), "nothing runs any more");
        }
        // Left alone with an honest server, it settles on an honest release.
        run.device.cut_at = None;
        run.device.fate = Fate::Good;
        run.device.disk_full = false;
        run.device.restart(true).unwrap();
        let honest = Bundle::new(90, &RELEASE_KEYS);
        run.device.signed.insert(honest.digest);
        run.server.assign(run.sequence + 1, &honest);
        settle(&mut run.device, &run.server).unwrap();
        let digest = honest.digest;
        prop_assert_eq!(run.device.phase(), Phase::Committed { digest });
        prop_assert_eq!(run.device.running, Some(digest));
    }
}
