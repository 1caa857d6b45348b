//! Records out of devices' outboxes: observations, drift profiles and events.
//!
//! `(device, boot, sequence)` names a record; a record that is there already is counted and
//! dropped, so that sending twice changes nothing.

use std::collections::BTreeMap;

use drover_api::{BootStats, Decision, Observation, ObservationSummary};
use drover_wire::message::{self, Batch, Body, Record, Verdict};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Result, Store, digest, event, from_json, to_json};
use crate::clock;
use crate::ingest::describe;

/// A batch of a device whose signature has been verified.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) device: String,
    pub(crate) batch: Batch,
}

/// What became of the records of one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ingested {
    /// Stored now.
    pub(crate) stored: u64,
    /// There already.
    pub(crate) duplicates: u64,
}

/// What one transaction adds to a start of a device's agent.
#[derive(Default)]
struct Counts {
    first_sequence: u64,
    last_sequence: u64,
    /// Times of the first and the last observation.
    span_unix_ms: Option<(u64, u64)>,
    observations: i64,
    anomalous: i64,
    profiles: i64,
    events: i64,
    duplicates: i64,
}

impl Counts {
    fn add(&mut self, record: &Record) {
        if self.first_sequence == 0 {
            self.first_sequence = record.sequence;
        }
        self.first_sequence = self.first_sequence.min(record.sequence);
        self.last_sequence = self.last_sequence.max(record.sequence);
        match &record.body {
            Body::Observation(observation) => {
                self.observations += 1;
                let at = record.unix_ms;
                let (first, last) = self.span_unix_ms.unwrap_or((at, at));
                self.span_unix_ms = Some((first.min(at), last.max(at)));
                self.anomalous += i64::from(observation.decision == Verdict::Anomalous);
            }
            Body::Profile(_) => self.profiles += 1,
            Body::Event(_) => self.events += 1,
        }
    }
}

impl Store {
    /// Stores all records of several batches, or none; when it returns they are safe.
    pub(crate) async fn ingest(&self, uploads: &[Upload]) -> Result<Ingested> {
        let now = clock::unix_ms();
        let mut total = Ingested::default();
        let mut counts: BTreeMap<(&str, u64), Counts> = BTreeMap::new();
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for upload in uploads {
            let name = (upload.device.as_str(), upload.batch.boot);
            let count = counts.entry(name).or_default();
            for record in &upload.batch.records {
                if insert(&mut transaction, name, record, now).await? {
                    total.stored += 1;
                    count.add(record);
                } else {
                    total.duplicates += 1;
                    count.duplicates += 1;
                }
            }
        }
        for ((device, boot), count) in counts {
            add_counts(&mut transaction, device, boot, &count).await?;
        }
        transaction.commit().await?;
        Ok(total)
    }

    /// What is stored of each start of each device.
    pub(crate) async fn boot_stats(&self) -> Result<Vec<BootStats>> {
        let rows = sqlx::query(
            "SELECT b.device, coalesce(d.name, ''), b.boot, b.first_sequence, b.last_sequence,
             b.observations, b.profiles, b.events, b.duplicates FROM boot_count b
             LEFT JOIN device d ON d.id = b.device ORDER BY d.name, b.device, b.boot",
        )
        .fetch_all(&self.reader)
        .await?;
        let stats = |row: SqliteRow| {
            let unsigned = |column: usize| row.get::<i64, _>(column).cast_unsigned();
            let (observations, profiles, events) = (unsigned(5), unsigned(6), unsigned(7));
            BootStats {
                device: row.get(0),
                name: row.get(1),
                boot: unsigned(2),
                records: observations + profiles + events,
                first_sequence: unsigned(3),
                last_sequence: unsigned(4),
                observations,
                profiles,
                events,
                duplicates: unsigned(8),
            }
        };
        Ok(rows.into_iter().map(stats).collect())
    }

    /// The newest observations, of one device or of all.
    pub(crate) async fn observations(
        &self,
        device: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Observation>> {
        const COLUMNS: &str = "SELECT device, boot, sequence, unix_ms, received_unix_ms, model,
            window, score, decision, latency_us FROM observation";
        // Two statements, so that each can use its index.
        let filter = device.map_or("", |_| "WHERE device = ?");
        let sql = format!("{COLUMNS} {filter} ORDER BY rowid DESC LIMIT ?");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        if let Some(device) = device {
            query = query.bind(device);
        }
        let rows = query.bind(limit).fetch_all(&self.reader).await?;
        rows.iter().map(observation).collect()
    }

    /// Each device's observations, summed up.
    pub(crate) async fn observation_summaries(&self) -> Result<Vec<ObservationSummary>> {
        let rows = sqlx::query(
            "SELECT d.id, d.name, coalesce(sum(b.observations), 0), coalesce(sum(b.anomalous), 0),
             coalesce(sum(b.duplicates), 0), count(b.boot), min(b.first_unix_ms),
             max(b.last_unix_ms) FROM device d
             LEFT JOIN boot_count b ON b.device = d.id GROUP BY d.id ORDER BY d.name, d.id",
        )
        .fetch_all(&self.reader)
        .await?;
        let mut summaries = Vec::new();
        for row in rows {
            let device: String = row.get(0);
            let latest = self.observations(Some(&device), 5).await?;
            let unsigned = |n: Option<i64>| n.map(i64::cast_unsigned);
            summaries.push(ObservationSummary {
                device,
                name: row.get(1),
                observations: row.get::<i64, _>(2).cast_unsigned(),
                anomalous: row.get::<i64, _>(3).cast_unsigned(),
                duplicates: row.get::<i64, _>(4).cast_unsigned(),
                boots: row.get::<i64, _>(5).cast_unsigned(),
                first_unix_ms: unsigned(row.get(6)),
                last_unix_ms: unsigned(row.get(7)),
                last_window: latest.first().map(|o| o.window),
                last_scores: latest.iter().filter_map(|o| o.score).collect(),
            });
        }
        Ok(summaries)
    }

    /// Observations stored of all devices.
    pub(crate) async fn observation_count(&self) -> Result<u64> {
        let sum: i64 = sqlx::query_scalar("SELECT coalesce(sum(observations), 0) FROM boot_count")
            .fetch_one(&self.reader)
            .await?;
        Ok(sum.cast_unsigned())
    }

    /// Bundles that have profiles.
    pub(crate) async fn profiled_bundles(&self) -> Result<Vec<[u8; 32]>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT DISTINCT bundle FROM profile")
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter().map(digest).collect()
    }

    /// Encoded profiles of one bundle by device, those whose period ended within `last_ms` of
    /// the newest one's end.
    pub(crate) async fn profiles(
        &self,
        bundle: &[u8; 32],
        last_ms: u64,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let rows = sqlx::query_as(
            "SELECT device, bytes FROM profile WHERE bundle = ?1 AND end_unix_ms >
             (SELECT max(end_unix_ms) FROM profile WHERE bundle = ?1) - ?2
             ORDER BY end_unix_ms",
        )
        .bind(&bundle[..])
        .bind(last_ms.cast_signed())
        .fetch_all(&self.reader)
        .await?;
        Ok(rows)
    }
}

async fn add_counts(
    connection: &mut SqliteConnection,
    device: &str,
    boot: u64,
    count: &Counts,
) -> Result<()> {
    // Sequences begin at 1; a first sequence of 0 comes from duplicates alone.
    sqlx::query(
        "INSERT INTO boot_count VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT(device, boot) DO UPDATE SET
         first_sequence = CASE WHEN excluded.first_sequence = 0 THEN first_sequence
             ELSE min(first_sequence, excluded.first_sequence) END,
         last_sequence = max(last_sequence, excluded.last_sequence),
         first_unix_ms = min(coalesce(first_unix_ms, excluded.first_unix_ms),
             coalesce(excluded.first_unix_ms, first_unix_ms)),
         last_unix_ms = max(coalesce(last_unix_ms, excluded.last_unix_ms),
             coalesce(excluded.last_unix_ms, last_unix_ms)),
         observations = observations + excluded.observations,
         anomalous = anomalous + excluded.anomalous,
         profiles = profiles + excluded.profiles,
         events = events + excluded.events,
         duplicates = duplicates + excluded.duplicates",
    )
    .bind(device)
    .bind(boot.cast_signed())
    .bind(count.first_sequence.cast_signed())
    .bind(count.last_sequence.cast_signed())
    .bind(count.span_unix_ms.map(|s| s.0.cast_signed()))
    .bind(count.span_unix_ms.map(|s| s.1.cast_signed()))
    .bind(count.observations)
    .bind(count.anomalous)
    .bind(count.profiles)
    .bind(count.events)
    .bind(count.duplicates)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    (device, boot): (&str, u64),
    record: &Record,
    now: u64,
) -> Result<bool> {
    match &record.body {
        Body::Observation(observation) => {
            insert_observation(connection, (device, boot), record, observation, now).await
        }
        Body::Profile(bytes) => {
            let Ok(profile) = drover_sketch::Profile::decode(bytes) else {
                // It will never be readable, and unacknowledged it would come for ever.
                let new = describe::unreadable_profile(device);
                return event::insert(connection, &new, Some((boot, record.sequence))).await;
            };
            let done = sqlx::query("INSERT OR IGNORE INTO profile VALUES (?, ?, ?, ?, ?, ?)")
                .bind(device)
                .bind(boot.cast_signed())
                .bind(record.sequence.cast_signed())
                .bind(&profile.bundle[..])
                .bind(profile.end_unix_ms.cast_signed())
                .bind(bytes)
                .execute(connection)
                .await?;
            Ok(done.rows_affected() == 1)
        }
        Body::Event(happened) => {
            let new = describe::event(device, happened);
            event::insert(connection, &new, Some((boot, record.sequence))).await
        }
    }
}

async fn insert_observation(
    connection: &mut SqliteConnection,
    (device, boot): (&str, u64),
    record: &Record,
    observation: &message::Observation,
    now: u64,
) -> Result<bool> {
    let decision = match observation.decision {
        Verdict::None => Decision::None,
        Verdict::Normal => Decision::Normal,
        Verdict::Anomalous => Decision::Anomalous,
        Verdict::Class(class) => Decision::Class(class),
    };
    let done = sqlx::query(
        "INSERT OR IGNORE INTO observation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(device)
    .bind(boot.cast_signed())
    .bind(record.sequence.cast_signed())
    .bind(record.unix_ms.cast_signed())
    .bind(now.cast_signed())
    .bind(&observation.model[..])
    .bind(observation.window.cast_signed())
    .bind(
        observation
            .score
            .is_finite()
            .then_some(f64::from(observation.score)),
    )
    .bind(to_json(&decision)?)
    .bind(observation.latency_us)
    .bind(floats(&observation.input))
    .bind(floats(&observation.output))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Little-endian 32-bit floats; nothing for an empty list.
fn floats(values: &[f32]) -> Option<Vec<u8>> {
    let bytes = || values.iter().flat_map(|v| v.to_le_bytes()).collect();
    (!values.is_empty()).then(bytes)
}

fn observation(row: &SqliteRow) -> Result<Observation> {
    let unsigned = |column: usize| row.get::<i64, _>(column).cast_unsigned();
    Ok(Observation {
        device: row.get(0),
        boot: unsigned(1),
        sequence: unsigned(2),
        unix_ms: unsigned(3),
        received_unix_ms: unsigned(4),
        model: data_encoding::HEXLOWER.encode(row.get(5)),
        window: unsigned(6),
        // Stored from an f32, so nothing is lost.
        score: row.get::<Option<f64>, _>(7).map(|s| s as f32),
        decision: from_json(row.get(8), "observation")?,
        latency_us: row.get(9),
    })
}
