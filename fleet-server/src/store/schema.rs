//! The tables, and how older databases become newer ones.
//!
//! `PRAGMA user_version` counts the steps that have been made; each step and its count are one
//! transaction. Steps are never edited once released. Unsigned 64-bit numbers are stored as
//! the signed number of the same bits.

use sqlx::SqlitePool;

use crate::ServerError;

/// One step per format version, in order.
const STEPS: &[&str] = &[
    "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE claim (
    id TEXT PRIMARY KEY,
    k BLOB NOT NULL,
    expires_unix_s INTEGER NOT NULL,
    auto_approve INTEGER NOT NULL,
    labels TEXT NOT NULL,
    device TEXT
) STRICT;

CREATE TABLE device (
    id TEXT PRIMARY KEY,
    public_key BLOB NOT NULL,
    password_sha256 BLOB NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    arch TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    memory_bytes INTEGER NOT NULL DEFAULT 0,
    approved INTEGER NOT NULL,
    enrolled_unix_s INTEGER NOT NULL,
    boot INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL DEFAULT 0,
    state TEXT,
    wanted INTEGER NOT NULL DEFAULT 0,
    assignment BLOB,
    assignment_expires_unix_s INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE device_seen (device TEXT PRIMARY KEY, unix_ms INTEGER NOT NULL) STRICT;

CREATE TABLE boot_count (
    device TEXT NOT NULL,
    boot INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    first_unix_ms INTEGER,
    last_unix_ms INTEGER,
    observations INTEGER NOT NULL,
    anomalous INTEGER NOT NULL,
    profiles INTEGER NOT NULL,
    events INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    PRIMARY KEY (device, boot)
) STRICT, WITHOUT ROWID;

CREATE TABLE release (
    digest BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    counter INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    summary TEXT NOT NULL,
    payload_offset INTEGER NOT NULL,
    chunk_bytes INTEGER NOT NULL,
    published_unix_s INTEGER NOT NULL,
    sent_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (name, counter)
) STRICT;

CREATE TABLE rollout (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL REFERENCES release(digest),
    name TEXT NOT NULL,
    selector TEXT NOT NULL,
    strategy TEXT NOT NULL,
    policy TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    stage INTEGER NOT NULL DEFAULT 0,
    sent_before INTEGER NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    completed_unix_ms INTEGER
) STRICT;

CREATE TABLE member (
    rollout INTEGER NOT NULL REFERENCES rollout(id),
    device TEXT NOT NULL REFERENCES device(id),
    stage INTEGER NOT NULL,
    sequence INTEGER,
    assigned_unix_ms INTEGER,
    status TEXT NOT NULL,
    updating INTEGER NOT NULL,
    changed_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (rollout, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_by_device ON member(device);

CREATE TABLE target (
    device TEXT NOT NULL REFERENCES device(id),
    name TEXT NOT NULL,
    rollout INTEGER NOT NULL REFERENCES rollout(id),
    digest BLOB NOT NULL,
    counter INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,
    PRIMARY KEY (device, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE observation (
    device TEXT NOT NULL,
    boot INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    unix_ms INTEGER NOT NULL,
    received_unix_ms INTEGER NOT NULL,
    model BLOB NOT NULL,
    window INTEGER NOT NULL,
    score REAL,
    decision TEXT NOT NULL,
    latency_us INTEGER NOT NULL,
    input BLOB,
    output BLOB,
    PRIMARY KEY (device, boot, sequence)
) STRICT;
CREATE INDEX observation_by_device ON observation(device);

CREATE TABLE profile (
    device TEXT NOT NULL,
    boot INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    bundle BLOB NOT NULL,
    end_unix_ms INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (device, boot, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX profile_by_bundle ON profile(bundle, end_unix_ms);

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unix_ms INTEGER NOT NULL,
    device TEXT,
    severity TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    boot INTEGER,
    sequence INTEGER,
    UNIQUE (device, boot, sequence)
) STRICT;
",
    "
-- Certificates came in place of MQTT passwords.
CREATE TABLE certificate (
    serial BLOB PRIMARY KEY,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    not_before_unix_s INTEGER NOT NULL,
    not_after_unix_s INTEGER NOT NULL,
    revoked_unix_s INTEGER
) STRICT;
CREATE INDEX certificate_by_subject ON certificate(subject);

ALTER TABLE device DROP COLUMN password_sha256;
ALTER TABLE device ADD COLUMN exchange_key BLOB;
ALTER TABLE device ADD COLUMN hardware TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN revoked TEXT;
ALTER TABLE device ADD COLUMN quarantined TEXT;
ALTER TABLE claim ADD COLUMN rule TEXT;
ALTER TABLE claim ADD COLUMN nonces BLOB NOT NULL DEFAULT x'';
",
    "
-- What devices trust and how far they have counted, the catalog, and moves to other fleets.
ALTER TABLE target ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claim ADD COLUMN device_id_bound TEXT;
ALTER TABLE device ADD COLUMN trust TEXT;
ALTER TABLE device ADD COLUMN root_version INTEGER;
ALTER TABLE device ADD COLUMN fresh_unix_s INTEGER;
ALTER TABLE device ADD COLUMN stale_since_unix_s INTEGER;
ALTER TABLE device ADD COLUMN instance BLOB;
ALTER TABLE device ADD COLUMN numbering INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN voucher BLOB;
ALTER TABLE device ADD COLUMN transferred_to TEXT;

CREATE TABLE instance (
    device TEXT NOT NULL,
    instance BLOB NOT NULL,
    boot INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    PRIMARY KEY (device, instance)
) STRICT, WITHOUT ROWID;

CREATE TABLE catalog (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    issued_unix_s INTEGER NOT NULL,
    expires_unix_s INTEGER NOT NULL,
    envelope BLOB NOT NULL
) STRICT;
",
    "
-- Accounts and their tokens, the audit log, and rollouts that a second person approves.
CREATE TABLE operator (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    created_unix_s INTEGER NOT NULL
) STRICT;

CREATE TABLE api_token (
    id TEXT PRIMARY KEY,
    sha256 BLOB NOT NULL,
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_unix_s INTEGER NOT NULL,
    expires_unix_s INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX api_token_by_account ON api_token(account);

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    unix_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    role TEXT NOT NULL,
    how TEXT NOT NULL,
    what TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    reason TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
-- Replacing a row deletes it without the trigger below being asked.
CREATE TRIGGER audit_grows_by_one BEFORE INSERT ON audit
    WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM audit)
    BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_is_never_cut BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;

ALTER TABLE rollout ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN approved_by TEXT;
",
];

/// Makes the steps that are missing.
pub(super) async fn migrate(writer: &SqlitePool) -> Result<(), ServerError> {
    let have: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(writer)
        .await?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if have > known {
        return Err(ServerError::Schema { got: have, known });
    }
    let done = usize::try_from(have).unwrap_or(0);
    for &step in STEPS.iter().skip(done) {
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(step).execute(&mut *transaction).await?;
        // A pragma takes no parameters; adding one is all that is needed here.
        let next: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut *transaction)
            .await?;
        let statement = format!("PRAGMA user_version = {}", next + 1);
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}
