//! One row's world: a server and a device that have run honestly until now, and an attacker
//! between them who owns the broker. And the checks after each attack.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use drover_trust::{Catalog, Envelope, TrustedRoot};
use drover_wire::message::{Body, Down, Event, FailureCode, RootChain, Up};
use drover_wire::topic;
use serde_json::Value;

use crate::artifact::{Artifact, EVIL, Recipe};
use crate::attacker::{Order, Serving, addressed, catalog_of, down_of, up_of};
use crate::broker::Broker;
use crate::clock::{self, Look, hold, wait};
use crate::device::Device;
use crate::error::{Result, ensure, fail};
use crate::keys::Keys;
use crate::server::Server;

/// Longest wait for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(12);
/// A device that has not told by then is made to connect again.
const NUDGE: Duration = Duration::from_millis(2000);
/// How long nothing must happen for it to count as refused.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

/// See the module.
pub(crate) struct Lab {
    pub(crate) folder: PathBuf,
    pub(crate) agent: PathBuf,
    pub(crate) keys: Keys,
    /// The root that the fleet began with.
    pub(crate) first_root: Envelope,
    pub(crate) root_version: u64,
    pub(crate) broker: Broker,
    pub(crate) server: Server,
    pub(crate) device: Device,
    /// The model that the device ran at first.
    pub(crate) first: Artifact,
    /// The newest catalog that the server has signed.
    pub(crate) catalog: Catalog,
    /// Weight of the model that the device runs.
    pub(crate) weight: f32,
    /// Counter of the next honest release.
    pub(crate) next_counter: u64,
    /// How far the server's clock is ahead of the suite's, in seconds.
    pub(crate) ahead_s: u64,
    /// Security epoch of honest releases.
    pub(crate) epoch: u64,
    /// The highest sequence that the attacker has used.
    pub(crate) ordered: Cell<u64>,
    /// The newest catalog that the attacker has signed.
    pub(crate) forged: RefCell<Option<Catalog>>,
}

impl Lab {
    /// The device's topic for messages from the server.
    pub(crate) fn down_topic(&self) -> String {
        topic::down(&self.device.id)
    }

    /// An honest release, signed by both release keys and published.
    pub(crate) fn publish_next(&mut self) -> Result<Artifact> {
        let mut recipe = Recipe::honest(self.next_counter);
        recipe.epoch = self.epoch;
        self.publish(recipe)
    }

    /// A release made of this recipe, signed by both release keys and published.
    pub(crate) fn publish(&mut self, recipe: Recipe) -> Result<Artifact> {
        let artifact = recipe.make()?.signed(&self.keys.release_signers());
        self.next_counter = self.next_counter.max(artifact.manifest.counter) + 1;
        self.server.publish(&artifact)?;
        Ok(artifact)
    }

    /// The operator rolls a published bundle out to the device, and is heard.
    ///
    /// Sequences that an attacker has used up first have to come to the server's ears: it
    /// counts on above what a device says hello with.
    pub(crate) fn roll_out(&self, artifact: &Artifact) -> Result<()> {
        self.broker.jam(None);
        let accepted = self.sequence()?;
        let wanted = self.server.device(&self.device.id)?;
        let wanted = wanted.get("assignment_wanted").and_then(Value::as_u64);
        if wanted.is_some_and(|wanted| accepted > wanted) {
            self.broker.cut(&self.device.id);
            wait("the server to count on above the attacker", SOON, || {
                let now = self.sequence()?;
                Ok(if now > accepted {
                    Look::Ready(())
                } else {
                    Look::NotYet(format!("sequence {now}"))
                })
            })?;
        }
        self.server.roll_out(artifact, &self.device.id).map(drop)
    }

    /// An instruction of the attacker, who has the fleet and the catalog key.
    pub(crate) fn order(&self, artifacts: &[&Artifact]) -> Result<Order> {
        self.order_with(artifacts, |_| ())
    }

    /// The same, with changes; from now on the server does not get through to the device,
    /// until it is let again. A catalog that is changed gets a version of its own.
    pub(crate) fn order_with(
        &self,
        artifacts: &[&Artifact],
        change: impl FnOnce(&mut Order),
    ) -> Result<Order> {
        self.broker.jam(Some(self.down_topic()));
        // The status may be a moment behind what was accepted.
        let sequence = self.sequence()?.max(self.ordered.get()) + 1;
        self.ordered.set(sequence);
        let base = self.newest_catalog()?;
        let mut order = Order::new(&self.keys, &self.device.id, sequence, &base, artifacts)?;
        let before = order.catalog.clone();
        change(&mut order);
        if order.catalog != before && order.catalog.version == before.version {
            order.catalog.version += 1;
        }
        *self.forged.borrow_mut() = Some(order.catalog.clone());
        Ok(order)
    }

    /// The highest sequence that the device has accepted.
    pub(crate) fn sequence(&self) -> Result<u64> {
        let status = self.device.status()?;
        let sequence = status.pointer("/fleet/assignment").and_then(Value::as_u64);
        sequence.map_or_else(|| fail(format!("no sequence in the status: {status}")), Ok)
    }

    /// The newest catalog: on the wire, of the attacker, or of the time before the row.
    pub(crate) fn newest_catalog(&self) -> Result<Catalog> {
        let seen = self.broker.seen(0);
        let newest = seen.iter().rev().find_map(|m| match down_of(m)?.message {
            Down::Desired { catalog, .. } => Some(catalog),
            _ => None,
        });
        let honest = newest.map_or_else(|| Ok(self.catalog.clone()), |bytes| catalog_of(&bytes));
        let honest = honest?;
        let forged = self.forged.borrow().clone();
        Ok(forged
            .filter(|f| f.version > honest.version)
            .unwrap_or(honest))
    }

    /// Sends a message with the stolen fleet key.
    pub(crate) fn say(&self, message: Down) -> Result<()> {
        let bytes = addressed(&self.keys.fleet, &self.device.id, message)?;
        self.broker.inject(&self.down_topic(), bytes);
        Ok(())
    }

    /// Sends an instruction.
    pub(crate) fn give(&self, order: &Order) -> Result<()> {
        self.say(order.message()?)
    }

    /// Answers requests for a bundle in the server's place.
    pub(crate) fn serve(&self, serving: Serving) {
        self.broker.set_rule(move |message| serving.answer(message));
    }

    /// Sends roots to the device.
    pub(crate) fn offer_roots(&self, roots: &[&Envelope]) -> Result<()> {
        let encoded: std::result::Result<Vec<_>, _> = roots.iter().map(|r| r.encode()).collect();
        let chain = RootChain { roots: encoded? }.encode()?;
        self.broker.inject(&topic::roots(&self.device.id), chain);
        Ok(())
    }

    /// Times that the device has counted a refusal for this reason, as far as it has told.
    pub(crate) fn refusals(&self, code: FailureCode) -> u64 {
        let mut told = 0u64;
        // By boot and sequence: batches are sent again until they are acknowledged.
        let mut events = BTreeSet::new();
        for message in self.broker.seen(0) {
            let Some(numbered) = up_of(&message).filter(|n| n.device == self.device.id) else {
                continue;
            };
            match numbered.message {
                Up::Trust(report) => {
                    let count = report.refused.iter().find(|(c, _)| *c == code);
                    told = told.max(count.map_or(0, |(_, n)| u64::from(*n)));
                }
                Up::Batch(batch) => {
                    let refused = |body: &Body| matches!(body, Body::Event(Event::Refused { code: c, .. }) if *c == code);
                    let records = batch.records.iter().filter(|r| refused(&r.body));
                    events.extend(records.map(|r| (batch.boot, r.sequence)));
                }
                _ => {}
            }
        }
        told.max(events.len() as u64)
    }

    /// Waits until the device has told of a refusal for this reason beyond `before`, that is,
    /// until the named security event was raised.
    pub(crate) fn raised(&self, code: FailureCode, before: u64) -> Result<()> {
        let what = format!("the security event {}", code.name());
        let mut nudged = clock::monotonic();
        wait(&what, SOON, || {
            let now = self.refusals(code);
            if now > before {
                return Ok(Look::Ready(()));
            }
            // A device under many attacks tells of few, and of all that it counted when it
            // connects again.
            if nudged.elapsed() > NUDGE {
                nudged = clock::monotonic();
                self.broker.cut(&self.device.id);
            }
            let story = self.device.story();
            Ok(Look::NotYet(format!(
                "{now} of them; the device says: {story}"
            )))
        })
    }

    /// One attack on the device: plays it, waits for the named event, and sees that the model
    /// still serves and that the disk holds byte for byte what it held.
    pub(crate) fn withstands(
        &mut self,
        attack: &str,
        code: FailureCode,
        play: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let result = self.withstand(code, play, true);
        result.or_else(|error| fail(format!("{attack}: {}", crate::error::chain(&error))))
    }

    /// As [`Self::withstands`], after an instruction that was rightly accepted: the durable
    /// state tells of it, bundles and chunks are byte for byte what they were.
    pub(crate) fn withstands_after_order(
        &mut self,
        attack: &str,
        code: FailureCode,
        play: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let result = self.withstand(code, play, false);
        result.or_else(|error| fail(format!("{attack}: {}", crate::error::chain(&error))))
    }

    fn withstand(
        &mut self,
        code: FailureCode,
        play: impl FnOnce(&mut Self) -> Result<()>,
        state_stays: bool,
    ) -> Result<()> {
        let before = self.device.stored()?;
        let refusals = self.refusals(code);
        play(self)?;
        self.raised(code, refusals)?;
        self.still_serves()?;
        if state_stays {
            return before.check_same(&self.device.stored()?);
        }
        // What was fetched of a refused bundle is removed after the event is on its way.
        wait("the remains of the refused bundle to go", SOON, || {
            let same = before.check_same_bundles(&self.device.stored()?);
            Ok(match same {
                Ok(()) => Look::Ready(()),
                Err(error) => Look::NotYet(error.to_string()),
            })
        })
    }

    /// The device runs what it ran before, and the attacker's model never answered.
    pub(crate) fn still_serves(&mut self) -> Result<()> {
        self.device.serves_within(self.weight, SOON)?;
        let answered = self.device.answered();
        ensure(!answered.contains(&EVIL), || {
            format!("the attacker's model has answered; weights were {answered:?}")
        })
    }

    /// Whatever answered since the start of the agent, it was not the attacker's model.
    pub(crate) fn still_serves_or_nothing(&mut self) -> Result<()> {
        hold(QUIET * 2, || {
            let answered = self.device.answered();
            ensure(!answered.contains(&EVIL), || {
                format!("the attacker's model has answered; weights were {answered:?}")
            })
        })
    }

    /// The end of a row: with the attacker gone the device still serves, and takes the next
    /// honest update.
    pub(crate) fn recovers(&mut self) -> Result<()> {
        self.broker.clear_rule();
        self.broker.stop_drip();
        self.broker.set_deaf(false);
        self.still_serves()?;
        self.honest_update()
    }

    /// The next honest release reaches the device and is committed.
    pub(crate) fn honest_update(&mut self) -> Result<()> {
        // Catalog versions are seconds; the attacker may have been a few ahead.
        wait("a second in which no catalog was made", SOON, || {
            let seen = self.newest_catalog()?.version;
            let now = clock::unix_s() + self.ahead_s;
            Ok(if now > seen {
                Look::Ready(())
            } else {
                Look::NotYet(format!("{now} after {seen}"))
            })
        })?;
        let artifact = self.publish_next()?;
        self.roll_out(&artifact)?;
        self.commits(&artifact)
    }

    /// Waits until a bundle that was rolled out runs for good.
    pub(crate) fn commits(&mut self, artifact: &Artifact) -> Result<()> {
        let mut nudged = clock::monotonic();
        let id = self.device.id.clone();
        let broker = self.broker.clone();
        let committed = self
            .device
            .wait_status("the next honest update", SOON * 2, |status| {
                // A device whose sequence an attacker has pushed is heard at its next hello.
                if nudged.elapsed() > NUDGE {
                    nudged = clock::monotonic();
                    broker.cut(&id);
                }
                let digest = status.pointer("/active/digest")?.as_str()?;
                let update = status.pointer("/fleet/update")?.as_str()?;
                let is_it = digest == data_encoding::HEXLOWER.encode(&artifact.digest());
                (is_it && update == "committed").then_some(())
            });
        committed.or_else(|error| {
            let text = crate::error::chain(&error);
            fail(format!("{text}; the device says: {}", self.device.log()))
        })?;
        self.weight = artifact.weight;
        self.still_serves()
    }

    /// The operators replace both online keys, as they do after a theft: a new root, signed by
    /// the offline root keys, and a server that has the new keys.
    pub(crate) fn rotate_online_keys(&mut self) -> Result<()> {
        let next = self.keys.with_new_online_keys()?;
        let root = self.keys.successor(self.root_version, &next)?;
        self.take_up(next, root)
    }

    /// The server is given the next root and the keys that it names.
    pub(crate) fn take_up(&mut self, next: Keys, root: Envelope) -> Result<()> {
        self.server.stop()?;
        self.server.setup().hand_over(&next, &root)?;
        self.server.restart(|_| ())?;
        let ids = |keys: &Keys| (keys.fleet.public().id(), keys.catalog.public().id());
        if ids(&self.keys) != ids(&next) {
            *self.forged.borrow_mut() = None;
            self.ordered.set(0);
        }
        self.keys = next;
        self.root_version = TrustedRoot::self_signed(root)?.root().version;
        Ok(())
    }

    /// Waits until the device tells that it trusts this root.
    pub(crate) fn follows_root(&mut self, version: u64) -> Result<()> {
        let id = self.device.id.clone();
        let what = format!("the device to trust root {version}");
        self.broker.wait_for(&what, SOON, 0, |message| {
            let numbered = up_of(message).filter(|n| n.device == id)?;
            match numbered.message {
                Up::Trust(report) if report.root_version == version => Some(()),
                _ => None,
            }
        })
    }
}
