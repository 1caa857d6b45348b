//! Claims and devices.
//!
//! When a device was seen last lies in a table of its own, so that the messages of a large
//! fleet do not rewrite the rows that rollouts read.

use std::collections::BTreeMap;

use drover_api::{ApprovalRule, Device, Phase, Running};
use drover_trust::PublicKey;
use drover_trust::mutation::{Check, is_disabled};
use drover_wire::message::Hello;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::audit::{NewEntry, append};
use super::{Result, Store, digest, from_json, to_json};

/// A claim token, without its secret.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) id: String,
    /// SHA-256 of the secret.
    pub(crate) k: [u8; 32],
    pub(crate) expires_unix_s: u64,
    pub(crate) auto_approve: bool,
    /// What a device must be to be approved by itself; without one all or none are.
    pub(crate) rule: Option<ApprovalRule>,
    pub(crate) labels: BTreeMap<String, String>,
    /// The one device that may use it; anybody may without it.
    pub(crate) for_device: Option<String>,
}

/// A device that shows a claim.
#[derive(Clone, Debug)]
pub(crate) struct NewDevice {
    pub(crate) id: String,
    pub(crate) public_key: PublicKey,
    /// Nonce of its request.
    pub(crate) nonce: [u8; 16],
    /// X25519 key, to which content keys are wrapped.
    pub(crate) exchange_key: [u8; 32],
    pub(crate) name: String,
    /// Serial number of the board, as the device says.
    pub(crate) hardware: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) arch: String,
    pub(crate) agent_version: String,
    pub(crate) now_unix_s: u64,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimOutcome {
    /// The device is in the fleet.
    Enrolled {
        /// Whether it takes part now.
        approved: bool,
    },
    /// The device was answered this very request before.
    Repeated {
        /// Whether it takes part now.
        approved: bool,
    },
    /// Another device has used the claim.
    Taken {
        /// Which.
        by: String,
    },
    /// The claim ended before anybody used it, or its device has used it too often.
    Expired,
}

/// What is needed to check a device's messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceKey {
    pub(crate) public_key: PublicKey,
    pub(crate) approved: bool,
    /// Changes when the device may count its messages anew.
    pub(crate) numbering: i64,
}

/// What a device reported last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredState {
    pub(crate) active: Option<Running>,
    pub(crate) phase: Phase,
}

/// What rollouts ask of a device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// How often a device may enrol by one claim.
const MAX_USES: usize = 64;

impl Store {
    /// Stores claims.
    pub(crate) async fn add_claims(&self, claims: &[Claim], entry: &NewEntry) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for claim in claims {
            sqlx::query(
                "INSERT INTO claim(id, k, expires_unix_s, auto_approve, rule, labels,
                 device_id_bound) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&claim.id)
            .bind(&claim.k[..])
            .bind(claim.expires_unix_s.cast_signed())
            .bind(claim.auto_approve)
            .bind(claim.rule.as_ref().map(to_json).transpose()?)
            .bind(to_json(&claim.labels)?)
            .bind(claim.for_device.as_deref())
            .execute(&mut *transaction)
            .await?;
        }
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A claim by its id, used or not.
    pub(crate) async fn claim(&self, id: &str) -> Result<Option<Claim>> {
        let row = sqlx::query(
            "SELECT id, k, expires_unix_s, auto_approve, labels, rule, device_id_bound
             FROM claim WHERE id = ?",
        )
        .bind(id)
        .fetch_optional(&self.reader)
        .await?;
        row.map(|row| {
            let rule: Option<&str> = row.get(5);
            Ok(Claim {
                id: row.get(0),
                k: digest(row.get(1))?,
                expires_unix_s: row.get::<i64, _>(2).cast_unsigned(),
                auto_approve: row.get(3),
                rule: rule.map(|r| from_json(r, "claim")).transpose()?,
                labels: from_json(row.get(4), "claim")?,
                for_device: row.get(6),
            })
        })
        .transpose()
    }

    /// Uses a claim for a device, which takes part at once when `approve` says so. The same
    /// device may use it again: its answer was lost.
    pub(crate) async fn use_claim(
        &self,
        claim: &Claim,
        device: &NewDevice,
        approve: bool,
    ) -> Result<ClaimOutcome> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let (user, mut nonces): (Option<String>, Vec<u8>) =
            sqlx::query_as("SELECT device, nonces FROM claim WHERE id = ?")
                .bind(&claim.id)
                .fetch_one(&mut *transaction)
                .await?;
        match &user {
            Some(user) if *user != device.id && !is_disabled(Check::Claim) => {
                return Ok(ClaimOutcome::Taken { by: user.clone() });
            }
            Some(_) => {}
            None if claim.expires_unix_s < device.now_unix_s => return Ok(ClaimOutcome::Expired),
            None => {}
        }
        // A request that was answered before, played again by whoever: it changes nothing.
        let mut seen = nonces.chunks_exact(device.nonce.len());
        if user.is_some() && seen.any(|nonce| nonce == device.nonce) {
            let approved = sqlx::query_scalar("SELECT approved FROM device WHERE id = ?")
                .bind(&device.id)
                .fetch_one(&mut *transaction)
                .await?;
            return Ok(ClaimOutcome::Repeated { approved });
        }
        if nonces.len() >= MAX_USES * device.nonce.len() {
            return Ok(ClaimOutcome::Expired);
        }
        nonces.extend(device.nonce);
        let mut labels = device.labels.clone();
        labels.extend(claim.labels.clone());
        // An approval that an operator gave is not taken back by enrolling again. The agent may
        // have lost its store and count its starts anew.
        sqlx::query(
            "INSERT INTO device(id, public_key, exchange_key, name, hardware, labels, arch,
             agent_version, approved, enrolled_unix_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT(id) DO UPDATE SET exchange_key = excluded.exchange_key,
             name = excluded.name, hardware = excluded.hardware, labels = excluded.labels,
             arch = excluded.arch, agent_version = excluded.agent_version,
             approved = approved OR excluded.approved, boot = 0, instance = NULL,
             numbering = numbering + 1, voucher = NULL, transferred_to = NULL",
        )
        .bind(&device.id)
        .bind(&device.public_key.0[..])
        .bind(&device.exchange_key[..])
        .bind(&device.name)
        .bind(&device.hardware)
        .bind(to_json(&labels)?)
        .bind(&device.arch)
        .bind(&device.agent_version)
        .bind(approve)
        .bind(device.now_unix_s.cast_signed())
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE claim SET device = ?, nonces = ? WHERE id = ?")
            .bind(&device.id)
            .bind(nonces)
            .bind(&claim.id)
            .execute(&mut *transaction)
            .await?;
        let approved: bool = sqlx::query_scalar("SELECT approved FROM device WHERE id = ?")
            .bind(&device.id)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(ClaimOutcome::Enrolled { approved })
    }

    /// Lets a device take part, again after a quarantine; says whether it did not before.
    /// Whichever instance of its agent speaks first then speaks for it. A revoked device stays
    /// out.
    pub(crate) async fn approve(&self, device: &str, entry: &NewEntry) -> Result<bool> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query(
            "UPDATE device SET approved = 1, quarantined = NULL, instance = NULL,
             numbering = numbering + 1 WHERE id = ? AND revoked IS NULL
             AND (approved = 0 OR quarantined IS NOT NULL)",
        )
        .bind(device)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The key of a device.
    pub(crate) async fn device_key(&self, device: &str) -> Result<Option<DeviceKey>> {
        let row: Option<(Vec<u8>, bool, i64)> = sqlx::query_as(
            "SELECT public_key, approved = 1 AND revoked IS NULL AND quarantined IS NULL,
             numbering FROM device WHERE id = ?",
        )
        .bind(device)
        .fetch_optional(&self.reader)
        .await?;
        row.map(|(key, approved, numbering)| {
            Ok(DeviceKey {
                public_key: PublicKey(digest(key)?),
                approved,
                numbering,
            })
        })
        .transpose()
    }

    /// Notes that devices were heard.
    pub(crate) async fn seen(&self, devices: &[&str], now_unix_ms: u64) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for device in devices {
            sqlx::query(
                "INSERT INTO device_seen VALUES (?, ?)
                 ON CONFLICT(device) DO UPDATE SET unix_ms = excluded.unix_ms",
            )
            .bind(device)
            .bind(now_unix_ms.cast_signed())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Approved devices heard since a time.
    pub(crate) async fn seen_since(&self, unix_ms: u64) -> Result<Vec<String>> {
        let devices = sqlx::query_scalar(
            "SELECT d.id FROM device d JOIN device_seen s ON s.device = d.id
             WHERE d.approved = 1 AND d.revoked IS NULL AND d.quarantined IS NULL
             AND s.unix_ms >= ? ORDER BY s.unix_ms DESC",
        )
        .bind(unix_ms.cast_signed())
        .fetch_all(&self.reader)
        .await?;
        Ok(devices)
    }

    /// Takes up a hello; one of an earlier start of the agent, late or repeated, says nothing
    /// and gives `false`.
    pub(crate) async fn hello(&self, device: &str, hello: &Hello) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE device SET boot = ?1, agent_version = ?2, arch = ?3, memory_bytes = ?4,
             accepted = ?5 WHERE id = ?6 AND boot <= ?1",
        )
        .bind(hello.boot.cast_signed())
        .bind(&hello.agent_version)
        .bind(&hello.arch)
        .bind(hello.memory_bytes.cast_signed())
        .bind(hello.assignment.cast_signed())
        .bind(device)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes up what a device reports of itself.
    pub(crate) async fn set_state(
        &self,
        device: &str,
        accepted: u64,
        state: &StoredState,
    ) -> Result<()> {
        sqlx::query("UPDATE device SET accepted = max(accepted, ?), state = ? WHERE id = ?")
            .bind(accepted.cast_signed())
            .bind(to_json(state)?)
            .bind(device)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// All approved devices, in the stable order of their identities.
    pub(crate) async fn approved_devices(&self) -> Result<Vec<DeviceRow>> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT id, name, labels FROM device WHERE approved = 1
                 AND revoked IS NULL AND quarantined IS NULL AND transferred_to IS NULL
                 ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await?;
        let device = |(id, name, labels): (String, String, String)| {
            Ok(DeviceRow {
                id,
                name,
                labels: from_json(&labels, "device")?,
            })
        };
        rows.into_iter().map(device).collect()
    }

    /// All devices, as an operator sees them.
    pub(crate) async fn devices(&self) -> Result<Vec<Device>> {
        let rows = sqlx::query(
            "SELECT d.id, d.name, d.labels, d.arch, d.agent_version, d.memory_bytes, d.approved,
             d.enrolled_unix_s, s.unix_ms, d.wanted, d.accepted, d.state,
             coalesce((SELECT sum(observations) FROM boot_count b WHERE b.device = d.id), 0),
             d.hardware, d.revoked, d.quarantined, d.trust, d.stale_since_unix_s,
             d.transferred_to,
             (SELECT max(not_after_unix_s) FROM certificate c
              WHERE c.subject = d.id AND c.revoked_unix_s IS NULL)
             FROM device d LEFT JOIN device_seen s ON s.device = d.id ORDER BY d.name, d.id",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<Device> {
    let unsigned = |column: usize| row.get::<i64, _>(column).cast_unsigned();
    let state: Option<StoredState> = row
        .get::<Option<&str>, _>(11)
        .map(|text| from_json(text, "device"))
        .transpose()?;
    let (active, phase) = state.map_or((None, Phase::Unknown), |s| (s.active, s.phase));
    Ok(Device {
        id: row.get(0),
        name: row.get(1),
        labels: from_json(row.get(2), "device")?,
        arch: row.get(3),
        agent_version: row.get(4),
        memory_bytes: unsigned(5),
        approved: row.get(6),
        enrolled_unix_s: unsigned(7),
        last_seen_unix_ms: row.get::<Option<i64>, _>(8).map(i64::cast_unsigned),
        assignment_wanted: unsigned(9),
        assignment_accepted: unsigned(10),
        active,
        phase,
        observations: unsigned(12),
        hardware: row.get(13),
        revoked: row.get(14),
        quarantined: row.get(15),
        trust: row
            .get::<Option<&str>, _>(16)
            .map(|text| from_json(text, "device"))
            .transpose()?,
        stale_since_unix_s: row.get::<Option<i64>, _>(17).map(i64::cast_unsigned),
        transferred_to: row.get(18),
        certificate_expires_unix_s: row.get::<Option<i64>, _>(19).map(i64::cast_unsigned),
    })
}
