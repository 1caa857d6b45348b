//! Events: what happened in the fleet, for people.

use drover_api::{Event, Severity};
use sqlx::{Row as _, Sqlite};

use super::{Result, Store, from_json, to_json};
use crate::clock;

/// An event to store.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) device: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

impl NewEvent {
    pub(crate) fn of(device: &str, severity: Severity, kind: &'static str, detail: String) -> Self {
        Self {
            device: Some(device.to_owned()),
            severity,
            kind,
            detail,
        }
    }
}

impl Store {
    /// Stores an event of the server's own.
    pub(crate) async fn add_event(&self, event: &NewEvent) -> Result<()> {
        insert(&self.writer, event, None).await?;
        Ok(())
    }

    /// The newest events, of one device or of all.
    pub(crate) async fn events(&self, device: Option<&str>, limit: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query(
            "SELECT id, unix_ms, device, severity, kind, detail FROM event
             WHERE ?1 IS NULL OR device = ?1 ORDER BY id DESC LIMIT ?2",
        )
        .bind(device)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        let event = |row: sqlx::sqlite::SqliteRow| {
            Ok(Event {
                id: row.get::<i64, _>(0).cast_unsigned(),
                unix_ms: row.get::<i64, _>(1).cast_unsigned(),
                device: row.get(2),
                severity: from_json(row.get(3), "event")?,
                kind: row.get(4),
                detail: row.get(5),
            })
        };
        rows.into_iter().map(event).collect()
    }
}

/// Stores an event; one that a device recorded carries the record's name and is stored once.
pub(super) async fn insert<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    event: &NewEvent,
    record: Option<(u64, u64)>,
) -> Result<bool> {
    let done = sqlx::query(
        "INSERT OR IGNORE INTO event(unix_ms, device, severity, kind, detail, boot, sequence)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(clock::unix_ms().cast_signed())
    .bind(event.device.as_deref())
    .bind(to_json(&event.severity)?)
    .bind(event.kind)
    .bind(&event.detail)
    .bind(record.map(|r| r.0.cast_signed()))
    .bind(record.map(|r| r.1.cast_signed()))
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}
