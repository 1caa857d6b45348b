//! Certificates that were issued, and what became of them.
//!
//! A serial number is recorded before its certificate leaves the server, so that whatever a
//! power cut interrupts can be revoked. The rows say who a certificate is of: nothing is read
//! from the names inside it but what the TLS library has checked.

use sqlx::{Row as _, SqliteConnection};

use super::audit::{NewEntry, append};
use super::{Result, Store};
use crate::ServerError;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A device's own key.
    Device,
    /// This server, or a broker beside it.
    Server,
    /// A person or program that operates the fleet.
    Operator,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Server => "server",
            Self::Operator => "operator",
        }
    }

    fn of(name: &str) -> Result<Self> {
        match name {
            "device" => Ok(Self::Device),
            "server" => Ok(Self::Server),
            "operator" => Ok(Self::Operator),
            _ => Err(ServerError::Stored {
                what: "certificate",
            }),
        }
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub(crate) struct CertificateRow {
    pub(crate) serial: Vec<u8>,
    pub(crate) subject: String,
    pub(crate) kind: Kind,
    pub(crate) not_before_unix_s: u64,
    pub(crate) not_after_unix_s: u64,
    pub(crate) revoked_unix_s: Option<u64>,
}

/// Whether a device may connect now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It takes part.
    Welcome,
    /// It never enrolled, or not here.
    Unknown,
    /// An operator has yet to approve it.
    Waiting,
    /// An operator took its certificates back.
    Revoked,
    /// Something is wrong with its identity, and an operator has to look.
    Quarantined,
}

impl Admission {
    /// For people.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Welcome => "it takes part",
            Self::Unknown => "it is not known here",
            Self::Waiting => "it waits for approval",
            Self::Revoked => "it was revoked",
            Self::Quarantined => "it is quarantined",
        }
    }
}

impl Store {
    /// Records a certificate that is about to be handed out.
    pub(crate) async fn add_certificate(&self, row: &CertificateRow) -> Result<()> {
        let mut connection = self.writer.acquire().await?;
        insert(&mut connection, row).await
    }

    /// The same where an operator asked for it.
    pub(crate) async fn add_certificate_for(
        &self,
        row: &CertificateRow,
        entry: &NewEntry,
    ) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        insert(&mut transaction, row).await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The certificate with a serial number.
    pub(crate) async fn certificate(&self, serial: &[u8]) -> Result<Option<CertificateRow>> {
        let row = sqlx::query(
            "SELECT serial, subject, kind, not_before_unix_s, not_after_unix_s, revoked_unix_s
             FROM certificate WHERE serial = ?",
        )
        .bind(serial)
        .fetch_optional(&self.reader)
        .await?;
        row.map(|row| {
            Ok(CertificateRow {
                serial: row.get(0),
                subject: row.get(1),
                kind: Kind::of(row.get(2))?,
                not_before_unix_s: row.get::<i64, _>(3).cast_unsigned(),
                not_after_unix_s: row.get::<i64, _>(4).cast_unsigned(),
                revoked_unix_s: row.get::<Option<i64>, _>(5).map(i64::cast_unsigned),
            })
        })
        .transpose()
    }

    /// Serial numbers and times of revocation of all certificates that were revoked, or whose
    /// device is quarantined, and that would still be valid.
    pub(crate) async fn revoked_serials(&self, now_unix_s: u64) -> Result<Vec<(Vec<u8>, u64)>> {
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT serial, coalesce(revoked_unix_s, ?1) FROM certificate
             WHERE (revoked_unix_s IS NOT NULL
              OR subject IN (SELECT id FROM device WHERE quarantined IS NOT NULL))
             AND not_after_unix_s >= ?1 ORDER BY serial",
        )
        .bind(now_unix_s.cast_signed())
        .fetch_all(&self.reader)
        .await?;
        let unsigned = |(serial, at): (Vec<u8>, i64)| (serial, at.cast_unsigned());
        Ok(rows.into_iter().map(unsigned).collect())
    }

    /// Takes back every certificate of a subject; says how many were valid.
    pub(crate) async fn revoke_certificates(
        &self,
        subject: &str,
        now_unix_s: u64,
        entry: &NewEntry,
    ) -> Result<u64> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query(
            "UPDATE certificate SET revoked_unix_s = ?2
             WHERE subject = ?1 AND revoked_unix_s IS NULL AND not_after_unix_s >= ?2",
        )
        .bind(subject)
        .bind(now_unix_s.cast_signed())
        .execute(&mut *transaction)
        .await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Forgets certificates that ended before a time: nobody can show them any more.
    pub(crate) async fn forget_certificates(&self, before_unix_s: u64) -> Result<()> {
        sqlx::query("DELETE FROM certificate WHERE not_after_unix_s < ?")
            .bind(before_unix_s.cast_signed())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Takes back one certificate.
    pub(crate) async fn revoke_certificate(&self, serial: &[u8], now_unix_s: u64) -> Result<()> {
        sqlx::query("UPDATE certificate SET revoked_unix_s = ? WHERE serial = ?")
            .bind(now_unix_s.cast_signed())
            .bind(serial)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Takes back a device's certificates and admits it no more.
    pub(crate) async fn revoke_device(
        &self,
        device: &str,
        reason: &str,
        now_unix_s: u64,
        entry: &NewEntry,
    ) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE device SET revoked = ? WHERE id = ?")
            .bind(reason)
            .bind(device)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "UPDATE certificate SET revoked_unix_s = ? WHERE subject = ?
             AND revoked_unix_s IS NULL",
        )
        .bind(now_unix_s.cast_signed())
        .bind(device)
        .execute(&mut *transaction)
        .await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Keeps a device out until an operator approves it again; says whether that is news.
    pub(crate) async fn quarantine(&self, device: &str, reason: &str) -> Result<bool> {
        let done =
            sqlx::query("UPDATE device SET quarantined = ? WHERE id = ? AND quarantined IS NULL")
                .bind(reason)
                .bind(device)
                .execute(&self.writer)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether a device may connect and be served now.
    pub(crate) async fn admission(&self, device: &str) -> Result<Admission> {
        let row: Option<(bool, bool, bool)> = sqlx::query_as(
            "SELECT approved, revoked IS NOT NULL, quarantined IS NOT NULL
             FROM device WHERE id = ?",
        )
        .bind(device)
        .fetch_optional(&self.reader)
        .await?;
        Ok(match row {
            None => Admission::Unknown,
            Some((_, true, _)) => Admission::Revoked,
            Some((_, _, true)) => Admission::Quarantined,
            Some((false, ..)) => Admission::Waiting,
            Some(_) => Admission::Welcome,
        })
    }
}

async fn insert(connection: &mut SqliteConnection, row: &CertificateRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO certificate(serial, subject, kind, not_before_unix_s, not_after_unix_s)
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(&row.serial)
    .bind(&row.subject)
    .bind(row.kind.name())
    .bind(row.not_before_unix_s.cast_signed())
    .bind(row.not_after_unix_s.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}
