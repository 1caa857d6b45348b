//! Tokens that let their bearers in: `drover_<id>.<secret>`, of which the server keeps the
//! SHA-256 alone. A secret has 256 random bits, so that a plain hash is enough.

use drover_api::{ApiToken, CreateApiToken, NewApiToken, OperatorRole, Secret, TokenKind};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Actor, BOOTSTRAP, How, OIDC_PREFIX, Who};
use crate::http::Refusal;
use crate::state::Core;
use crate::store::{NewEntry, NewToken};
use crate::{ServerError, clock, random};

/// What every token begins with: scanners for leaked secrets find it.
const PREFIX: &str = "drover_";
/// Longest life of a token, in seconds.
const MAX_TTL_SECS: u64 = 366 * 24 * 3600;
const MAX_NAME_BYTES: usize = 128;

/// Who shows `shown`, if it is any good now.
pub(super) async fn check(core: &Core, shown: &str) -> Result<Option<Who>, ServerError> {
    let hash = hash(shown);
    // Hashes are compared, so that timing tells nothing of the token.
    if hash == self::hash(&core.operator_token) {
        return Ok(Some(Who {
            account: BOOTSTRAP.to_owned(),
            role: OperatorRole::Admin,
            how: How::Bootstrap,
        }));
    }
    let parts = shown.strip_prefix(PREFIX).and_then(|t| t.split_once('.'));
    let Some((id, _)) = parts else {
        return Ok(None);
    };
    let Some(row) = core.store.token(id).await? else {
        return Ok(None);
    };
    let about = row.about;
    if row.sha256 != hash || about.revoked || about.expires_unix_s <= clock::unix_s() {
        return Ok(None);
    }
    // A token never outlives its account, nor what its account may do.
    let role = match row.operator {
        Some(operator) if operator.disabled => return Ok(None),
        Some(operator) => about.role.min(operator.role),
        None if about.account == BOOTSTRAP || about.account.starts_with(OIDC_PREFIX) => about.role,
        None => return Ok(None),
    };
    Ok(Some(Who {
        account: about.account,
        role,
        how: How::Token {
            id: about.id,
            expires_unix_s: about.expires_unix_s,
        },
    }))
}

/// Makes a token for a program of whoever asks.
pub(crate) async fn create(
    core: &Core,
    actor: &Actor,
    request: &CreateApiToken,
) -> Result<NewApiToken, Refusal> {
    let name = request.name.trim();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Refusal::bad(format!(
            "name: 1 to {MAX_NAME_BYTES} bytes without control characters"
        )));
    }
    if !(1..=MAX_TTL_SECS).contains(&request.ttl_secs) {
        return Err(Refusal::bad(format!("ttl_secs: use 1 to {MAX_TTL_SECS}")));
    }
    let who = &actor.who;
    if request.role > who.role {
        return Err(Refusal::not_allowed(format!(
            "a token may not do more than its maker, and {} has the role {}",
            who.account, who.role
        )));
    }
    let mut expires_unix_s = clock::unix_s().saturating_add(request.ttl_secs);
    // Nobody here knows when the issuer closes an account: what it let in, it lets in again.
    if let How::Token {
        expires_unix_s: end,
        ..
    } = who.how
        && who.account.starts_with(OIDC_PREFIX)
    {
        expires_unix_s = expires_unix_s.min(end);
    }
    let about = ApiToken {
        id: random::id()?,
        name: name.to_owned(),
        account: who.account.clone(),
        role: request.role,
        kind: TokenKind::Api,
        created_unix_s: clock::unix_s(),
        expires_unix_s,
        revoked: false,
    };
    let entry = actor.entry("token.create", about.id.clone());
    store(core, about, entry).await
}

/// Makes and stores a token of which only the secret is still missing.
pub(super) async fn store(
    core: &Core,
    about: ApiToken,
    entry: NewEntry,
) -> Result<NewApiToken, Refusal> {
    let token = format!("{PREFIX}{}.{}", about.id, random::secret()?);
    let new = NewToken {
        sha256: hash(&token),
        about,
    };
    let about = &new.about;
    let entry = entry.with(&json!({
        "account": about.account,
        "expires_unix_s": about.expires_unix_s,
        "name": about.name,
        "role": about.role,
    }));
    core.store.add_token(&new, &entry).await?;
    Ok(NewApiToken {
        token: Secret::new(token),
        about: new.about,
    })
}

/// Tokens that whoever asks may see: an admin all, everybody else their own.
pub(crate) async fn list(core: &Core, who: &Who) -> Result<Vec<ApiToken>, ServerError> {
    let account = (who.role < OperatorRole::Admin).then_some(who.account.as_str());
    core.store.tokens(account).await
}

/// Ends a token: one's own, or as an admin anybody's.
pub(crate) async fn revoke(core: &Core, actor: &Actor, id: &str) -> Result<ApiToken, Refusal> {
    let missing = || {
        Refusal::not_found(format!(
            "no token of yours is {id:?}; see `drover token list`"
        ))
    };
    let mut about = core.store.token(id).await?.ok_or_else(missing)?.about;
    let who = &actor.who;
    if about.account != who.account && who.role < OperatorRole::Admin {
        return Err(missing());
    }
    let before = json!({ "account": about.account, "name": about.name, "role": about.role });
    let entry = actor.entry("token.revoke", id).with(&before);
    core.store.revoke_token(id, &entry).await?;
    about.revoked = true;
    Ok(about)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
