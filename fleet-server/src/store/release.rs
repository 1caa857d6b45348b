//! Published releases. The bundles themselves lie in the data folder.

use drover_api::Release;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::audit::{NewEntry, append};
use super::{Result, Store, digest, from_json, to_json};

/// A release and where its chunks are.
#[derive(Clone, Debug)]
pub(crate) struct ReleaseRow {
    pub(crate) digest: [u8; 32],
    pub(crate) envelope: Vec<u8>,
    pub(crate) summary: Release,
    /// Where the payload begins in the container.
    pub(crate) payload_offset: u64,
    pub(crate) chunk_bytes: u32,
}

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// It is in the catalogue now.
    New,
    /// It was there already.
    Same,
    /// A release of the name has this counter or a higher one.
    Behind {
        /// Highest counter.
        counter: u64,
        /// Its version.
        version: String,
    },
}

const COLUMNS: &str = "digest, envelope, summary, payload_offset, chunk_bytes, sent_bytes";

impl Store {
    /// What [`Self::add_release`] would say, without doing it.
    pub(crate) async fn check_release(&self, release: &Release) -> Result<Published> {
        check(&self.reader, release).await
    }

    /// Adds a release whose bundle is stored and verified.
    pub(crate) async fn add_release(
        &self,
        release: &ReleaseRow,
        entry: &NewEntry,
    ) -> Result<Published> {
        let summary = &release.summary;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let verdict = check(&mut *transaction, summary).await?;
        if verdict != Published::New {
            return Ok(verdict);
        }
        sqlx::query(
            "INSERT INTO release(digest, name, version, counter, envelope, summary,
             payload_offset, chunk_bytes, published_unix_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&release.digest[..])
        .bind(&summary.name)
        .bind(&summary.version)
        .bind(summary.counter.cast_signed())
        .bind(&release.envelope)
        .bind(to_json(summary)?)
        .bind(release.payload_offset.cast_signed())
        .bind(release.chunk_bytes)
        .bind(summary.published_unix_s.cast_signed())
        .execute(&mut *transaction)
        .await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(Published::New)
    }

    /// One release by its digest.
    pub(crate) async fn release(&self, digest: &[u8; 32]) -> Result<Option<ReleaseRow>> {
        let sql = format!("SELECT {COLUMNS} FROM release WHERE digest = ?");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(&digest[..])
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// All releases, newest first.
    pub(crate) async fn releases(&self) -> Result<Vec<ReleaseRow>> {
        let sql = format!("SELECT {COLUMNS} FROM release ORDER BY rowid DESC");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Takes a release's new signatures; its content is the same.
    pub(crate) async fn resign(&self, digest: &[u8; 32], envelope: &[u8]) -> Result<()> {
        sqlx::query("UPDATE release SET envelope = ? WHERE digest = ?")
            .bind(envelope)
            .bind(&digest[..])
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Counts bytes of chunks that were sent.
    pub(crate) async fn add_sent_bytes(&self, digest: &[u8; 32], bytes: u64) -> Result<()> {
        sqlx::query("UPDATE release SET sent_bytes = sent_bytes + ? WHERE digest = ?")
            .bind(bytes.cast_signed())
            .bind(&digest[..])
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

async fn check<'e>(
    executor: impl sqlx::Executor<'e, Database = sqlx::Sqlite>,
    release: &Release,
) -> Result<Published> {
    let newest: Option<(i64, String, Vec<u8>)> = sqlx::query_as(
        "SELECT counter, version, digest FROM release WHERE name = ?
         ORDER BY lower(hex(digest)) = ? DESC, counter DESC LIMIT 1",
    )
    .bind(&release.name)
    .bind(&release.digest)
    .fetch_optional(executor)
    .await?;
    Ok(match newest {
        Some((_, _, digest)) if data_encoding::HEXLOWER.encode(&digest) == release.digest => {
            Published::Same
        }
        Some((counter, version, _)) if counter.cast_unsigned() >= release.counter => {
            Published::Behind {
                counter: counter.cast_unsigned(),
                version,
            }
        }
        _ => Published::New,
    })
}

fn read(row: &SqliteRow) -> Result<ReleaseRow> {
    let mut summary: Release = from_json(row.get(2), "release")?;
    summary.sent_bytes = row.get::<i64, _>(5).cast_unsigned();
    Ok(ReleaseRow {
        digest: digest(row.get(0))?,
        envelope: row.get(1),
        summary,
        payload_offset: row.get::<i64, _>(3).cast_unsigned(),
        chunk_bytes: row.get(4),
    })
}
