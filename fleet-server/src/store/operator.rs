//! Accounts of operators, and the tokens that let them in.
//!
//! Of passwords and tokens only hashes are here. Every change takes its audit entry along, in
//! one transaction.

use drover_api::{ApiToken, Operator, OperatorRole};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::audit::{NewEntry, append};
use super::{Result, Store, digest, from_json, to_json};
use crate::clock;

/// A token to store.
#[derive(Clone, Debug)]
pub(crate) struct NewToken {
    pub(crate) sha256: [u8; 32],
    pub(crate) about: ApiToken,
}

/// A token and the account that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct TokenRow {
    pub(crate) sha256: [u8; 32],
    pub(crate) about: ApiToken,
    /// The account, where it is kept here.
    pub(crate) operator: Option<Operator>,
}

/// What changes of an account.
#[derive(Clone, Debug)]
pub(crate) enum AccountChange {
    /// Its role.
    Role(OperatorRole),
    /// Whether it is closed.
    Disabled(bool),
    /// The hash of its password; tokens got by logging in end.
    Password(String),
}

const TOKEN: &str = "t.id, t.sha256, t.name, t.account, t.role, t.kind, t.created_unix_s,
    t.expires_unix_s, t.revoked";

impl Store {
    /// Adds an account; `false` when the name is taken.
    pub(crate) async fn add_operator(
        &self,
        operator: &Operator,
        password: &str,
        entry: &NewEntry,
    ) -> Result<bool> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query(
            "INSERT OR IGNORE INTO operator(name, role, password, disabled, created_unix_s)
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&operator.name)
        .bind(to_json(&operator.role)?)
        .bind(password)
        .bind(operator.disabled)
        .bind(operator.created_unix_s.cast_signed())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// All accounts, by name.
    pub(crate) async fn operators(&self) -> Result<Vec<Operator>> {
        let rows =
            sqlx::query("SELECT name, role, disabled, created_unix_s FROM operator ORDER BY name")
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(read).collect()
    }

    /// One account, and the hash of its password.
    pub(crate) async fn operator(&self, name: &str) -> Result<Option<(Operator, String)>> {
        let row = sqlx::query(
            "SELECT name, role, disabled, created_unix_s, password FROM operator WHERE name = ?",
        )
        .bind(name)
        .fetch_optional(&self.reader)
        .await?;
        row.map(|row| Ok((read(&row)?, row.get(4)))).transpose()
    }

    /// Changes an account that is there.
    pub(crate) async fn change_operator(
        &self,
        name: &str,
        change: &AccountChange,
        entry: &NewEntry,
    ) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        match change {
            AccountChange::Role(role) => {
                sqlx::query("UPDATE operator SET role = ? WHERE name = ?")
                    .bind(to_json(role)?)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
            }
            AccountChange::Disabled(disabled) => {
                sqlx::query("UPDATE operator SET disabled = ? WHERE name = ?")
                    .bind(disabled)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                // Who comes back logs in again.
                sqlx::query("UPDATE api_token SET revoked = 1 WHERE account = ? AND ?")
                    .bind(name)
                    .bind(disabled)
                    .execute(&mut *transaction)
                    .await?;
            }
            AccountChange::Password(hash) => {
                sqlx::query("UPDATE operator SET password = ? WHERE name = ?")
                    .bind(hash)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                sqlx::query("UPDATE api_token SET revoked = 1 WHERE account = ? AND kind = ?")
                    .bind(name)
                    .bind(to_json(&drover_api::TokenKind::Login)?)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Adds a token.
    pub(crate) async fn add_token(&self, token: &NewToken, entry: &NewEntry) -> Result<()> {
        let about = &token.about;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO api_token(id, sha256, name, account, role, kind, created_unix_s,
             expires_unix_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&about.id)
        .bind(&token.sha256[..])
        .bind(&about.name)
        .bind(&about.account)
        .bind(to_json(&about.role)?)
        .bind(to_json(&about.kind)?)
        .bind(about.created_unix_s.cast_signed())
        .bind(about.expires_unix_s.cast_signed())
        .execute(&mut *transaction)
        .await?;
        // Tokens that ended long ago help nobody; the audit log knows that they were.
        sqlx::query("DELETE FROM api_token WHERE expires_unix_s < ?")
            .bind(clock::unix_s().saturating_sub(KEEP_SECS).cast_signed())
            .execute(&mut *transaction)
            .await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A token by its identity.
    pub(crate) async fn token(&self, id: &str) -> Result<Option<TokenRow>> {
        let sql = format!(
            "SELECT {TOKEN}, o.name, o.role, o.disabled, o.created_unix_s
             FROM api_token t LEFT JOIN operator o ON o.name = t.account WHERE t.id = ?"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| {
            let operator = match row.get::<Option<String>, _>(9) {
                None => None,
                Some(name) => Some(Operator {
                    name,
                    role: from_json(row.get(10), "operator")?,
                    disabled: row.get(11),
                    created_unix_s: row.get::<i64, _>(12).cast_unsigned(),
                }),
            };
            Ok(TokenRow {
                sha256: digest(row.get(1))?,
                about: read_token(&row)?,
                operator,
            })
        })
        .transpose()
    }

    /// All tokens, of one account or of all, newest first.
    pub(crate) async fn tokens(&self, account: Option<&str>) -> Result<Vec<ApiToken>> {
        let sql = format!(
            "SELECT {TOKEN} FROM api_token t WHERE ?1 IS NULL OR account = ?1
             ORDER BY created_unix_s DESC, rowid DESC"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(account)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read_token).collect()
    }

    /// Ends a token.
    pub(crate) async fn revoke_token(&self, id: &str, entry: &NewEntry) -> Result<()> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE api_token SET revoked = 1 WHERE id = ?")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        append(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// How long an ended token is still listed, in seconds.
const KEEP_SECS: u64 = 30 * 24 * 3600;

fn read(row: &SqliteRow) -> Result<Operator> {
    Ok(Operator {
        name: row.get(0),
        role: from_json(row.get(1), "operator")?,
        disabled: row.get(2),
        created_unix_s: row.get::<i64, _>(3).cast_unsigned(),
    })
}

fn read_token(row: &SqliteRow) -> Result<ApiToken> {
    Ok(ApiToken {
        id: row.get(0),
        name: row.get(2),
        account: row.get(3),
        role: from_json(row.get(4), "token")?,
        kind: from_json(row.get(5), "token")?,
        created_unix_s: row.get::<i64, _>(6).cast_unsigned(),
        expires_unix_s: row.get::<i64, _>(7).cast_unsigned(),
        revoked: row.get(8),
    })
}
