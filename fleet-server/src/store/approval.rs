//! Rollouts that a second person lets begin.
//!
//! The state, the devices taken over from older rollouts and the audit entry change in one
//! transaction: after a power cut the rollout waits or has begun, and the log says which.

use drover_api::{DeviceStatus, RolloutState};

use super::audit::{NewEntry, append};
use super::rollout::{RolloutRow, supersede};
use super::{Result, Store, to_json};
use crate::clock;

/// What became of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Approved {
    /// The rollout begins.
    Begins,
    /// It does not wait for one.
    NotWaiting,
    /// A rollout of the same model that was created later has begun.
    Overtaken {
        /// Which one.
        by: i64,
    },
}

impl Store {
    /// Lets a rollout begin that waits for approval.
    pub(crate) async fn approve_rollout(
        &self,
        rollout: &RolloutRow,
        who: &str,
        entry: &NewEntry,
    ) -> Result<Approved> {
        let now = clock::unix_ms();
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        // Devices belong to the newest rollout of a model; an older one must not take them back.
        let newer: Option<i64> = sqlx::query_scalar(
            "SELECT max(id) FROM rollout WHERE name = ? AND id > ? AND state <> ?",
        )
        .bind(&rollout.name)
        .bind(rollout.id)
        .bind(to_json(&RolloutState::Waiting)?)
        .fetch_one(&mut *transaction)
        .await?;
        if let Some(by) = newer {
            return Ok(Approved::Overtaken { by });
        }
        let done = sqlx::query(
            "UPDATE rollout SET state = ?, approved_by = ?, sent_before =
             (SELECT sent_bytes FROM release WHERE release.digest = rollout.digest)
             WHERE id = ? AND state = ?",
        )
        .bind(to_json(&RolloutState::Active)?)
        .bind(who)
        .bind(rollout.id)
        .bind(to_json(&RolloutState::Waiting)?)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(Approved::NotWaiting);
        }
        let devices: Vec<String> =
            sqlx::query_scalar("SELECT device FROM member WHERE rollout = ?")
                .bind(rollout.id)
                .fetch_all(&mut *transaction)
                .await?;
        for device in devices {
            supersede(
                &mut transaction,
                rollout.id,
                &device,
                &rollout.name,
                true,
                now,
            )
            .await?;
        }
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(Approved::Begins)
    }

    /// Devices with which rollouts of a bundle have begun that are still in their first stage,
    /// but for those where it runs for good.
    pub(crate) async fn unproven_devices(&self, digest: &[u8; 32]) -> Result<Vec<String>> {
        let devices = sqlx::query_scalar(
            "SELECT DISTINCT m.device FROM member m JOIN rollout r ON r.id = m.rollout
             WHERE r.digest = ? AND r.state = ? AND r.stage <= 1 AND m.stage = 1
             AND m.status NOT IN (?, ?)",
        )
        .bind(&digest[..])
        .bind(to_json(&RolloutState::Active)?)
        .bind(to_json(&DeviceStatus::Committed)?)
        .bind(to_json(&DeviceStatus::Superseded)?)
        .fetch_all(&self.reader)
        .await?;
        Ok(devices)
    }
}
