//! What the server sends to devices, and when it sends it again.
//!
//! Nothing sent here is taken as received. A device's hello says what it has accepted; what is
//! missing is sent again then, and after a reconnect of the server devices are asked for one.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use drover_trust::{AssignedBundle, Assignment, DeviceId, Envelope};
use drover_wire::message::{Down, Phase};
use drover_wire::topic;

use crate::identity::NewAssignment;
use crate::state::Core;
use crate::store::{Assigned, NewEvent, Signed};
use crate::{ServerError, clock, random};

/// An assignment is not sent again to a device within this time, unless it says hello.
pub(crate) const RESEND_AFTER: Duration = Duration::from_secs(10);
/// Devices heard within this time are asked for a hello after a reconnect, in milliseconds.
const RESYNC_WITHIN_MS: u64 = 3_600_000;

impl Core {
    /// Sends a message; `false` when there is no connection, or when the device has to follow
    /// the root first: what a rotated key signed would only alarm it.
    pub(crate) async fn send(&self, device: &DeviceId, message: Down) -> Result<bool, ServerError> {
        if self.root_behind(device).await?.is_some() {
            return Ok(false);
        }
        let payload = self.identity.address(device, message)?;
        let sent = self
            .link
            .publish(topic::down(device.as_str()), payload)
            .await;
        if sent {
            self.metrics.down_messages.add(1);
        }
        Ok(sent)
    }

    /// Signs an assignment of this server's rollouts, which may name the bundles `wanted` and
    /// whatever the device was to run before.
    pub(crate) async fn signer(
        &self,
        device: &DeviceId,
        rollout: String,
        wanted: &[[u8; 32]],
    ) -> Result<
        impl FnOnce(u64, Vec<AssignedBundle>) -> Result<Signed, ServerError> + Send,
        ServerError,
    > {
        let catalog_version = self.catalog(wanted).await?.version;
        let device = device.clone();
        let ttl_secs = self.config.assignment_ttl_secs;
        Ok(move |sequence, bundles| {
            self.identity.assign(NewAssignment {
                device,
                sequence,
                rollout,
                bundles,
                ttl_secs,
                catalog_version,
            })
        })
    }

    /// Brings a device that has accepted the assignment `accepted` up to what it should run.
    /// `phase` is where it stands, when it told that rather than said hello.
    pub(crate) async fn reconcile(
        &self,
        device: &DeviceId,
        accepted: u64,
        phase: Option<&Phase>,
        said_hello: bool,
    ) -> Result<(), ServerError> {
        if self.root_behind(device).await?.is_some() {
            // It counts anew once it has followed; what it says until then may be made up.
            return Ok(());
        }
        let Some(mut wanted) = self.store.assignment(device.as_str()).await? else {
            return Ok(());
        };
        if accepted > wanted.sequence {
            // This server lost assignments that it made: it must count on above them.
            wanted = self.renew(device, accepted).await?;
        }
        let bundles = self.bundles_of(device, &wanted);
        let is_current = accepted == wanted.sequence && accepted != 0;
        // Somebody else signed one with this number: a thief of the fleet key, or this server
        // before its database was restored.
        let is_foreign = is_current
            && phase
                .zip(bundles.as_deref())
                .is_some_and(|(phase, bundles)| !follows(phase, bundles));
        if is_foreign && self.limits.foreign.allows(device.as_str()) {
            let detail = format!(
                "accepted an assignment {accepted} that this server did not sign; it gets a \
                 newer one. Unless the database was restored, the fleet key is stolen"
            );
            let severity = drover_api::Severity::Security;
            let event = NewEvent::of(device.as_str(), severity, "assignment-foreign", detail);
            self.store.add_event(&event).await?;
            let newer = self.renew(device, accepted).await?;
            return self.send_assignment(device, newer).await;
        }
        let is_done = is_current && bundles.is_some();
        if is_done || !(said_hello || self.may_resend(device)) {
            return Ok(());
        }
        if wanted.sequence == 0 || wanted.expires_unix_s < clock::unix_s() {
            wanted = self.renew(device, 0).await?;
        }
        self.send_assignment(device, wanted).await
    }

    /// A new assignment of what a device is to run anyway.
    async fn renew(&self, device: &DeviceId, at_least: u64) -> Result<Assigned, ServerError> {
        let rollout = self.store.target_rollout(device.as_str()).await?;
        let rollout = rollout.map_or(String::new(), |id| format!("r{id}"));
        let sign = self.signer(device, rollout, &[]).await?;
        self.store.reassign(device.as_str(), at_least, sign).await
    }

    /// What an assignment names; nothing when today's root does not vouch for its signature.
    fn bundles_of(&self, device: &DeviceId, assigned: &Assigned) -> Option<Vec<[u8; 32]>> {
        let envelope = Envelope::decode(&assigned.envelope).ok()?;
        let assignment = Assignment::reopen(&envelope, &self.identity.root(), device).ok()?;
        Some(assignment.bundles.iter().map(|b| b.digest).collect())
    }

    /// Sends an assignment and the catalog that lists what it names.
    pub(crate) async fn send_assignment(
        &self,
        device: &DeviceId,
        mut assigned: Assigned,
    ) -> Result<(), ServerError> {
        let digests = match self.bundles_of(device, &assigned) {
            Some(digests) => digests,
            None => {
                assigned = self.renew(device, 0).await?;
                self.bundles_of(device, &assigned).unwrap_or_default()
            }
        };
        let message = Down::Desired {
            assignment: assigned.envelope,
            catalog: self.catalog(&digests).await?.envelope,
        };
        if self.send(device, message).await? {
            tracing::debug!(%device, sequence = assigned.sequence, "assignment sent");
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.insert(device.to_string(), clock::monotonic());
        }
        Ok(())
    }

    /// Version of the root that a device trusts, when that is not the newest.
    pub(crate) async fn root_behind(&self, device: &DeviceId) -> Result<Option<u64>, ServerError> {
        let known = {
            let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
            trusted.get(device.as_str()).copied()
        };
        let known = match known {
            Some(version) => Some(version),
            None => self.store.root_version(device.as_str()).await?,
        };
        let newest = self.identity.root().root().version;
        Ok(known.filter(|version| *version < newest))
    }

    /// Sends a device the successors of the root that it trusts.
    pub(crate) async fn send_roots(&self, device: &DeviceId, from: u64) -> bool {
        for message in self.roots.messages(from) {
            if !self
                .link
                .publish(topic::roots(device.as_str()), message)
                .await
            {
                return false;
            }
        }
        true
    }

    fn may_resend(&self, device: &DeviceId) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get(device.as_str())
            .is_none_or(|at| at.elapsed() >= RESEND_AFTER)
    }
}

/// Whether a device in this phase may have accepted an assignment of these bundles.
fn follows(phase: &Phase, bundles: &[[u8; 32]]) -> bool {
    match phase {
        Phase::Idle => bundles.is_empty(),
        Phase::Fetching { digest, .. }
        | Phase::Staged { digest }
        | Phase::Trial { digest }
        | Phase::Committed { digest }
        | Phase::Failed { digest, .. } => bundles.contains(digest),
    }
}

/// After each connect, asks the devices heard lately to say hello, spread over time.
pub(crate) async fn resync(core: Arc<Core>) {
    let mut changes = core.link.changes();
    while changes.wait_for(|connected| *connected).await.is_ok() {
        if let Err(error) = ask_all(&core).await {
            tracing::error!(%error, "cannot ask devices for their state");
        }
        if changes.wait_for(|connected| !*connected).await.is_err() {
            return;
        }
    }
}

async fn ask_all(core: &Core) -> Result<(), ServerError> {
    let since = clock::unix_ms().saturating_sub(RESYNC_WITHIN_MS);
    for device in core.store.seen_since(since).await? {
        let Ok(device) = DeviceId::parse(&device) else {
            continue;
        };
        // About 200 devices a second: each answers with messages of its own.
        tokio::time::sleep(Duration::from_millis(random::below(10))).await;
        let sent = match core.root_behind(&device).await? {
            Some(version) => core.send_roots(&device, version).await,
            None => core.send(&device, Down::Resync).await?,
        };
        if !sent {
            return Ok(());
        }
    }
    Ok(())
}
