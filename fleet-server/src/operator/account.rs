//! Accounts: made, changed and closed by admins; a password also by whose it is.

use drover_api::{AddOperator, Operator, OperatorRole, SetPassword};
use serde_json::json;

use super::{Actor, BOOTSTRAP, OIDC_PREFIX};
use crate::clock;
use crate::http::Refusal;
use crate::state::Core;
use crate::store::AccountChange;

const MAX_NAME_BYTES: usize = 64;

/// Makes an account.
pub(crate) async fn add(
    core: &Core,
    actor: &Actor,
    request: &AddOperator,
) -> Result<Operator, Refusal> {
    let name = &request.name;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let first = name.bytes().next().is_some_and(plain);
    let rest = name.bytes().all(|b| plain(b) || b"._-".contains(&b));
    if !first || !rest || name.len() > MAX_NAME_BYTES || name == BOOTSTRAP {
        return Err(Refusal::bad(format!(
            "name: 1 to {MAX_NAME_BYTES} of a-z, 0-9, `.`, `_` and `-`, beginning with a letter \
             or digit, and not {BOOTSTRAP}"
        )));
    }
    let password = core.operators.passwords.hash(&request.password).await?;
    let operator = Operator {
        name: name.clone(),
        role: request.role,
        disabled: false,
        created_unix_s: clock::unix_s(),
    };
    let entry = actor.entry("operator.add", name.clone());
    let entry = entry.with(&json!({ "role": request.role }));
    match core
        .store
        .add_operator(&operator, &password, &entry)
        .await?
    {
        true => Ok(operator),
        false => Err(Refusal::conflict(format!(
            "an account {name:?} exists already; see `drover operator list`"
        ))),
    }
}

/// Gives an account another role.
pub(crate) async fn set_role(
    core: &Core,
    actor: &Actor,
    name: &str,
    role: OperatorRole,
) -> Result<Operator, Refusal> {
    let before = find(core, name).await?.0;
    let entry = actor.entry("operator.role", name);
    let entry = entry.with(&json!({ "before": before.role, "after": role }));
    let change = AccountChange::Role(role);
    core.store.change_operator(name, &change, &entry).await?;
    Ok(Operator { role, ..before })
}

/// Closes an account and ends its tokens, or opens it again.
pub(crate) async fn set_disabled(
    core: &Core,
    actor: &Actor,
    name: &str,
    disabled: bool,
) -> Result<Operator, Refusal> {
    let before = find(core, name).await?.0;
    let what = match disabled {
        true => "operator.disable",
        false => "operator.enable",
    };
    let entry = actor.entry(what, name);
    let entry = entry.with(&json!({ "before": before.disabled, "after": disabled }));
    let change = AccountChange::Disabled(disabled);
    core.store.change_operator(name, &change, &entry).await?;
    Ok(Operator { disabled, ..before })
}

/// Gives an account another password: its own bearer with the old one, an admin without.
pub(crate) async fn change_password(
    core: &Core,
    actor: &Actor,
    name: &str,
    request: &SetPassword,
) -> Result<Operator, Refusal> {
    let own = actor.who.account == name;
    if !own {
        actor.who.demand(OperatorRole::Admin)?;
    }
    let (operator, hash) = find(core, name).await?;
    if own {
        // Who finds a terminal left open must not be able to take the account over.
        core.operators.attempt(Some(name), None)?;
        let current = request.current.clone().unwrap_or_default();
        if !core
            .operators
            .passwords
            .verify(&current, Some(hash))
            .await?
        {
            return Err(Refusal::forbidden("the current password is wrong"));
        }
    }
    let password = core.operators.passwords.hash(&request.password).await?;
    let entry = actor.entry("operator.password", name);
    let change = AccountChange::Password(password);
    core.store.change_operator(name, &change, &entry).await?;
    Ok(operator)
}

async fn find(core: &Core, name: &str) -> Result<(Operator, String), Refusal> {
    let found = core.store.operator(name).await?;
    found.ok_or_else(|| {
        let elsewhere = match name.strip_prefix(OIDC_PREFIX) {
            Some(_) => "; accounts of the OpenID Connect issuer are kept there",
            None => "; see `drover operator list`",
        };
        Refusal::not_found(format!("no account is {name:?}{elsewhere}"))
    })
}
