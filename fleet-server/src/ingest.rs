//! Messages from devices: verified, stored, answered, in this order.
//!
//! Messages that wait together are handled together, and all their records are one
//! transaction. An acknowledgement leaves only after that transaction is on disk; a power cut
//! before leaves the records with the device, which sends them again.

pub(crate) mod describe;
mod numbers;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use drover_api::Severity;
use drover_rollout::Report;
use drover_trust::{DeviceId, Domain, Envelope};
use drover_wire::message::{Ack, Batch, Down, Hello, Numbered, Phase, State, TrustReport, Up};
use drover_wire::topic;
use tokio::sync::mpsc;

use crate::dispatch::RESEND_AFTER;
use crate::ingest::numbers::{Register, Verdict, judge};
use crate::link::Incoming;
use crate::rate::Rate;
use crate::rollout::{progress_of, status_of};
use crate::state::Core;
use crate::store::{Counted, NewEvent, StoredState, Upload};
use crate::{ServerError, certificate, clock, confidential};

/// Messages that are handled together at most.
const GROUP: usize = 64;
/// How exact the time is at which a device was last seen.
const SEEN_EVERY: Duration = Duration::from_secs(2);

/// Replays of one device in an hour that are worth an event.
const REPLAY_EVENTS: u32 = 3;

/// What is remembered between messages.
struct Memory {
    register: Register,
    replays: Rate,
}

/// Handles messages until the link is gone.
pub(crate) async fn run(core: Arc<Core>, mut incoming: mpsc::Receiver<Incoming>) {
    let mut group = Vec::with_capacity(GROUP);
    let mut memory = Memory {
        register: Register::default(),
        replays: Rate::new(REPLAY_EVENTS, Duration::from_secs(3600)),
    };
    while incoming.recv_many(&mut group, GROUP).await > 0 {
        if let Err(error) = handle(&core, &mut memory, std::mem::take(&mut group)).await {
            // Nothing was acknowledged, so devices will repeat what matters.
            tracing::error!(%error, cause = ?std::error::Error::source(&error),
                "messages of devices could not be handled");
        }
    }
}

async fn handle(core: &Core, memory: &mut Memory, group: Vec<Incoming>) -> Result<(), ServerError> {
    let mut messages = Vec::with_capacity(group.len());
    let mut counted = Vec::new();
    for incoming in group {
        let Some((device, numbered, numbering)) = verify(core, &incoming).await? else {
            continue;
        };
        if !count(core, memory, &device, &numbered, numbering).await? {
            continue;
        }
        // What a replay of the rest could do after a restart, a device could ask for itself.
        if matches!(numbered.message, Up::Hello(_) | Up::State(_) | Up::Trust(_)) {
            counted.push(Counted {
                device: device.to_string(),
                instance: numbered.instance,
                boot: numbered.boot,
                counter: numbered.counter,
            });
        }
        messages.push((device, numbered.message));
    }
    if !counted.is_empty() {
        core.store.counted(&counted).await?;
    }
    note_seen(core, messages.iter().map(|(device, _)| device)).await?;
    let mut batches = Vec::new();
    for (device, message) in messages {
        match message {
            Up::Batch(batch) => batches.push((device, batch)),
            Up::Trust(report) => on_trust(core, &device, &report).await?,
            Up::Hello(hello) => on_hello(core, &device, &hello).await?,
            Up::State(state) => on_state(core, &device, &state).await?,
            Up::WantManifest { digest } => on_want_manifest(core, &device, digest).await?,
            Up::WantChunks { digest, missing } => match core.store.release(&digest).await? {
                Some(release) => core.publishers.request(core, &release, &device, &missing),
                None => drop(core.send(&device, Down::Unknown { digest }).await?),
            },
        }
    }
    store(core, batches).await
}

/// Notes that devices were heard, each at most once in [`SEEN_EVERY`].
async fn note_seen<'a>(
    core: &Core,
    devices: impl Iterator<Item = &'a DeviceId>,
) -> Result<(), ServerError> {
    let now = clock::monotonic();
    let due: Vec<&str> = {
        let mut seen = core.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let due = devices.map(DeviceId::as_str).filter(|device| {
            let last = seen.get(*device).copied();
            let due = last.is_none_or(|at| now.duration_since(at) >= SEEN_EVERY);
            if due {
                seen.insert((*device).to_owned(), now);
            }
            due
        });
        due.collect()
    };
    if due.is_empty() {
        return Ok(());
    }
    core.store.seen(&due, clock::unix_ms()).await
}

/// Whether a message is new. A replay is dropped; a clone gets its identity quarantined.
async fn count(
    core: &Core,
    memory: &mut Memory,
    device: &DeviceId,
    message: &Numbered,
    numbering: i64,
) -> Result<bool, ServerError> {
    let id = device.as_str();
    let register = &mut memory.register;
    let numbers = match register.get(id, numbering) {
        Some(numbers) => numbers,
        None => register.put(id, core.store.numbers(id).await?),
    };
    match judge(numbers, message) {
        Verdict::New => return Ok(true),
        Verdict::Late => {}
        Verdict::Replay => {
            core.metrics.replays.add(1);
            if memory.replays.allows(id) {
                let detail = format!(
                    "a message was played again (boot {}, number {}) and dropped",
                    message.boot, message.counter
                );
                let event = NewEvent::of(id, Severity::Security, "report-replayed", detail);
                core.store.add_event(&event).await?;
            }
        }
        Verdict::Clone => {
            let reason = "two machines use its key: one agent came back after another had \
                          spoken; find out which is the device, then approve it again";
            certificate::quarantine(core, id, "identity-cloned", reason).await?;
        }
    }
    Ok(false)
}

/// The message, its sender, and which numbering the sender uses, if the sender's own key
/// signed it.
async fn verify(
    core: &Core,
    incoming: &Incoming,
) -> Result<Option<(DeviceId, Numbered, i64)>, ServerError> {
    let device = topic::device_of_up(&incoming.topic).and_then(|d| DeviceId::parse(d).ok());
    let Some(device) = device else {
        core.metrics.up_refused.add(1);
        return Ok(None);
    };
    let Some(known) = core.store.device_key(device.as_str()).await? else {
        core.metrics.up_refused.add(1);
        tracing::warn!(%device, "message from a device that is not enrolled");
        return Ok(None);
    };
    if !known.approved {
        core.metrics.up_refused.add(1);
        return Ok(None);
    }
    let message = Envelope::decode(&incoming.payload).and_then(|envelope| {
        let payload = envelope.verify_by(Domain::Up, &known.public_key)?;
        Ok(Numbered::decode(payload))
    });
    let (severity, detail) = match message {
        Ok(Ok(message)) if message.device == device.as_str() => {
            return Ok(Some((device, message, known.numbering)));
        }
        Ok(Ok(_)) => (Severity::Security, "it names another device".to_owned()),
        Ok(Err(error)) => (Severity::Warning, error.to_string()),
        Err(error) => (Severity::Security, error.to_string()),
    };
    core.metrics.up_refused.add(1);
    tracing::warn!(%device, detail, "message refused");
    let event = NewEvent::of(device.as_str(), severity, "message-refused", detail);
    core.store.add_event(&event).await?;
    Ok(None)
}

async fn store(core: &Core, batches: Vec<(DeviceId, Batch)>) -> Result<(), ServerError> {
    if batches.is_empty() {
        return Ok(());
    }
    let mut uploads = Vec::with_capacity(batches.len());
    let mut acks = Vec::with_capacity(batches.len());
    for (device, batch) in batches {
        let sequences = batch.records.iter().map(|r| r.sequence);
        let ack = Ack::of(batch.boot, sequences);
        uploads.push(Upload {
            device: device.to_string(),
            batch,
        });
        acks.push((device, ack));
    }
    let done = core.store.ingest(&uploads).await?;
    core.metrics.records.add(done.stored);
    core.metrics.duplicates.add(done.duplicates);
    for (device, ack) in acks {
        core.send(&device, Down::Ack(ack)).await?;
    }
    Ok(())
}

async fn on_hello(core: &Core, device: &DeviceId, hello: &Hello) -> Result<(), ServerError> {
    if !core.store.hello(device.as_str(), hello).await? {
        tracing::info!(%device, boot = hello.boot, "late hello of an earlier start ignored");
        return Ok(());
    }
    core.publishers.forget(device);
    core.replan.notify_one();
    if let Some(voucher) = core.store.voucher(device.as_str()).await? {
        core.send(device, Down::Transfer { voucher }).await?;
        return Ok(());
    }
    core.reconcile(device, hello.assignment, None, true).await
}

/// Takes up what a device trusts: it follows the root first, and gets a fresh catalog when its
/// own grows old.
async fn on_trust(core: &Core, device: &DeviceId, report: &TrustReport) -> Result<(), ServerError> {
    let before = core.store.trust(device.as_str()).await?;
    let trust = describe::trust(report);
    core.store.set_trust(device.as_str(), &trust).await?;
    if let Some(detail) = describe::attacks(before.as_ref(), &trust) {
        let event = NewEvent::of(
            device.as_str(),
            Severity::Security,
            "attack-indicator",
            detail,
        );
        core.store.add_event(&event).await?;
    }
    {
        let mut trusted = core.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.insert(device.to_string(), report.root_version);
    }
    if let Some(version) = core.root_behind(device).await? {
        core.send_roots(device, version).await;
        return Ok(());
    }
    let newest = core.identity.root().root().version;
    if report.root_version > newest {
        let detail = format!(
            "the device trusts root {}, the newest here is {newest}: publish the newer roots \
             (`drover root publish`)",
            report.root_version
        );
        let event = NewEvent::of(device.as_str(), Severity::Warning, "root-ahead", detail);
        core.store.add_event(&event).await?;
    }
    let half = core.config.catalog_ttl_secs / 2;
    if report.catalog_version > 0 && report.catalog_unix_s < clock::unix_s().saturating_sub(half) {
        core.refresh(device, RESEND_AFTER).await?;
    }
    Ok(())
}

async fn on_state(core: &Core, device: &DeviceId, state: &State) -> Result<(), ServerError> {
    let stored = StoredState {
        active: state.active.as_ref().map(describe::running),
        phase: describe::phase(&state.phase),
    };
    core.store
        .set_state(device.as_str(), state.assignment, &stored)
        .await?;
    for (digest, report) in reports(state) {
        let members = core
            .store
            .memberships(device.as_str(), &digest, state.assignment)
            .await?;
        for (rollout, status) in members {
            if let Some(next) = progress_of(&status).on_report(report) {
                let next = status_of(&next, &stored.phase);
                core.store
                    .set_status(rollout, device.as_str(), &next)
                    .await?;
                core.replan.notify_one();
            }
        }
    }
    core.reconcile(device, state.assignment, Some(&state.phase), false)
        .await
}

/// What a state says about which bundles.
fn reports(state: &State) -> Vec<([u8; 32], Report)> {
    let mut reports = Vec::new();
    let active = state.active.as_ref().map(|a| a.digest);
    match &state.phase {
        Phase::Idle => reports.extend(active.map(|digest| (digest, Report::Committed))),
        &Phase::Fetching {
            digest,
            have,
            total,
        } => reports.push((digest, Report::Fetching { have, total })),
        Phase::Staged { digest } => reports.push((*digest, Report::Staged)),
        Phase::Trial { digest } => reports.push((*digest, Report::Trial)),
        Phase::Committed { digest } => reports.push((*digest, Report::Committed)),
        Phase::Failed { digest, .. } => reports.push((*digest, Report::Failed)),
    }
    reports
}

async fn on_want_manifest(
    core: &Core,
    device: &DeviceId,
    digest: [u8; 32],
) -> Result<(), ServerError> {
    let message = match core.store.release(&digest).await? {
        Some(release)
            if release.summary.confidential
                && !confidential::send_key(core, device, digest).await? =>
        {
            Down::Unknown { digest }
        }
        Some(release) => Down::Manifest {
            digest,
            envelope: release.envelope,
        },
        None => Down::Unknown { digest },
    };
    core.send(device, message).await?;
    Ok(())
}
