//! B: what was good once, and is not any more.

use std::time::Duration;

use drover_trust::{Domain, Envelope};
use drover_wire::message::{Down, FailureCode};

use super::Row;
use crate::artifact::Recipe;
use crate::attacker::{Serving, down_of};
use crate::clock::hold;
use crate::error::{Result, ensure, fail, io};
use crate::lab::{Lab, SOON};
use crate::suite::Suite;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "B1",
        attack: "older catalogs and assignments, catalogs that forget releases; kill -9 meanwhile",
        defence: "versions only grow and are on the disk before they count; listed stays listed",
        play: b1,
    },
    Row {
        id: "B2",
        attack: "an order to go back to an older release, signed by fleet and release keys",
        defence: "counters below what was committed are refused; a re-signed higher one passes",
        play: b2,
    },
    Row {
        id: "B3",
        attack: "damage that makes the device fall back to a bundle from before a security fix",
        defence: "the fall-back obeys the epoch floor; without a bundle nothing runs (safe mode)",
        play: b3,
    },
];

/// The newest instruction that the server sent, as the attacker recorded it.
fn recorded(lab: &Lab) -> Result<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let seen = lab.broker.seen(0);
    let found = seen.iter().rev().find_map(|m| match down_of(m)?.message {
        Down::Desired {
            assignment,
            catalog,
        } => Some((m.payload.clone(), assignment, catalog)),
        _ => None,
    });
    found.map_or_else(|| fail("the server has sent no instruction"), Ok)
}

fn b1(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("B1")?;
    lab.honest_update()?;
    let (whole, assignment, catalog) = recorded(&lab)?;
    lab.honest_update()?;
    let (_, _, newest) = recorded(&lab)?;
    lab.withstands(
        "an older instruction as a whole",
        FailureCode::Rollback,
        |lab| {
            lab.broker.inject(&lab.down_topic(), whole);
            Ok(())
        },
    )?;
    lab.withstands(
        "an older assignment with the newest catalog",
        FailureCode::Rollback,
        |lab| {
            lab.say(Down::Desired {
                assignment,
                catalog: newest,
            })
        },
    )?;
    let first = lab.first.clone();
    lab.withstands(
        "a new assignment with an older catalog",
        FailureCode::Rollback,
        |lab| {
            let mut order = lab.order(&[&first])?;
            order.assignment.bundles.clear();
            order.assignment.catalog_version = 0;
            let payload = order.assignment.encode()?;
            let assignment =
                Envelope::signed(payload, Domain::Assignment, &lab.keys.fleet).encode()?;
            lab.say(Down::Desired {
                assignment,
                catalog,
            })
        },
    )?;
    lab.withstands(
        "a catalog that forgets releases",
        FailureCode::Rollback,
        |lab| {
            let order = lab.order_with(&[], |order| order.catalog.releases.clear())?;
            *lab.forged.borrow_mut() = None;
            lab.give(&order)
        },
    )?;
    cut_off(&mut lab)?;
    lab.recovers()
}

/// SIGKILL at random moments of an update: what was accepted stays accepted.
fn cut_off(lab: &mut Lab) -> Result<()> {
    let artifact = lab.publish_next()?;
    lab.roll_out(&artifact)?;
    let mut highest = lab.sequence()?;
    for _ in 0..4 {
        let [pause] = crate::keys::random::<1>()?;
        let until = Duration::from_millis(u64::from(pause));
        // Looks at the sequence until the moment comes; it may not answer yet.
        hold(until, || {
            highest = lab.sequence().unwrap_or(highest).max(highest);
            Ok(())
        })?;
        lab.device.kill()?;
        lab.device.start()?;
        let now = lab.sequence()?;
        ensure(now >= highest, || {
            format!("sequence {highest} was accepted, after SIGKILL it is {now}")
        })?;
    }
    // An agent that died twice while it tried a bundle gives it up, as it should.
    let digest = data_encoding::HEXLOWER.encode(&artifact.digest());
    let committed =
        lab.device
            .wait_status("the end of an update under SIGKILL", SOON * 2, |status| {
                let update = status.pointer("/fleet/update")?.as_str()?;
                let active = status.pointer("/active/digest")?.as_str()?;
                match update {
                    "committed" if active == digest => Some(true),
                    update if update.starts_with("failed at trial: the agent stopped") => {
                        Some(false)
                    }
                    _ => None,
                }
            })?;
    if committed {
        lab.weight = artifact.weight;
    }
    lab.still_serves()
}

fn b2(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("B2")?;
    lab.honest_update()?;
    let first = lab.first.clone();
    lab.serve(Serving::new(&lab.keys, &lab.device.id, &first)?);
    lab.withstands_after_order(
        "an order for the first release",
        FailureCode::Rollback,
        |lab| lab.give(&lab.order(&[&first])?),
    )?;
    lab.broker.clear_rule();
    // Going back is a decision of the release keys: the old model under a new counter.
    let mut recipe = Recipe::honest(lab.next_counter);
    recipe.weight = first.weight;
    let again = lab.publish(recipe)?;
    lab.roll_out(&again)?;
    lab.commits(&again)?;
    lab.recovers()
}

/// Damages what the device runs, on its disk, and starts it without a network.
fn damaged_and_alone(lab: &mut Lab, digest: [u8; 32]) -> Result<()> {
    lab.device.stop()?;
    let name = data_encoding::HEXLOWER.encode(&digest);
    let mut damaged = 0;
    for folder in [lab.device.data().join("bundles").join(name)] {
        let entries = io(
            || format!("read {}", folder.display()),
            std::fs::read_dir(&folder),
        )?;
        for entry in entries.flatten() {
            let path = entry.path();
            let mut bytes = io(|| format!("read {}", path.display()), std::fs::read(&path))?;
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 1;
            }
            crate::server::write(&path, &bytes)?;
            damaged += 1;
        }
    }
    ensure(damaged > 0, || "the bundle has no files to damage".into())?;
    lab.broker.set_deaf(true);
    lab.device.start()
}

fn b3(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("B3")?;
    let second = lab.publish_next()?;
    lab.roll_out(&second)?;
    lab.commits(&second)?;
    // Of one epoch: falling back for its health is the device's own business.
    damaged_and_alone(&mut lab, second.digest())?;
    lab.device.serves_within(lab.first.weight, SOON)?;
    lab.broker.set_deaf(false);
    lab.device.serves_within(second.weight, SOON * 2)?;
    // A security release: what ran before must never run again.
    let mut recipe = Recipe::honest(lab.next_counter);
    recipe.epoch = 1;
    let fixed = lab.publish(recipe)?;
    lab.roll_out(&fixed)?;
    lab.commits(&fixed)?;
    damaged_and_alone(&mut lab, fixed.digest())?;
    hold(Duration::from_millis(1500), || {
        let answered = lab.device.answered();
        ensure(answered.is_empty(), || {
            format!("a model from before the fix ran again; weights were {answered:?}")
        })
    })?;
    lab.broker.set_deaf(false);
    lab.device.serves_within(fixed.weight, SOON * 2)?;
    // Nor is it taken as an instruction.
    lab.withstands_after_order(
        "an order for the epoch before",
        FailureCode::Rollback,
        |lab| {
            let mut recipe = Recipe::honest(lab.next_counter);
            recipe.weight = crate::artifact::EVIL;
            lab.next_counter += 1;
            let old_epoch = recipe.make()?.signed(&lab.keys.release_signers());
            lab.serve(Serving::new(&lab.keys, &lab.device.id, &old_epoch)?);
            lab.give(&lab.order(&[&old_epoch])?)
        },
    )?;
    // From here on honest releases have the new epoch, too.
    lab.epoch = 1;
    lab.recovers()
}
