//! Logging in: by password, or at the OpenID Connect issuer; either gives a token of hours.

use std::net::IpAddr;
use std::sync::Arc;

use drover_api::{
    ApiToken, FinishOidc, Login, NewApiToken, OperatorRole, Severity, StartOidc, StartedOidc,
    TokenKind,
};

use super::{OIDC_PREFIX, oidc, token};
use crate::http::Refusal;
use crate::state::Core;
use crate::store::{NewEntry, NewEvent};
use crate::{clock, random};

/// How long a login lasts, in seconds: a working day.
const TTL_SECS: u64 = 12 * 3600;
const MAX_NAME_BYTES: usize = 64;

/// Logs in with a password.
pub(crate) async fn login(
    core: &Core,
    request: &Login,
    address: Option<IpAddr>,
    reason: String,
) -> Result<NewApiToken, Refusal> {
    let wrong = || Refusal::wrong_login("the name or the password is wrong");
    if request.name.len() > MAX_NAME_BYTES {
        return Err(wrong());
    }
    let operators = &core.operators;
    operators.attempt(Some(&request.name), address)?;
    let found = core.store.operator(&request.name).await?;
    let hash = found.as_ref().map(|(_, hash)| hash.clone());
    let right = operators.passwords.verify(&request.password, hash).await?;
    let operator = found.map(|(operator, _)| operator);
    let Some(operator) = operator.filter(|o| right && !o.disabled) else {
        let from = address.map_or_else(String::new, |a| format!(" from {a}"));
        note(core, format!("as {:?}{from}", request.name)).await?;
        return Err(wrong());
    };
    let grant = Grant {
        account: operator.name,
        name: "login".into(),
        role: operator.role,
        kind: TokenKind::Login,
        how: "password".into(),
    };
    issue(core, grant, reason).await
}

/// Begins to log in at the issuer.
pub(crate) async fn start_oidc(
    core: &Core,
    request: &StartOidc,
    address: Option<IpAddr>,
) -> Result<StartedOidc, Refusal> {
    let oidc = configured(core)?;
    core.operators.attempt(None, address)?;
    let request = request.clone();
    blocking(move || oidc.start(&request)).await
}

/// Ends logging in at the issuer.
pub(crate) async fn finish_oidc(
    core: &Core,
    request: &FinishOidc,
    address: Option<IpAddr>,
    reason: String,
) -> Result<NewApiToken, Refusal> {
    let oidc = configured(core)?;
    // Attempts were counted when they began; what nobody began is not worth an event.
    let attempt = oidc.take(&request.state)?;
    let request = request.clone();
    match blocking(move || oidc.finish(attempt, &request)).await {
        Ok(person) => {
            let grant = Grant {
                account: format!("{OIDC_PREFIX}{}", person.subject),
                name: person.name,
                role: person.role,
                kind: TokenKind::Oidc,
                how: format!("issuer {}", person.issuer),
            };
            issue(core, grant, reason).await
        }
        Err(refusal) => {
            let from = address.map_or_else(String::new, |a| format!(" from {a}"));
            note(core, format!("at the issuer{from}: {refusal}")).await?;
            Err(refusal)
        }
    }
}

/// Who proved to be whom.
struct Grant {
    account: String,
    name: String,
    role: OperatorRole,
    kind: TokenKind,
    how: String,
}

async fn issue(core: &Core, grant: Grant, reason: String) -> Result<NewApiToken, Refusal> {
    let now = clock::unix_s();
    let about = ApiToken {
        id: random::id()?,
        name: grant.name,
        account: grant.account.clone(),
        role: grant.role,
        kind: grant.kind,
        created_unix_s: now,
        expires_unix_s: now.saturating_add(TTL_SECS),
        revoked: false,
    };
    let entry = NewEntry {
        who: grant.account,
        role: grant.role,
        how: grant.how,
        what: "login",
        object: about.id.clone(),
        detail: String::new(),
        reason,
    };
    token::store(core, about, entry).await
}

fn configured(core: &Core) -> Result<Arc<oidc::Oidc>, Refusal> {
    core.operators.oidc.clone().ok_or_else(|| {
        Refusal::not_found(
            "this server knows no OpenID Connect issuer; start it with --oidc-issuer and \
             --oidc-client-id, or log in with a password",
        )
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::internal())?
}

async fn note(core: &Core, detail: String) -> Result<(), Refusal> {
    let event = NewEvent {
        device: None,
        severity: Severity::Security,
        kind: "login-refused",
        detail,
    };
    Ok(core.store.add_event(&event).await?)
}
