//! Tests of the outbox alone, with a disk and a server in memory.

use std::collections::BTreeMap;

use drover_wire::message::{Body, Event};
use proptest::prelude::*;

use super::*;

/// A disk with records, and what the server has stored.
struct World {
    outbox: Outbox,
    disk: BTreeMap<Key, Vec<u8>>,
    sent: Vec<Batch>,
    stored: BTreeMap<Key, u32>,
    now_ms: u64,
}

fn record(sequence: u64, len: usize) -> Vec<u8> {
    let record = Record {
        sequence,
        unix_ms: 5,
        body: Body::Profile(vec![7; len]),
    };
    record.encode().unwrap()
}

impl World {
    fn new(records: &[(u64, u64, usize)]) -> Self {
        let key = |&(boot, sequence, len): &_| (Key { boot, sequence }, record(sequence, len));
        Self {
            outbox: Outbox::new(OutboxConfig::default()),
            disk: records.iter().map(key).collect(),
            sent: Vec::new(),
            stored: BTreeMap::new(),
            now_ms: 0,
        }
    }

    fn on(&mut self, event: OutboxEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.outbox.on(self.now_ms, 0, event) {
                match effect {
                    OutboxEffect::Read { after } => events.push_back(self.page(after)),
                    OutboxEffect::Publish(Up::Batch(batch)) => self.sent.push(batch),
                    OutboxEffect::Publish(other) => panic!("{other:?}"),
                    OutboxEffect::Remove { boot, first, last } => self
                        .disk
                        .retain(|k, _| k.boot != boot || !(first..=last).contains(&k.sequence)),
                }
            }
        }
    }

    fn page(&self, after: Option<Key>) -> OutboxEvent {
        let records = self.disk.iter().filter(|(k, _)| Some(**k) > after);
        let records = records.map(|(k, r)| (*k, r.clone()));
        OutboxEvent::Page {
            after,
            records: records.take(MAX_BATCH_RECORDS).collect(),
        }
    }

    /// The server stores a batch and says so.
    fn store(&mut self, batch: &Batch) -> Ack {
        for record in &batch.records {
            let key = Key {
                boot: batch.boot,
                sequence: record.sequence,
            };
            *self.stored.entry(key).or_default() += 1;
        }
        Ack::of(batch.boot, batch.records.iter().map(|r| r.sequence))
    }

    /// Delivers everything until nothing more is sent.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.sent.is_empty() {
                match self.outbox.deadline() {
                    Some(at) => {
                        self.now_ms = self.now_ms.max(at);
                        self.on(OutboxEvent::Tick);
                    }
                    None => return,
                }
            }
            for batch in std::mem::take(&mut self.sent) {
                let ack = self.store(&batch);
                self.on(OutboxEvent::Ack(ack));
            }
        }
        panic!("does not settle");
    }
}

#[test]
fn everything_is_sent_once_and_forgotten() {
    let records: Vec<_> = (1..=2000).map(|n| (1 + n / 700, n, 40)).collect();
    let mut world = World::new(&records);
    world.on(OutboxEvent::Appended);
    assert!(world.sent.is_empty(), "sent without a connection");
    world.on(OutboxEvent::Connected);
    assert_eq!(world.sent.len(), 4, "the window");
    assert!(
        world
            .sent
            .iter()
            .all(|b| b.records.len() <= MAX_BATCH_RECORDS)
    );
    world.settle();
    assert_eq!(world.stored.len(), 2000);
    assert!(world.stored.values().all(|times| *times == 1));
    assert!(world.disk.is_empty());
    assert_eq!(world.outbox.deadline(), None);
}

#[test]
fn batches_stay_under_the_limit_and_large_records_go_alone() {
    let records: Vec<_> = (1..=12)
        .map(|n| (1, n, 20_000))
        .chain([(1, 13, 150_000)])
        .collect();
    let mut world = World::new(&records);
    world.outbox.config.window = 100;
    world.on(OutboxEvent::Connected);
    for batch in &world.sent {
        let bytes = Up::Batch(batch.clone()).encode().unwrap().len();
        assert!(
            bytes <= MAX_BATCH_BYTES || batch.records.len() == 1,
            "{bytes}"
        );
    }
    world.settle();
    assert!(world.disk.is_empty());
}

#[test]
fn records_that_no_message_carries_do_not_block_the_others() {
    let mut world = World::new(&[(1, 1, 10), (1, 4, 10)]);
    let key = |sequence| Key { boot: 1, sequence };
    world.disk.insert(key(2), vec![1, 2, 3]);
    world.disk.insert(key(3), record(99, 10));
    world.on(OutboxEvent::Connected);
    world.settle();
    assert!(world.disk.is_empty());
    assert_eq!(world.stored.len(), 2);
    assert_eq!(world.outbox.unsendable(), 2);
}

#[test]
fn a_lost_batch_or_ack_is_made_good_with_growing_patience() {
    let mut world = World::new(&[(1, 1, 10)]);
    world.on(OutboxEvent::Connected);
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(world.sent.len(), 1);
        world.sent.clear();
        let at = world.outbox.deadline().unwrap();
        waits.push(at - world.now_ms);
        world.now_ms = at;
        world.on(OutboxEvent::Tick);
    }
    assert!(waits.is_sorted() && waits[0] < waits[5], "{waits:?}");
    assert!(waits[5] <= OutboxConfig::default().resend_cap_ms);
    world.settle();
    assert!(world.disk.is_empty());
}

#[test]
fn only_what_was_sent_can_be_acknowledged() {
    let mut world = World::new(&[(1, 1, 10), (2, 1, 10)]);
    let all = |boot| Ack {
        boot,
        ranges: vec![(0, u64::MAX)],
    };
    world.on(OutboxEvent::Ack(all(1)));
    assert_eq!(world.disk.len(), 2, "nothing was sent");
    world.on(OutboxEvent::Connected);
    world.on(OutboxEvent::Ack(all(3)));
    assert_eq!(world.disk.len(), 2);
    let event = record(7, 10);
    let key = Key {
        boot: 2,
        sequence: 7,
    };
    world.disk.insert(key, event);
    world.on(OutboxEvent::Ack(all(2)));
    assert!(
        world.disk.contains_key(&key),
        "appended after the batch was sent"
    );
}

#[test]
fn new_records_follow_when_they_are_flushed() {
    let mut world = World::new(&[]);
    world.on(OutboxEvent::Connected);
    let record = Record {
        sequence: 1,
        unix_ms: 0,
        body: Body::Event(Event::Evicted { records: 1 }),
    };
    let key = Key {
        boot: 1,
        sequence: 1,
    };
    world.disk.insert(key, record.encode().unwrap());
    world.on(OutboxEvent::Tick);
    assert!(world.sent.is_empty());
    world.on(OutboxEvent::Appended);
    assert_eq!(world.sent[0].records, [record]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Loss, doubling, reordering, reconnects and restarts: nothing is lost, and the disk is
    /// empty in the end.
    #[test]
    fn no_record_is_lost(
        steps in prop::collection::vec((0..8u8, 0..10usize), 1..120),
        count in 1..300u64,
    ) {
        let records: Vec<_> = (1..=count).map(|n| (1 + n / 100, n, 1500)).collect();
        let mut world = World::new(&records);
        let mut acks: Vec<Ack> = Vec::new();
        for (step, n) in steps {
            match step {
                0 => world.on(OutboxEvent::Connected),
                1 => {
                    world.sent.clear();
                    world.on(OutboxEvent::Disconnected);
                }
                2 if !world.sent.is_empty() => {
                    let batch = world.sent.remove(n % world.sent.len());
                    acks.push(world.store(&batch));
                }
                3 if !world.sent.is_empty() => {
                    world.sent.remove(n % world.sent.len());
                }
                4 if !acks.is_empty() => {
                    let ack = acks[n % acks.len()].clone();
                    world.on(OutboxEvent::Ack(ack));
                }
                5 => {
                    world.now_ms += 200_000;
                    world.on(OutboxEvent::Tick);
                }
                6 => {
                    world.outbox = Outbox::new(OutboxConfig::default());
                    world.sent.clear();
                }
                _ => world.on(OutboxEvent::Appended),
            }
            let kept = world.disk.keys().chain(world.stored.keys());
            let kept: BTreeSet<_> = kept.collect();
            prop_assert_eq!(kept.len() as u64, count, "a record is neither here nor there");
        }
        world.sent.clear();
        world.on(OutboxEvent::Connected);
        world.settle();
        prop_assert_eq!(world.stored.len() as u64, count);
        prop_assert!(world.disk.is_empty());
    }
}
