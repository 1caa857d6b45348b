//! The audit log: entries are added and read, never changed; triggers hold everybody else to
//! that as well.
//!
//! An entry is written in the transaction of the change that it tells of, so that a power cut
//! leaves both or neither. Its number and its predecessor's hash are read in that transaction,
//! and there is one writer: the chain never forks.

use drover_api::audit::GENESIS;
use drover_api::{AuditEntry, OperatorRole};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Result, Store};
use crate::clock;

/// An entry to add.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry {
    pub(crate) who: String,
    pub(crate) role: OperatorRole,
    pub(crate) how: String,
    pub(crate) what: &'static str,
    pub(crate) object: String,
    pub(crate) detail: String,
    pub(crate) reason: String,
}

impl NewEntry {
    /// The same entry with the fields that matter.
    pub(crate) fn with(mut self, detail: &serde_json::Value) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// The same entry, about an object whose identity is known only now.
    pub(crate) fn about(mut self, object: String) -> Self {
        self.object = object;
        self
    }
}

impl Store {
    /// Adds an entry about something that is not in the database; to be called before it is
    /// done.
    pub(crate) async fn add_audit(&self, entry: &NewEntry) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Entries above number `after`, oldest first.
    pub(crate) async fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>> {
        let rows = sqlx::query("SELECT * FROM audit WHERE number > ? ORDER BY number LIMIT ?")
            .bind(after.cast_signed())
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        Ok(rows.iter().map(read).collect())
    }

    /// Number and hash of the newest entry.
    pub(crate) async fn audit_end(&self) -> Result<(u64, String)> {
        let mut connection = self.reader.acquire().await?;
        end(&mut connection).await
    }
}

/// Adds an entry in the transaction of the change that it tells of.
pub(super) async fn append(connection: &mut SqliteConnection, new: &NewEntry) -> Result<()> {
    let (last, previous) = end(connection).await?;
    let mut entry = AuditEntry {
        number: last.saturating_add(1),
        unix_ms: clock::unix_ms(),
        who: new.who.clone(),
        role: new.role.as_str().to_owned(),
        how: new.how.clone(),
        what: new.what.to_owned(),
        object: new.object.clone(),
        detail: new.detail.clone(),
        reason: new.reason.clone(),
        previous,
        hash: String::new(),
    };
    entry.hash = entry.compute_hash();
    sqlx::query(
        "INSERT INTO audit(number, unix_ms, who, role, how, what, object, detail, reason,
         previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(entry.number.cast_signed())
    .bind(entry.unix_ms.cast_signed())
    .bind(&entry.who)
    .bind(&entry.role)
    .bind(&entry.how)
    .bind(&entry.what)
    .bind(&entry.object)
    .bind(&entry.detail)
    .bind(&entry.reason)
    .bind(&entry.previous)
    .bind(&entry.hash)
    .execute(connection)
    .await?;
    Ok(())
}

async fn end(connection: &mut SqliteConnection) -> Result<(u64, String)> {
    let newest: Option<(i64, String)> =
        sqlx::query_as("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
            .fetch_optional(connection)
            .await?;
    Ok(newest.map_or((0, GENESIS.to_owned()), |(number, hash)| {
        (number.cast_unsigned(), hash)
    }))
}

fn read(row: &SqliteRow) -> AuditEntry {
    let unsigned = |name: &str| row.get::<i64, _>(name).cast_unsigned();
    AuditEntry {
        number: unsigned("number"),
        unix_ms: unsigned("unix_ms"),
        who: row.get("who"),
        role: row.get("role"),
        how: row.get("how"),
        what: row.get("what"),
        object: row.get("object"),
        detail: row.get("detail"),
        reason: row.get("reason"),
        previous: row.get("previous"),
        hash: row.get("hash"),
    }
}
