//! Devices that are given to another fleet, and roots that follow the newest.
//!
//! The server holds no key that could make either: vouchers and roots are signed elsewhere by
//! people, verified here before anything is stored, and verified again by every device.

use data_encoding::HEXLOWER;
use drover_api::{RootVersion, Severity};
use drover_trust::{DeviceId, Envelope, TrustError, Voucher};
use drover_wire::message::Down;
use serde_json::json;

use crate::http::Refusal;
use crate::operator::Actor;
use crate::roots::{Roots, pin};
use crate::state::Core;
use crate::store::{NewEvent, Store};
use crate::{ServerError, clock};

/// Gives a device away: it gets its voucher now and with each hello until it has left.
pub(crate) async fn transfer(
    core: &Core,
    actor: &Actor,
    device: &str,
    voucher: &[u8],
) -> Result<(), Refusal> {
    let id = DeviceId::parse(device).map_err(|_| Refusal::internal())?;
    let refused = |e: TrustError| Refusal::refused(format!("the voucher is refused: {e}"));
    let envelope = Envelope::decode(voucher).map_err(refused)?;
    let root = core.identity.root();
    let opened = Voucher::open(&envelope, &root, &id, clock::unix_s()).map_err(refused)?;
    let entry = actor.entry("device.transfer", device);
    let entry = entry.with(&json!({ "fleet": opened.to_fleet, "server": opened.server }));
    core.store
        .transfer(device, &opened.to_fleet, voucher, &entry)
        .await?;
    let detail = format!(
        "given to fleet {:?} at {}, until it has left it gets nothing else",
        opened.to_fleet, opened.server
    );
    note(core, Some(device), "transferred", detail).await?;
    let voucher = voucher.to_vec();
    core.send(&id, Down::Transfer { voucher }).await?;
    core.replan.notify_one();
    Ok(())
}

/// Takes up the root that follows the newest, and brings it to the devices.
pub(crate) async fn publish_root(
    core: &Core,
    actor: &Actor,
    bytes: &[u8],
) -> Result<RootVersion, Refusal> {
    let refused = |e: TrustError| Refusal::refused(format!("the root is refused: {e}"));
    let envelope = Envelope::decode(bytes).map_err(refused)?;
    let newest = core.roots.newest();
    let next = core
        .roots
        .check_next(envelope)
        .map_err(|error| match error {
            TrustError::RootVersion { have, got } if got <= have => Refusal::conflict(format!(
                "root {got} is here already or older than the newest, {have}; publish root {}",
                have.saturating_add(1)
            )),
            TrustError::RootVersion { have, got } => Refusal::refused(format!(
                "root {got} cannot follow root {have}; publish root {} first",
                have.saturating_add(1)
            )),
            error => refused(error),
        })?;
    core.identity.can_serve(&next).map_err(|(role, why)| {
        Refusal::conflict(format!(
            "this server could not sign for the {role} role any more: {why}. Start it with \
             that key in addition (--{role}-key FILE may be repeated), then publish this root \
             again"
        ))
    })?;
    let version = next.root().version;
    // Roots are files: the entry comes first.
    let entry = actor.entry("root.publish", format!("root {version}"));
    let entry = entry.with(&json!({
        "after": HEXLOWER.encode(&pin(&next)),
        "before": HEXLOWER.encode(&pin(&newest)),
    }));
    core.store.add_audit(&entry).await?;
    core.roots.add(next)?;
    restart_sequences(&core.store, &core.roots).await?;
    let detail = format!("root {version} follows root {}", newest.root().version);
    note(core, None, "root-published", detail).await?;
    core.renew_catalog().await?;
    bring(core).await?;
    let mut all = versions(core).await?;
    all.pop().ok_or_else(Refusal::internal)
}

/// Counts assignments anew when a root took a fleet or catalog key away, as devices do: whoever
/// held it may have pushed their sequences to the end. Done again after a power cut.
pub(crate) async fn restart_sequences(store: &Store, roots: &Roots) -> Result<(), ServerError> {
    let newest = roots.newest().root().version;
    let anew = match store.sequence_root().await? {
        Some(done) if done >= newest => return Ok(()),
        Some(done) => roots.restarts_after(done),
        None => false,
    };
    store.set_sequence_root(newest, anew).await
}

/// All roots, the oldest first.
pub(crate) async fn versions(core: &Core) -> Result<Vec<RootVersion>, ServerError> {
    let devices = core.store.root_versions().await?;
    let version = |root: &drover_trust::TrustedRoot| RootVersion {
        version: root.root().version,
        pin: HEXLOWER.encode(&pin(root)),
        created_unix_s: root.root().created_unix_s,
        expires_unix_s: root.root().expires_unix_s,
        epoch: root.root().epoch,
        devices: devices.get(&root.root().version).copied().unwrap_or(0),
    };
    Ok(core.roots.versions().iter().map(|r| version(r)).collect())
}

/// Sends devices heard lately the roots that they lack; the others ask when they come.
async fn bring(core: &Core) -> Result<(), ServerError> {
    const HEARD_WITHIN_MS: u64 = 3_600_000;
    let since = clock::unix_ms().saturating_sub(HEARD_WITHIN_MS);
    for device in core.store.seen_since(since).await? {
        let Ok(device) = DeviceId::parse(&device) else {
            continue;
        };
        if let Some(version) = core.root_behind(&device).await?
            && !core.send_roots(&device, version).await
        {
            return Ok(());
        }
    }
    Ok(())
}

async fn note(
    core: &Core,
    device: Option<&str>,
    kind: &'static str,
    detail: String,
) -> Result<(), ServerError> {
    let event = NewEvent {
        device: device.map(str::to_owned),
        severity: Severity::Security,
        kind,
        detail,
    };
    core.store.add_event(&event).await
}
