//! What devices trust, how far they have counted their messages, and the catalog.
//!
//! The numbers of a device are stored before its message is acted upon, so that a server that
//! starts again takes no message twice.

use std::collections::HashMap;

use drover_api::DeviceTrust;
use sqlx::Row as _;

use super::audit::{NewEntry, append};
use super::{Result, Store, from_json, to_json};

/// Instances of an agent that are remembered; what is older is taken for a replay.
const MAX_INSTANCES: u32 = 256;

/// Draws a device's messages together: one start of its agent.
pub(crate) type Instance = [u8; 16];

/// How far a device has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// Changes when everything here is to be read again.
    pub(crate) numbering: i64,
    /// The instance that speaks for the device.
    pub(crate) current: Option<Instance>,
    /// The last boot and counter of each instance.
    pub(crate) instances: HashMap<Instance, (u64, u64)>,
}

/// How far one instance has counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) device: String,
    pub(crate) instance: Instance,
    pub(crate) boot: u64,
    pub(crate) counter: u64,
}

/// A signed catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogRow {
    pub(crate) version: u64,
    pub(crate) issued_unix_s: u64,
    pub(crate) expires_unix_s: u64,
    pub(crate) envelope: Vec<u8>,
}

impl Store {
    /// How far a device has counted.
    pub(crate) async fn numbers(&self, device: &str) -> Result<Numbers> {
        let row: Option<(i64, Option<Vec<u8>>)> =
            sqlx::query_as("SELECT numbering, instance FROM device WHERE id = ?")
                .bind(device)
                .fetch_optional(&self.reader)
                .await?;
        let (numbering, current) = row.unwrap_or_default();
        let rows: Vec<(Vec<u8>, i64, i64)> =
            sqlx::query_as("SELECT instance, boot, counter FROM instance WHERE device = ?")
                .bind(device)
                .fetch_all(&self.reader)
                .await?;
        let instances = rows.into_iter().filter_map(|(instance, boot, counter)| {
            let instance = instance.try_into().ok()?;
            Some((instance, (boot.cast_unsigned(), counter.cast_unsigned())))
        });
        Ok(Numbers {
            numbering,
            current: current.and_then(|bytes| bytes.try_into().ok()),
            instances: instances.collect(),
        })
    }

    /// Stores how far devices have counted.
    pub(crate) async fn counted(&self, all: &[Counted]) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for counted in all {
            sqlx::query("UPDATE device SET instance = ?1 WHERE id = ?2 AND instance IS NOT ?1")
                .bind(&counted.instance[..])
                .bind(&counted.device)
                .execute(&mut *transaction)
                .await?;
            let done = sqlx::query(
                "UPDATE instance SET boot = ?, counter = ? WHERE device = ? AND instance = ?",
            )
            .bind(counted.boot.cast_signed())
            .bind(counted.counter.cast_signed())
            .bind(&counted.device)
            .bind(&counted.instance[..])
            .execute(&mut *transaction)
            .await?;
            if done.rows_affected() == 1 {
                continue;
            }
            sqlx::query("INSERT INTO instance VALUES (?, ?, ?, ?)")
                .bind(&counted.device)
                .bind(&counted.instance[..])
                .bind(counted.boot.cast_signed())
                .bind(counted.counter.cast_signed())
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "DELETE FROM instance WHERE device = ?1 AND instance NOT IN (SELECT instance
                 FROM instance WHERE device = ?1 ORDER BY boot DESC LIMIT ?2)",
            )
            .bind(&counted.device)
            .bind(MAX_INSTANCES)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// What a device reported last of what it trusts.
    pub(crate) async fn trust(&self, device: &str) -> Result<Option<DeviceTrust>> {
        let text: Option<Option<String>> =
            sqlx::query_scalar("SELECT trust FROM device WHERE id = ?")
                .bind(device)
                .fetch_optional(&self.reader)
                .await?;
        let text = text.flatten();
        text.map(|text| from_json(&text, "device")).transpose()
    }

    /// Takes up what a device trusts.
    pub(crate) async fn set_trust(&self, device: &str, trust: &DeviceTrust) -> Result<()> {
        sqlx::query(
            "UPDATE device SET trust = ?1, root_version = ?2, fresh_unix_s =
             CASE WHEN ?3 > 0 THEN max(coalesce(fresh_unix_s, 0), ?3) ELSE fresh_unix_s END
             WHERE id = ?4",
        )
        .bind(to_json(trust)?)
        .bind(trust.root_version.cast_signed())
        // A device cannot have seen a catalog of the future.
        .bind(
            trust
                .catalog_unix_s
                .min(trust.received_unix_ms / 1000)
                .cast_signed(),
        )
        .bind(device)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Version of the newest root that a device has reported.
    pub(crate) async fn root_version(&self, device: &str) -> Result<Option<u64>> {
        let version: Option<Option<i64>> =
            sqlx::query_scalar("SELECT root_version FROM device WHERE id = ?")
                .bind(device)
                .fetch_optional(&self.reader)
                .await?;
        Ok(version.flatten().map(i64::cast_unsigned))
    }

    /// How many devices trust each version of the root.
    pub(crate) async fn root_versions(&self) -> Result<HashMap<u64, u64>> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT root_version, count(*) FROM device WHERE root_version IS NOT NULL
             AND revoked IS NULL GROUP BY root_version",
        )
        .fetch_all(&self.reader)
        .await?;
        let unsigned =
            |(version, devices): (i64, i64)| (version.cast_unsigned(), devices.cast_unsigned());
        Ok(rows.into_iter().map(unsigned).collect())
    }

    /// Version of the root up to which sequences were counted anew where that was due; none
    /// before the first start.
    pub(crate) async fn sequence_root(&self) -> Result<Option<u64>> {
        let text: Option<String> =
            sqlx::query_scalar("SELECT value FROM meta WHERE key = 'sequence-root'")
                .fetch_optional(&self.reader)
                .await?;
        let version = text.map(|text| text.parse());
        let stored = |_| crate::ServerError::Stored { what: "root" };
        version.transpose().map_err(stored)
    }

    /// Notes up to which root that was done. With `anew`, assignments of all devices count from
    /// 1 again, and what rollouts have under way goes by what devices report from now on.
    pub(crate) async fn set_sequence_root(&self, version: u64, anew: bool) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        if anew {
            sqlx::query("UPDATE device SET wanted = 0, accepted = 0")
                .execute(&mut *transaction)
                .await?;
            sqlx::query("UPDATE member SET sequence = 0 WHERE sequence IS NOT NULL")
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("INSERT OR REPLACE INTO meta(key, value) VALUES ('sequence-root', ?)")
            .bind(version.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Marks the devices that have had no catalog since `limit_unix_s`, and unmarks those that
    /// have one again. Gives both.
    pub(crate) async fn mark_stale(
        &self,
        limit_unix_s: u64,
        now_unix_s: u64,
    ) -> Result<(Vec<String>, Vec<String>)> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let stale = sqlx::query_scalar(
            "UPDATE device SET stale_since_unix_s = ?2 WHERE stale_since_unix_s IS NULL
             AND fresh_unix_s < ?1 AND approved = 1 AND revoked IS NULL
             AND transferred_to IS NULL RETURNING id",
        )
        .bind(limit_unix_s.cast_signed())
        .bind(now_unix_s.cast_signed())
        .fetch_all(&mut *transaction)
        .await?;
        let fresh = sqlx::query_scalar(
            "UPDATE device SET stale_since_unix_s = NULL WHERE stale_since_unix_s IS NOT NULL
             AND fresh_unix_s >= ?1 RETURNING id",
        )
        .bind(limit_unix_s.cast_signed())
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok((stale, fresh))
    }

    /// Devices heard since a time whose newest catalog was issued before another: they have an
    /// assignment and deserve a newer one.
    pub(crate) async fn behind_catalog(
        &self,
        seen_unix_ms: u64,
        issued_unix_s: u64,
    ) -> Result<Vec<String>> {
        let devices = sqlx::query_scalar(
            "SELECT d.id FROM device d JOIN device_seen s ON s.device = d.id
             WHERE d.approved = 1 AND d.revoked IS NULL AND d.quarantined IS NULL
             AND d.assignment IS NOT NULL AND d.fresh_unix_s < ?2 AND s.unix_ms >= ?1
             ORDER BY d.fresh_unix_s",
        )
        .bind(seen_unix_ms.cast_signed())
        .bind(issued_unix_s.cast_signed())
        .fetch_all(&self.reader)
        .await?;
        Ok(devices)
    }

    /// The newest catalog.
    pub(crate) async fn catalog(&self) -> Result<Option<CatalogRow>> {
        let row = sqlx::query(
            "SELECT version, issued_unix_s, expires_unix_s, envelope FROM catalog WHERE id = 1",
        )
        .fetch_optional(&self.reader)
        .await?;
        Ok(row.map(|row| CatalogRow {
            version: row.get::<i64, _>(0).cast_unsigned(),
            issued_unix_s: row.get::<i64, _>(1).cast_unsigned(),
            expires_unix_s: row.get::<i64, _>(2).cast_unsigned(),
            envelope: row.get(3),
        }))
    }

    /// Stores the newest catalog, before any device sees it.
    pub(crate) async fn set_catalog(&self, catalog: &CatalogRow) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO catalog VALUES (1, ?, ?, ?, ?)")
            .bind(catalog.version.cast_signed())
            .bind(catalog.issued_unix_s.cast_signed())
            .bind(catalog.expires_unix_s.cast_signed())
            .bind(&catalog.envelope)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Digests of everything that devices are to run or run.
    pub(crate) async fn digests_in_use(&self) -> Result<Vec<[u8; 32]>> {
        let assigned: Vec<Vec<u8>> = sqlx::query_scalar("SELECT DISTINCT digest FROM target")
            .fetch_all(&self.reader)
            .await?;
        let running: Vec<Option<String>> = sqlx::query_scalar(
            "SELECT DISTINCT state ->> '$.active.digest' FROM device WHERE state IS NOT NULL",
        )
        .fetch_all(&self.reader)
        .await?;
        let hex = |text: String| data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let running = running.into_iter().flatten().filter_map(hex);
        let all = assigned.into_iter().chain(running);
        Ok(all.filter_map(|bytes| bytes.try_into().ok()).collect())
    }

    /// The X25519 key of a device.
    pub(crate) async fn exchange_key(&self, device: &str) -> Result<Option<[u8; 32]>> {
        let key: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT exchange_key FROM device WHERE id = ?")
                .bind(device)
                .fetch_optional(&self.reader)
                .await?;
        Ok(key.flatten().and_then(|bytes| bytes.try_into().ok()))
    }

    /// Gives a device away: it gets its voucher with each hello until it has left.
    pub(crate) async fn transfer(
        &self,
        device: &str,
        to: &str,
        voucher: &[u8],
        entry: &NewEntry,
    ) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE device SET voucher = ?, transferred_to = ? WHERE id = ?")
            .bind(voucher)
            .bind(to)
            .bind(device)
            .execute(&mut *transaction)
            .await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The voucher of a device that is given away.
    pub(crate) async fn voucher(&self, device: &str) -> Result<Option<Vec<u8>>> {
        let voucher: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT voucher FROM device WHERE id = ?")
                .bind(device)
                .fetch_optional(&self.reader)
                .await?;
        Ok(voucher.flatten())
    }
}
