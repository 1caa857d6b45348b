//! Accounts of operators, their tokens, and logging in.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use drover_api::{
    AddOperator, ApiToken, CreateApiToken, ErrorBody, FinishOidc, List, Login, NewApiToken,
    Operator, SetPassword, SetRole, StartOidc, StartedOidc, WhoAmI,
};

use super::Refusal;
use super::gate::{Address, Reason};
use super::request::Parsed;
use crate::operator::{self, Actor, How, Who};
use crate::state::Core;

/// Logs in with a password.
#[utoipa::path(post, path = "/v1/login", tag = "operators", security(()), request_body = Login,
    responses((status = 200, body = NewApiToken), (status = 401, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
pub(crate) async fn login(
    State(core): State<Arc<Core>>,
    Address(address): Address,
    Reason(reason): Reason,
    Parsed(request): Parsed<Login>,
) -> Result<Json<NewApiToken>, Refusal> {
    operator::login(&core, &request, address, reason)
        .await
        .map(Json)
}

/// Begins to log in at the OpenID Connect issuer.
#[utoipa::path(post, path = "/v1/login/oidc/start", tag = "operators", security(()),
    request_body = StartOidc,
    responses((status = 200, body = StartedOidc), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
pub(crate) async fn start_oidc(
    State(core): State<Arc<Core>>,
    Address(address): Address,
    Parsed(request): Parsed<StartOidc>,
) -> Result<Json<StartedOidc>, Refusal> {
    operator::start_oidc(&core, &request, address)
        .await
        .map(Json)
}

/// Ends logging in at the OpenID Connect issuer.
#[utoipa::path(post, path = "/v1/login/oidc/finish", tag = "operators", security(()),
    request_body = FinishOidc,
    responses((status = 200, body = NewApiToken), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn finish_oidc(
    State(core): State<Arc<Core>>,
    Address(address): Address,
    Reason(reason): Reason,
    Parsed(request): Parsed<FinishOidc>,
) -> Result<Json<NewApiToken>, Refusal> {
    let done = operator::finish_oidc(&core, &request, address, reason).await;
    done.map(Json)
}

/// Ends the token that is shown.
#[utoipa::path(post, path = "/v1/logout", tag = "operators",
    responses((status = 200, body = ApiToken), (status = 400, body = ErrorBody)))]
pub(crate) async fn logout(
    State(core): State<Arc<Core>>,
    actor: Actor,
) -> Result<Json<ApiToken>, Refusal> {
    let How::Token { id, .. } = &actor.who.how else {
        return Err(Refusal::bad(format!(
            "the {} cannot log out",
            actor.who.how
        )));
    };
    operator::revoke_token(&core, &actor, id).await.map(Json)
}

/// Who is asking.
#[utoipa::path(get, path = "/v1/whoami", tag = "operators",
    responses((status = 200, body = WhoAmI), (status = 401, body = ErrorBody)))]
pub(crate) async fn who_am_i(who: Who) -> Json<WhoAmI> {
    Json(WhoAmI {
        account: who.account,
        role: who.role,
        how: who.how.to_string(),
    })
}

/// All accounts.
#[utoipa::path(get, path = "/v1/operators", tag = "operators",
    responses((status = 200, body = List<Operator>), (status = 403, body = ErrorBody)))]
pub(crate) async fn operators(
    State(core): State<Arc<Core>>,
) -> Result<Json<List<Operator>>, Refusal> {
    let items = core.store.operators().await?;
    Ok(Json(List { items }))
}

/// Makes an account.
#[utoipa::path(post, path = "/v1/operators", tag = "operators", request_body = AddOperator,
    responses((status = 200, body = Operator), (status = 400, body = ErrorBody),
        (status = 409, body = ErrorBody)))]
pub(crate) async fn add_operator(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Parsed(request): Parsed<AddOperator>,
) -> Result<Json<Operator>, Refusal> {
    operator::add(&core, &actor, &request).await.map(Json)
}

/// Closes an account and ends its tokens.
#[utoipa::path(post, path = "/v1/operators/{name}/disable", tag = "operators",
    params(("name" = String, Path, description = "Name of the account")),
    responses((status = 200, body = Operator), (status = 404, body = ErrorBody)))]
pub(crate) async fn disable_operator(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<Json<Operator>, Refusal> {
    let done = operator::set_disabled(&core, &actor, &name, true).await;
    done.map(Json)
}

/// Opens an account again.
#[utoipa::path(post, path = "/v1/operators/{name}/enable", tag = "operators",
    params(("name" = String, Path, description = "Name of the account")),
    responses((status = 200, body = Operator), (status = 404, body = ErrorBody)))]
pub(crate) async fn enable_operator(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<Json<Operator>, Refusal> {
    let done = operator::set_disabled(&core, &actor, &name, false).await;
    done.map(Json)
}

/// Gives an account another role.
#[utoipa::path(post, path = "/v1/operators/{name}/role", tag = "operators",
    params(("name" = String, Path, description = "Name of the account")),
    request_body = SetRole,
    responses((status = 200, body = Operator), (status = 404, body = ErrorBody)))]
pub(crate) async fn set_operator_role(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(name): Path<String>,
    Parsed(request): Parsed<SetRole>,
) -> Result<Json<Operator>, Refusal> {
    let done = operator::set_role(&core, &actor, &name, request.role).await;
    done.map(Json)
}

/// Gives an account another password: one's own, or as an admin anybody's.
#[utoipa::path(post, path = "/v1/operators/{name}/password", tag = "operators",
    params(("name" = String, Path, description = "Name of the account")),
    request_body = SetPassword,
    responses((status = 200, body = Operator), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn set_operator_password(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(name): Path<String>,
    Parsed(request): Parsed<SetPassword>,
) -> Result<Json<Operator>, Refusal> {
    let done = operator::change_password(&core, &actor, &name, &request).await;
    done.map(Json)
}

/// Tokens without their secrets: one's own, or as an admin everybody's.
#[utoipa::path(get, path = "/v1/api-tokens", tag = "operators",
    responses((status = 200, body = List<ApiToken>)))]
pub(crate) async fn api_tokens(
    State(core): State<Arc<Core>>,
    who: Who,
) -> Result<Json<List<ApiToken>>, Refusal> {
    let items = operator::list_tokens(&core, &who).await?;
    Ok(Json(List { items }))
}

/// Makes a token for a program; its secret is shown here and never again.
#[utoipa::path(post, path = "/v1/api-tokens", tag = "operators", request_body = CreateApiToken,
    responses((status = 200, body = NewApiToken), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody)))]
pub(crate) async fn create_api_token(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Parsed(request): Parsed<CreateApiToken>,
) -> Result<Json<NewApiToken>, Refusal> {
    operator::create_token(&core, &actor, &request)
        .await
        .map(Json)
}

/// Ends a token: one's own, or as an admin anybody's.
#[utoipa::path(post, path = "/v1/api-tokens/{token}/revoke", tag = "operators",
    params(("token" = String, Path, description = "Identity of the token")),
    responses((status = 200, body = ApiToken), (status = 404, body = ErrorBody)))]
pub(crate) async fn revoke_api_token(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(token): Path<String>,
) -> Result<Json<ApiToken>, Refusal> {
    operator::revoke_token(&core, &actor, &token)
        .await
        .map(Json)
}
