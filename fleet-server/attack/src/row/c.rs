//! C: time, silence, and what a broker can do without any key.

use std::collections::BTreeSet;
use std::time::Duration;

use drover_trust::{Domain, Envelope};
use drover_wire::chunk::Chunk;
use drover_wire::message::{Down, FailureCode, Up};
use drover_wire::topic;

use super::Row;
use crate::attacker::{Serving, addressed_at, down_of, up_of};
use crate::broker::Verdict;
use crate::clock::{self, Look, hold, wait};
use crate::error::{Result, ensure};
use crate::lab::{Lab, SOON};
use crate::suite::Suite;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "C1",
        attack: "freeze: everything newer is held back, what has ended is played again",
        defence: "catalogs and assignments end; the server marks devices without a fresh catalog",
        play: c1,
    },
    Row {
        id: "C2",
        attack: "the board's clock at 1970 and 2099, and stepping back",
        defence: "a floor of signed times on the disk, moved on by the monotonic clock alone",
        play: c2,
    },
    Row {
        id: "C3",
        attack: "everything ends while the device is away for 400 days, or between fetch and commit",
        defence: "an end stops only the acceptance of instructions",
        play: c3,
    },
    Row {
        id: "C4",
        attack: "a broker that drips a bundle byte by byte",
        defence: "a least rate per window; the download pauses, says so, and is resumed",
        play: c4,
    },
    Row {
        id: "C5",
        attack: "dropped reports, then no broker at all",
        defence: "the outbox forgets nothing unacknowledged; reconnects back off with jitter",
        play: c5,
    },
    Row {
        id: "C6",
        attack: "a second source that sends each chunk wrong before the right one comes",
        defence: "chunks are taken by their signed digest, whoever sends them",
        play: c6,
    },
    Row {
        id: "C7",
        attack: "fast-forward: catalog 2^63-1, last sequence and a time far ahead, by stolen keys",
        defence: "a root that replaces the keys restarts what they counted",
        play: c7,
    },
    Row {
        id: "C8",
        attack: "rejected metadata of every kind, then SIGKILL",
        defence: "nothing is remembered before every check has passed",
        play: c8,
    },
];

const DAY: u64 = 86_400;

fn c1(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab_at_rest("C1", |setup| {
        setup.more = "catalog_ttl_secs = 20\nstale_after_secs = 3\n".into();
    })?;
    let held = lab.down_topic();
    lab.broker
        .set_rule(move |message| match message.topic == held {
            true => Verdict::Drop,
            false => Verdict::Pass,
        });
    lab.device.start()?;
    suite.ready(&lab)?;
    let first = lab.first.clone();
    let ended = clock::unix_s() - 3600;
    lab.withstands("a catalog that has ended", FailureCode::Frozen, |lab| {
        lab.give(&lab.order_with(&[&first], |order| {
            order.catalog.issued_unix_s = ended - DAY;
            order.catalog.expires_unix_s = ended;
        })?)
    })?;
    *lab.forged.borrow_mut() = None;
    lab.withstands(
        "an assignment that has ended",
        FailureCode::Expired,
        |lab| {
            lab.give(&lab.order_with(&[&first], |order| {
                order.assignment.issued_unix_s = ended - DAY;
                order.assignment.expires_unix_s = ended;
            })?)
        },
    )?;
    let id = lab.device.id.clone();
    lab.server
        .wait_event("the server to mark the device as stale", SOON, |event| {
            event["kind"] == "catalog-stale" && event["device"] == id.as_str()
        })?;
    lab.recovers()
}

fn c2(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab_at_rest("C2", |_| ())?;
    let now = clock::unix_s();
    let first = lab.first.clone();
    let ended = now - 3600;
    for (name, offset) in [
        ("1970", format!("-{now}")),
        ("2099", (4_080_000_000 - now).to_string()),
    ] {
        lab.device.set_env("DROVER_CLOCK_OFFSET_SECS", &offset);
        lab.device.start()?;
        lab.device.serves_within(lab.weight, SOON)?;
        suite.ready(&lab)?;
        let what = format!("an assignment that has ended, at a clock of {name}");
        lab.withstands(&what, FailureCode::Expired, |lab| {
            // A time of long ago, signed by the fleet: it must not take the floor back.
            let past = addressed_at(&lab.keys.fleet, &lab.device.id, Down::Resync, 1_000_000)?;
            lab.broker.inject(&lab.down_topic(), past);
            let order = lab.order_with(&[&first], |order| {
                order.assignment.expires_unix_s = ended;
            })?;
            let message = order.message()?;
            let bytes = addressed_at(&lab.keys.fleet, &lab.device.id, message, 1_000_001)?;
            lab.broker.inject(&lab.down_topic(), bytes);
            Ok(())
        })?;
        lab.honest_update()?;
        lab.device.stop()?;
    }
    lab.device.start()?;
    lab.recovers()
}

fn c3(suite: &Suite) -> Result<()> {
    let away = 400 * DAY;
    let mut lab = suite.lab_at_rest("C3", |setup| {
        let offset = away.to_string();
        setup.env = vec![("DROVER_CLOCK_OFFSET_SECS".into(), offset)];
    })?;
    lab.ahead_s = away;
    lab.broker.set_deaf(true);
    lab.device.start()?;
    lab.device.serves_within(lab.weight, SOON)?;
    lab.broker.set_deaf(false);
    suite.ready(&lab)?;
    lab.honest_update()?;
    // An update whose assignment and catalog end while its last chunk is missing.
    let next = lab.publish_next()?;
    let ends = clock::unix_s() + away + 2;
    let order = lab.order_with(&[&next], |order| {
        order.assignment.issued_unix_s = ends - 5;
        order.assignment.expires_unix_s = ends;
        order.catalog.issued_unix_s = ends - 5;
        order.catalog.expires_unix_s = ends;
    })?;
    let whole = Serving::new(&lab.keys, &lab.device.id, &next)?;
    let mut lacking = whole.clone();
    if let Some(last) = lacking.chunks.last_mut() {
        *last = None;
    }
    lab.serve(lacking);
    let message = addressed_at(&lab.keys.fleet, &lab.device.id, order.message()?, ends - 2)?;
    lab.broker.inject(&lab.down_topic(), message);
    let before = lab.weight;
    hold(Duration::from_millis(3500), || {
        lab.device.serves_within(before, SOON)
    })?;
    lab.serve(whole);
    lab.commits(&next)?;
    lab.recovers()
}

fn c4(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab_at_rest("C4", |_| ())?;
    lab.device.set("update.rate_window_millis=700");
    lab.device.set("update.least_chunks_per_window=3");
    lab.device.start()?;
    lab.device.serves_within(lab.weight, SOON)?;
    suite.ready(&lab)?;
    let next = lab.publish_next()?;
    let topic = topic::bundle(&next.digest());
    lab.broker.drip(&topic, Duration::from_millis(100));
    let memory = lab.device.resident_bytes();
    let refusals = lab.refusals(FailureCode::Slow);
    lab.roll_out(&next)?;
    lab.raised(FailureCode::Slow, refusals)?;
    lab.still_serves()?;
    let grown = lab.device.resident_bytes().saturating_sub(memory);
    ensure(grown < 32 << 20, || {
        format!("the agent's memory grew by {grown} bytes under a dripping source")
    })?;
    lab.broker.stop_drip();
    lab.commits(&next)?;
    lab.recovers()
}

/// Boot and sequence of the records in a message.
fn records(message: &crate::broker::Message) -> Vec<(u64, u64)> {
    match up_of(message).map(|n| n.message) {
        Some(Up::Batch(batch)) => {
            let sequences = batch.records.iter().map(|r| r.sequence);
            sequences.map(|s| (batch.boot, s)).collect()
        }
        _ => Vec::new(),
    }
}

fn c5(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("C5")?;
    let up = topic::up(&lab.device.id);
    let mark = lab.broker.mark();
    lab.broker
        .set_rule(move |message| match message.topic == up {
            true => Verdict::Drop,
            false => Verdict::Pass,
        });
    let before = lab.weight;
    hold(Duration::from_millis(1500), || {
        lab.device.serves_within(before, SOON)
    })?;
    let dropped = lab.broker.seen(mark);
    let dropped: BTreeSet<(u64, u64)> = dropped.iter().flat_map(records).collect();
    ensure(!dropped.is_empty(), || "no report was dropped".into())?;
    let mark = lab.broker.mark();
    lab.broker.clear_rule();
    wait("every dropped report to be acknowledged", SOON * 2, || {
        let mut left = dropped.clone();
        for message in lab.broker.seen(mark) {
            if let Some(Down::Ack(ack)) = down_of(&message).map(|d| d.message) {
                left.retain(|(boot, sequence)| {
                    let covers = |r: &(u64, u64)| (r.0..=r.1).contains(sequence);
                    *boot != ack.boot || !ack.ranges.iter().any(covers)
                });
            }
        }
        Ok(match left.len() {
            0 => Look::Ready(()),
            n => Look::NotYet(format!("{n} of {} are missing", dropped.len())),
        })
    })?;
    no_broker(&mut lab)?;
    lab.recovers()
}

/// Without a broker the device infers, and tries to reconnect neither often nor evenly.
fn no_broker(lab: &mut Lab) -> Result<()> {
    lab.broker.set_deaf(true);
    lab.broker.cut(&lab.device.id);
    let before = lab.weight;
    let start = lab.broker.attempts().len();
    hold(Duration::from_millis(4000), || {
        lab.device.serves_within(before, SOON)
    })?;
    let attempts = lab.broker.attempts().split_off(start);
    lab.broker.set_deaf(false);
    // The server reconnects too; both are jittered, and neither may hammer.
    let gaps: Vec<u128> = attempts
        .iter()
        .zip(attempts.iter().skip(1))
        .map(|(a, b)| b.duration_since(*a).as_millis())
        .collect();
    ensure((5..120).contains(&gaps.len()), || {
        format!("{} attempts to reconnect in 4 s", gaps.len() + 1)
    })?;
    let late = gaps.get(4..).unwrap_or_default();
    let (least, most) = (late.iter().min(), late.iter().max());
    let spread = most.zip(least).map_or(0, |(most, least)| most - least);
    ensure(spread >= 60, || {
        format!("attempts to reconnect come evenly, every {gaps:?} ms")
    })
}

fn c6(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("C6")?;
    let next = lab.publish_next()?;
    let topic = topic::bundle(&next.digest());
    let refusals = lab.refusals(FailureCode::Mismatch);
    lab.broker.set_rule(move |message| {
        if message.topic != topic {
            return Verdict::Pass;
        }
        let Some(chunk) = Chunk::decode(&message.payload) else {
            return Verdict::Pass;
        };
        let mut bytes = chunk.bytes.to_vec();
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 0x80;
        }
        let wrong = Chunk {
            index: chunk.index,
            bytes: &bytes,
        };
        let send = |payload| (message.topic.clone(), payload);
        Verdict::Instead(vec![send(wrong.encode()), send(message.payload.clone())])
    });
    lab.roll_out(&next)?;
    lab.raised(FailureCode::Mismatch, refusals)?;
    lab.commits(&next)?;
    lab.recovers()
}

fn c7(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("C7")?;
    let first = lab.first.clone();
    // Still under the root; beyond its end even the attacker's orders are stale.
    let far = clock::unix_s() + 5 * 365 * DAY;
    let order = lab.order_with(&[&first], |order| {
        order.assignment.sequence = u64::MAX - 1;
        order.assignment.expires_unix_s = far + DAY;
        order.catalog.version = (1 << 63) - 1;
        order.catalog.issued_unix_s = far;
        order.catalog.expires_unix_s = far + DAY;
    })?;
    let message = addressed_at(&lab.keys.fleet, &lab.device.id, order.message()?, far)?;
    lab.broker.inject(&lab.down_topic(), message);
    lab.device
        .wait_status("the highest sequence", SOON, |status| {
            let sequence = status.pointer("/fleet/assignment")?.as_u64()?;
            (sequence == u64::MAX - 1).then_some(())
        })?;
    lab.still_serves()?;
    lab.rotate_online_keys()?;
    lab.follows_root(2)?;
    lab.recovers()?;
    // A time beyond every certificate: the broker's own is refused from then on. The way back
    // is the root that the device gets with its next certificate, over HTTP.
    let now = lab.order(&[])?.message()?;
    let message = addressed_at(&lab.keys.fleet, &lab.device.id, now, 1 << 40)?;
    lab.broker.inject(&lab.down_topic(), message);
    lab.broker.clear_rule();
    lab.broker.cut(&lab.device.id);
    lab.still_serves()?;
    lab.rotate_online_keys()?;
    lab.follows_root(3)?;
    lab.recovers()
}

fn c8(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("C8")?;
    let keys = lab.keys.clone();
    let first = lab.first.clone();
    let other = crate::keys::draw()?;
    let now = clock::unix_s();
    let order = |lab: &Lab| {
        // Far ahead, so that whatever were remembered of it would be seen.
        lab.order_with(&[&first], |order| {
            order.assignment.sequence += 1_000;
            order.catalog.version += 1_000;
        })
    };
    let rejected: [(&str, FailureCode, Down); 6] = [
        (
            "an assignment by an unknown key",
            FailureCode::SignatureInvalid,
            {
                let mut order = order(&lab)?;
                order.fleet = other.clone();
                order.message()?
            },
        ),
        (
            "a catalog by the fleet key",
            FailureCode::SignatureInvalid,
            {
                let mut order = order(&lab)?;
                order.catalog_key = keys.fleet.clone();
                order.message()?
            },
        ),
        (
            "an expired assignment with a good catalog",
            FailureCode::Expired,
            {
                let mut order = order(&lab)?;
                order.assignment.expires_unix_s = now - 3600;
                order.message()?
            },
        ),
        (
            "an expired catalog with a good assignment",
            FailureCode::Frozen,
            {
                let mut order = order(&lab)?;
                order.catalog.expires_unix_s = now - 3600;
                order.message()?
            },
        ),
        (
            "an assignment of an unknown format",
            FailureCode::Incompatible,
            {
                let order = order(&lab)?;
                let mut payload = order.assignment.encode()?;
                if let Some(version) = payload.first_mut() {
                    *version = 99;
                }
                let signed = Envelope::signed(payload, Domain::Assignment, &keys.fleet);
                Down::Desired {
                    assignment: signed.encode()?,
                    catalog: order.signed_catalog()?,
                }
            },
        ),
        (
            "bytes that are no assignment",
            FailureCode::SignatureInvalid,
            {
                Down::Desired {
                    assignment: vec![0xff; 300],
                    catalog: order(&lab)?.signed_catalog()?,
                }
            },
        ),
    ];
    *lab.forged.borrow_mut() = None;
    let before = lab.device.stored()?;
    for (what, code, message) in rejected {
        lab.withstands(what, code, |lab| lab.say(message))?;
    }
    lab.withstands("noise in place of roots", FailureCode::RootInvalid, |lab| {
        lab.broker
            .inject(&topic::roots(&lab.device.id), vec![0xee; 5000]);
        Ok(())
    })?;
    lab.device.kill()?;
    before.check_same(&lab.device.stored()?)?;
    lab.device.start()?;
    lab.recovers()
}
