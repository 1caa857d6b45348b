//! The database behind the server, and the only module that knows SQL.
//!
//! Each method is one transaction. The journal is write-ahead with `synchronous=FULL`, so what
//! a method has returned from survives a power cut; a transaction that a cut interrupts leaves
//! nothing. All writes go through one connection and never wait for each other's locks.

mod approval;
mod audit;
mod certificate;
mod device;
mod event;
mod operator;
mod record;
mod release;
mod rollout;
mod schema;
mod trust;

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::ServerError;

pub(crate) use approval::Approved;
pub(crate) use audit::NewEntry;
pub(crate) use certificate::{Admission, CertificateRow, Kind};
pub(crate) use device::{Claim, ClaimOutcome, DeviceRow, NewDevice, StoredState};
pub(crate) use event::NewEvent;
pub(crate) use operator::{AccountChange, NewToken};
pub(crate) use record::Upload;
pub(crate) use release::{Published, ReleaseRow};
pub(crate) use rollout::{Assigned, MemberRow, NewRollout, RolloutRow, Signed};
pub(crate) use trust::{CatalogRow, Counted, Numbers};

type Result<T> = std::result::Result<T, ServerError>;

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Store {
    /// Opens or makes the database and brings its format up to date.
    pub(crate) async fn open(path: &Path, fleet: &str) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(std::time::Duration::from_secs(10));
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        schema::migrate(&writer).await?;
        let reader = pool(4).connect_with(options.read_only(true)).await?;
        let store = Self { writer, reader };
        store.claim_for(fleet).await?;
        Ok(store)
    }

    /// Flushes and closes.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Whether the database answers.
    pub(crate) async fn answers(&self) -> bool {
        let query = sqlx::query_scalar::<_, i64>("SELECT 1");
        query.fetch_one(&self.reader).await.is_ok()
    }

    /// A data folder is of one fleet for ever.
    async fn claim_for(&self, fleet: &str) -> Result<()> {
        sqlx::query("INSERT OR IGNORE INTO meta(key, value) VALUES ('fleet', ?)")
            .bind(fleet)
            .execute(&self.writer)
            .await?;
        let have: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'fleet'")
            .fetch_one(&self.writer)
            .await?;
        if have != fleet {
            return Err(ServerError::Fleet {
                have,
                got: fleet.to_owned(),
            });
        }
        Ok(())
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| ServerError::Encode)
}

fn from_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| ServerError::Stored { what })
}

fn digest(bytes: Vec<u8>) -> Result<[u8; 32]> {
    let stored = ServerError::Stored { what: "digest" };
    bytes.try_into().map_err(|_| stored)
}

#[cfg(test)]
mod tests;
