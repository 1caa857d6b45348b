//! Rollouts, their members, and the assignments that they make.
//!
//! The sequence of a device's assignments is raised and stored in the same transaction as the
//! signed assignment itself, before anything is sent: no two assignments share a sequence.

use drover_api::{DeviceStatus, Policy, RolloutState, Selector, Strategy};
use drover_trust::AssignedBundle;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::audit::{NewEntry, append};
use super::{Result, Store, digest, from_json, to_json};
use crate::clock;

/// A rollout to create, with the stage of each device.
#[derive(Clone, Debug)]
pub(crate) struct NewRollout {
    pub(crate) digest: [u8; 32],
    pub(crate) name: String,
    pub(crate) selector: Selector,
    pub(crate) strategy: Strategy,
    pub(crate) policy: Policy,
    pub(crate) members: Vec<(String, u32)>,
    /// Account that creates it.
    pub(crate) created_by: String,
    /// Whether it waits for somebody else's approval.
    pub(crate) waits: bool,
}

/// A rollout without its members.
#[derive(Clone, Debug)]
pub(crate) struct RolloutRow {
    pub(crate) id: i64,
    pub(crate) digest: [u8; 32],
    pub(crate) name: String,
    pub(crate) selector: Selector,
    pub(crate) strategy: Strategy,
    pub(crate) policy: Policy,
    pub(crate) state: RolloutState,
    pub(crate) reason: Option<String>,
    pub(crate) stage: u32,
    pub(crate) sent_before: u64,
    pub(crate) created_unix_ms: u64,
    pub(crate) completed_unix_ms: Option<u64>,
    pub(crate) created_by: String,
    pub(crate) approved_by: Option<String>,
}

/// One device of a rollout.
#[derive(Clone, Debug)]
pub(crate) struct MemberRow {
    pub(crate) device: String,
    pub(crate) name: String,
    pub(crate) stage: u32,
    pub(crate) sequence: Option<u64>,
    pub(crate) assigned_unix_ms: Option<u64>,
    pub(crate) status: DeviceStatus,
    pub(crate) changed_unix_ms: u64,
    /// Whether it gets nothing new: quarantined, revoked or given away.
    pub(crate) is_out: bool,
}

/// The assignment of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) sequence: u64,
    pub(crate) envelope: Vec<u8>,
    pub(crate) expires_unix_s: u64,
}

/// A signed assignment and when it expires, in seconds since 1970.
pub(crate) type Signed = (Vec<u8>, u64);

const COLUMNS: &str = "id, digest, name, selector, strategy, policy, state, reason, stage,
    sent_before, created_unix_ms, completed_unix_ms, created_by, approved_by";

impl Store {
    /// Creates a rollout. Devices that wait for an older rollout of the same model wait for
    /// this one from the moment that it begins: now, or when it is approved. The entry's object
    /// becomes its identity.
    pub(crate) async fn add_rollout(&self, new: &NewRollout, entry: NewEntry) -> Result<i64> {
        let state = match new.waits {
            true => RolloutState::Waiting,
            false => RolloutState::Active,
        };
        let now = clock::unix_ms();
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO rollout(digest, name, selector, strategy, policy, state, sent_before,
             created_unix_ms, created_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6,
             (SELECT sent_bytes FROM release WHERE digest = ?1), ?7, ?8) RETURNING id",
        )
        .bind(&new.digest[..])
        .bind(&new.name)
        .bind(to_json(&new.selector)?)
        .bind(to_json(&new.strategy)?)
        .bind(to_json(&new.policy)?)
        .bind(to_json(&state)?)
        .bind(now.cast_signed())
        .bind(&new.created_by)
        .fetch_one(&mut *transaction)
        .await?;
        for (device, stage) in &new.members {
            admit(&mut transaction, id, device, *stage, now).await?;
            if !new.waits {
                supersede(&mut transaction, id, device, &new.name, true, now).await?;
            }
        }
        append(&mut transaction, &entry.about(format!("r{id}"))).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// One rollout.
    pub(crate) async fn rollout(&self, id: i64) -> Result<Option<RolloutRow>> {
        let sql = format!("SELECT {COLUMNS} FROM rollout WHERE id = ?");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// All rollouts, newest first.
    pub(crate) async fn rollouts(&self) -> Result<Vec<RolloutRow>> {
        let sql = format!("SELECT {COLUMNS} FROM rollout ORDER BY id DESC");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Rollouts that may have something to do, newest first: active ones, those with devices
    /// under way, and the newest of each model that devices may still join.
    pub(crate) async fn open_rollouts(&self) -> Result<Vec<RolloutRow>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM rollout r WHERE state = ?1
             OR EXISTS (SELECT 1 FROM member m WHERE m.rollout = r.id AND m.updating = 1)
             OR state = ?2 ORDER BY id DESC"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(to_json(&RolloutState::Active)?)
            .bind(to_json(&RolloutState::Completed)?)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read).collect()
    }

    /// The devices of a rollout, in their stable order.
    pub(crate) async fn members(&self, rollout: i64) -> Result<Vec<MemberRow>> {
        let rows = sqlx::query(
            "SELECT m.device, d.name, m.stage, m.sequence, m.assigned_unix_ms, m.status,
             m.changed_unix_ms, d.quarantined IS NOT NULL OR d.revoked IS NOT NULL
             OR d.transferred_to IS NOT NULL FROM member m JOIN device d ON d.id = m.device
             WHERE m.rollout = ? ORDER BY m.stage, m.device",
        )
        .bind(rollout)
        .fetch_all(&self.reader)
        .await?;
        let unsigned = |n: Option<i64>| n.map(i64::cast_unsigned);
        let member = |row: SqliteRow| {
            Ok(MemberRow {
                device: row.get(0),
                name: row.get(1),
                stage: row.get(2),
                sequence: unsigned(row.get(3)),
                assigned_unix_ms: unsigned(row.get(4)),
                status: from_json(row.get(5), "rollout")?,
                changed_unix_ms: row.get::<i64, _>(6).cast_unsigned(),
                is_out: row.get(7),
            })
        };
        rows.into_iter().map(member).collect()
    }

    /// Makes a device a member.
    pub(crate) async fn admit(&self, rollout: i64, device: &str, stage: u32) -> Result<()> {
        let mut connection = self.writer.acquire().await?;
        admit(&mut connection, rollout, device, stage, clock::unix_ms()).await
    }

    /// Begins a stage.
    pub(crate) async fn set_stage(&self, rollout: i64, stage: u32) -> Result<()> {
        sqlx::query("UPDATE rollout SET stage = ? WHERE id = ?")
            .bind(stage)
            .bind(rollout)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Completes or pauses a rollout.
    pub(crate) async fn set_rollout_state(
        &self,
        rollout: i64,
        state: RolloutState,
        reason: Option<&str>,
    ) -> Result<()> {
        let completed = state == RolloutState::Completed;
        sqlx::query("UPDATE rollout SET state = ?, reason = ?, completed_unix_ms = ? WHERE id = ?")
            .bind(to_json(&state)?)
            .bind(reason)
            .bind(completed.then(|| clock::unix_ms().cast_signed()))
            .bind(rollout)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Rollouts of the bundle `digest` that a device's report speaks of: those whose assignment
    /// is not newer than the one that the device has `accepted`.
    pub(crate) async fn memberships(
        &self,
        device: &str,
        digest: &[u8; 32],
        accepted: u64,
    ) -> Result<Vec<(i64, DeviceStatus)>> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT m.rollout, m.status FROM member m JOIN rollout r ON r.id = m.rollout
             WHERE m.device = ? AND r.digest = ? AND m.sequence <= ?",
        )
        .bind(device)
        .bind(&digest[..])
        .bind(accepted.cast_signed())
        .fetch_all(&self.reader)
        .await?;
        let read = |(id, status): (i64, String)| Ok((id, from_json(&status, "rollout")?));
        rows.into_iter().map(read).collect()
    }

    /// Moves a device within a rollout.
    pub(crate) async fn set_status(
        &self,
        rollout: i64,
        device: &str,
        status: &DeviceStatus,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE member SET status = ?, updating = ?, changed_unix_ms = ?
             WHERE rollout = ? AND device = ?",
        )
        .bind(to_json(status)?)
        .bind(is_updating(status))
        .bind(clock::unix_ms().cast_signed())
        .bind(rollout)
        .bind(device)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Makes a rollout's release the target of a device. `sign` gets the new sequence and all
    /// bundles that the device is to run.
    pub(crate) async fn assign(
        &self,
        rollout: i64,
        device: &str,
        bundle: &AssignedBundle,
        sign: impl FnOnce(u64, Vec<AssignedBundle>) -> Result<Signed> + Send,
    ) -> Result<Assigned> {
        let now = clock::unix_ms();
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO target(device, name, rollout, digest, counter, total_bytes, epoch)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT(device, name) DO UPDATE SET
             rollout = excluded.rollout, digest = excluded.digest,
             counter = excluded.counter, total_bytes = excluded.total_bytes,
             epoch = excluded.epoch",
        )
        .bind(device)
        .bind(&bundle.name)
        .bind(rollout)
        .bind(&bundle.digest[..])
        .bind(bundle.counter.cast_signed())
        .bind(bundle.total_bytes.cast_signed())
        .bind(bundle.epoch.cast_signed())
        .execute(&mut *transaction)
        .await?;
        let assigned = issue(&mut transaction, device, 0, sign).await?;
        let status = DeviceStatus::Assigned;
        sqlx::query(
            "UPDATE member SET status = ?1, updating = 1, sequence = ?2, assigned_unix_ms = ?3,
             changed_unix_ms = ?3 WHERE rollout = ?4 AND device = ?5",
        )
        .bind(to_json(&status)?)
        .bind(assigned.sequence.cast_signed())
        .bind(now.cast_signed())
        .bind(rollout)
        .bind(device)
        .execute(&mut *transaction)
        .await?;
        supersede(&mut transaction, rollout, device, &bundle.name, false, now).await?;
        transaction.commit().await?;
        Ok(assigned)
    }

    /// A new assignment of what the device is to run anyway, above `at_least`: the old one has
    /// expired, or the device knows a sequence that this server has lost.
    pub(crate) async fn reassign(
        &self,
        device: &str,
        at_least: u64,
        sign: impl FnOnce(u64, Vec<AssignedBundle>) -> Result<Signed> + Send,
    ) -> Result<Assigned> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let assigned = issue(&mut transaction, device, at_least, sign).await?;
        transaction.commit().await?;
        Ok(assigned)
    }

    /// The newest rollout that made something of what a device is to run.
    pub(crate) async fn target_rollout(&self, device: &str) -> Result<Option<i64>> {
        let newest = sqlx::query_scalar("SELECT max(rollout) FROM target WHERE device = ?")
            .bind(device)
            .fetch_one(&self.reader)
            .await?;
        Ok(newest)
    }

    /// The assignment that a device should follow.
    pub(crate) async fn assignment(&self, device: &str) -> Result<Option<Assigned>> {
        let row: Option<(i64, Option<Vec<u8>>, i64)> = sqlx::query_as(
            "SELECT wanted, assignment, assignment_expires_unix_s FROM device WHERE id = ?",
        )
        .bind(device)
        .fetch_optional(&self.reader)
        .await?;
        Ok(row.and_then(|(sequence, envelope, expires)| {
            Some(Assigned {
                sequence: sequence.cast_unsigned(),
                envelope: envelope?,
                expires_unix_s: expires.cast_unsigned(),
            })
        }))
    }
}

async fn admit(
    connection: &mut SqliteConnection,
    rollout: i64,
    device: &str,
    stage: u32,
    now: u64,
) -> Result<()> {
    sqlx::query(
        "INSERT OR IGNORE INTO member(rollout, device, stage, status, updating, changed_unix_ms)
         VALUES (?, ?, ?, ?, 0, ?)",
    )
    .bind(rollout)
    .bind(device)
    .bind(stage)
    .bind(to_json(&DeviceStatus::Pending)?)
    .bind(now.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a device out of older rollouts of the model, where it has not finished; only where it
/// still waits, if so asked.
pub(super) async fn supersede(
    connection: &mut SqliteConnection,
    rollout: i64,
    device: &str,
    name: &str,
    only_pending: bool,
    now: u64,
) -> Result<()> {
    sqlx::query(
        "UPDATE member SET status = ?1, updating = 0, changed_unix_ms = ?2
         WHERE device = ?3 AND rollout IN (SELECT id FROM rollout WHERE name = ?4 AND id < ?5)
         AND (status = ?6 OR (updating = 1 AND NOT ?7))",
    )
    .bind(to_json(&DeviceStatus::Superseded)?)
    .bind(now.cast_signed())
    .bind(device)
    .bind(name)
    .bind(rollout)
    .bind(to_json(&DeviceStatus::Pending)?)
    .bind(only_pending)
    .execute(connection)
    .await?;
    Ok(())
}

async fn issue(
    connection: &mut SqliteConnection,
    device: &str,
    at_least: u64,
    sign: impl FnOnce(u64, Vec<AssignedBundle>) -> Result<Signed> + Send,
) -> Result<Assigned> {
    let wanted: i64 = sqlx::query_scalar("SELECT wanted FROM device WHERE id = ?")
        .bind(device)
        .fetch_one(&mut *connection)
        .await?;
    let sequence = wanted.cast_unsigned().max(at_least).saturating_add(1);
    let rows: Vec<(String, Vec<u8>, i64, i64, i64)> = sqlx::query_as(
        "SELECT name, digest, counter, total_bytes, epoch FROM target
         WHERE device = ? ORDER BY name",
    )
    .bind(device)
    .fetch_all(&mut *connection)
    .await?;
    let bundle = |(name, bytes, counter, total, epoch): (String, Vec<u8>, i64, i64, i64)| {
        Ok(AssignedBundle {
            name,
            digest: digest(bytes)?,
            counter: counter.cast_unsigned(),
            total_bytes: total.cast_unsigned(),
            epoch: epoch.cast_unsigned(),
        })
    };
    let bundles = rows.into_iter().map(bundle).collect::<Result<_>>()?;
    let (envelope, expires_unix_s) = sign(sequence, bundles)?;
    sqlx::query(
        "UPDATE device SET wanted = ?, assignment = ?, assignment_expires_unix_s = ?,
         fresh_unix_s = coalesce(fresh_unix_s, ?) WHERE id = ?",
    )
    .bind(sequence.cast_signed())
    .bind(&envelope)
    .bind(expires_unix_s.cast_signed())
    .bind(clock::unix_s().cast_signed())
    .bind(device)
    .execute(connection)
    .await?;
    Ok(Assigned {
        sequence,
        envelope,
        expires_unix_s,
    })
}

fn is_updating(status: &DeviceStatus) -> bool {
    matches!(
        status,
        DeviceStatus::Assigned
            | DeviceStatus::Fetching { .. }
            | DeviceStatus::Staged
            | DeviceStatus::Trial
    )
}

fn read(row: &SqliteRow) -> Result<RolloutRow> {
    Ok(RolloutRow {
        id: row.get(0),
        digest: digest(row.get(1))?,
        name: row.get(2),
        selector: from_json(row.get(3), "rollout")?,
        strategy: from_json(row.get(4), "rollout")?,
        policy: from_json(row.get(5), "rollout")?,
        state: from_json(row.get(6), "rollout")?,
        reason: row.get(7),
        stage: row.get(8),
        sent_before: row.get::<i64, _>(9).cast_unsigned(),
        created_unix_ms: row.get::<i64, _>(10).cast_unsigned(),
        completed_unix_ms: row.get::<Option<i64>, _>(11).map(i64::cast_unsigned),
        created_by: row.get(12),
        approved_by: row.get(13),
    })
}
