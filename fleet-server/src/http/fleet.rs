//! Tokens, devices, releases and rollouts.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use drover_api::{
    Affected, CreateRollout, CreateTokens, Device, ErrorBody, List, Release, RevokeDevice, Rollout,
    Token,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Refusal;
use super::request::{Parameters, Parsed, read};
use crate::operator::Actor;
use crate::state::Core;
use crate::store::RolloutRow;
use crate::tls::Peer;
use crate::{affected, certificate, enrol, release, rollout};

/// Largest enrolment request, its signature included, in bytes.
const MAX_ENROL_BYTES: u64 = 16 * 1024;

/// Makes claim tokens.
#[utoipa::path(post, path = "/v1/tokens", tag = "devices", request_body = CreateTokens,
    responses((status = 200, body = List<Token>), (status = 400, body = ErrorBody)))]
pub(crate) async fn create_tokens(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Parsed(request): Parsed<CreateTokens>,
) -> Result<Json<List<Token>>, Refusal> {
    let items = enrol::create_tokens(&core, &actor, &request).await?;
    Ok(Json(List { items }))
}

/// Enrols a device: a signed `EnrolRequest` in, an `EnrolReply` out, both of the fleet protocol.
#[utoipa::path(post, path = "/v1/enroll", tag = "devices", security(()),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 403, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(crate) async fn enroll(
    State(core): State<Arc<Core>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    let bytes = read(body, MAX_ENROL_BYTES).await?;
    let reply = enrol::enrol(&core, &bytes, peer.addr.ip()).await?;
    let octets = [(CONTENT_TYPE, "application/octet-stream")];
    Ok((octets, reply).into_response())
}

/// Gives a device a new certificate: a signed `CertificateRequest` in, a `CertificateReply`
/// out, both of the fleet protocol.
#[utoipa::path(post, path = "/v1/certificate", tag = "devices", security(()),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 403, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
pub(crate) async fn renew_certificate(
    State(core): State<Arc<Core>>,
    body: Body,
) -> Result<Response, Refusal> {
    let bytes = read(body, MAX_ENROL_BYTES).await?;
    let reply = certificate::renew(&core, &bytes).await?;
    let octets = [(CONTENT_TYPE, "application/octet-stream")];
    Ok((octets, reply).into_response())
}

/// All devices.
#[utoipa::path(get, path = "/v1/devices", tag = "devices",
    responses((status = 200, body = List<Device>)))]
pub(crate) async fn devices(State(core): State<Arc<Core>>) -> Result<Json<List<Device>>, Refusal> {
    let items = core.store.devices().await?;
    Ok(Json(List { items }))
}

/// One device, by identity or name.
#[utoipa::path(get, path = "/v1/devices/{device}", tag = "devices",
    params(("device" = String, Path, description = "Identity or name")),
    responses((status = 200, body = Device), (status = 404, body = ErrorBody)))]
pub(crate) async fn device(
    State(core): State<Arc<Core>>,
    Path(device): Path<String>,
) -> Result<Json<Device>, Refusal> {
    find_device(&core, &device).await.map(Json)
}

/// Lets a waiting device take part.
#[utoipa::path(post, path = "/v1/devices/{device}/approve", tag = "devices",
    params(("device" = String, Path, description = "Identity or name")),
    responses((status = 200, body = Device), (status = 404, body = ErrorBody)))]
pub(crate) async fn approve_device(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(device): Path<String>,
) -> Result<Json<Device>, Refusal> {
    let found = find_device(&core, &device).await?;
    enrol::approve(&core, &actor, &found.id).await?;
    find_device(&core, &found.id).await.map(Json)
}

/// Takes a device's certificates back for ever and ends its connection.
#[utoipa::path(post, path = "/v1/devices/{device}/revoke", tag = "devices",
    params(("device" = String, Path, description = "Identity or name")),
    request_body = RevokeDevice,
    responses((status = 200, body = Device), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn revoke_device(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(device): Path<String>,
    Parsed(request): Parsed<RevokeDevice>,
) -> Result<Json<Device>, Refusal> {
    let found = find_device(&core, &device).await?;
    certificate::revoke(&core, &actor, &found.id, &request.reason).await?;
    find_device(&core, &found.id).await.map(Json)
}

/// How a bundle is published.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PublishQuery {
    /// Whether its content travels encrypted, for the fleet's devices alone.
    #[serde(default)]
    confidential: bool,
}

/// Publishes a bundle: the bytes of its container file.
#[utoipa::path(post, path = "/v1/releases", tag = "releases", params(PublishQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Release), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn publish_release(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Parameters(query): Parameters<PublishQuery>,
    body: Body,
) -> Result<Json<Release>, Refusal> {
    let bytes = read(body, core.config.max_release_bytes).await?;
    release::publish(&core, &actor, bytes.into(), query.confidential)
        .await
        .map(Json)
}

/// All releases, newest first.
#[utoipa::path(get, path = "/v1/releases", tag = "releases",
    responses((status = 200, body = List<Release>)))]
pub(crate) async fn releases(
    State(core): State<Arc<Core>>,
) -> Result<Json<List<Release>>, Refusal> {
    let rows = core.store.releases().await?;
    let items = rows.into_iter().map(|r| r.summary).collect();
    Ok(Json(List { items }))
}

/// One release: `name`, `name@version`, or digits of its digest.
#[utoipa::path(get, path = "/v1/releases/{release}", tag = "releases",
    params(("release" = String, Path, description = "Name, name@version or digest")),
    responses((status = 200, body = Release), (status = 404, body = ErrorBody)))]
pub(crate) async fn release(
    State(core): State<Arc<Core>>,
    Path(wanted): Path<String>,
) -> Result<Json<Release>, Refusal> {
    let row = release::find(&core, &wanted).await?;
    Ok(Json(row.summary))
}

/// Which component is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AffectedQuery {
    /// `NAME`, or `NAME<VERSION` with `<`, `<=`, `=`, `>=` or `>`; the name may be a package URL
    /// without its version, `drover-agent` is the agent itself.
    component: String,
}

/// The devices that run a component now.
#[utoipa::path(get, path = "/v1/affected", tag = "releases", params(AffectedQuery),
    responses((status = 200, body = Affected), (status = 400, body = ErrorBody)))]
pub(crate) async fn affected(
    State(core): State<Arc<Core>>,
    Parameters(query): Parameters<AffectedQuery>,
) -> Result<Json<Affected>, Refusal> {
    affected::affected(&core, &query.component).await.map(Json)
}

/// Starts a rollout, or prepares it for somebody else's approval.
#[utoipa::path(post, path = "/v1/rollouts", tag = "rollouts", request_body = CreateRollout,
    responses((status = 200, body = Rollout), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn create_rollout(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Parsed(request): Parsed<CreateRollout>,
) -> Result<Json<Rollout>, Refusal> {
    rollout::create(&core, &actor, request).await.map(Json)
}

/// Lets a rollout begin that somebody else created.
#[utoipa::path(post, path = "/v1/rollouts/{rollout}/approve", tag = "rollouts",
    params(("rollout" = String, Path, description = "Identity, such as r7")),
    responses((status = 200, body = Rollout), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn approve_rollout(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<Rollout>, Refusal> {
    let row = find_rollout(&core, &id).await?;
    rollout::approve(&core, &actor, &row).await.map(Json)
}

/// All rollouts without their devices, newest first.
#[utoipa::path(get, path = "/v1/rollouts", tag = "rollouts",
    responses((status = 200, body = List<Rollout>)))]
pub(crate) async fn rollouts(
    State(core): State<Arc<Core>>,
) -> Result<Json<List<Rollout>>, Refusal> {
    let mut items = Vec::new();
    for row in core.store.rollouts().await? {
        items.push(rollout::describe(&core, &row, false).await?);
    }
    Ok(Json(List { items }))
}

/// One rollout with its devices.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}", tag = "rollouts",
    params(("rollout" = String, Path, description = "Identity, such as r7")),
    responses((status = 200, body = Rollout), (status = 404, body = ErrorBody)))]
pub(crate) async fn rollout(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
) -> Result<Json<Rollout>, Refusal> {
    let row = find_rollout(&core, &id).await?;
    Ok(Json(rollout::describe(&core, &row, true).await?))
}

/// A rollout by its identity.
async fn find_rollout(core: &Core, id: &str) -> Result<RolloutRow, Refusal> {
    let number = id.strip_prefix('r').and_then(|n| n.parse().ok());
    let row = match number {
        Some(number) => core.store.rollout(number).await?,
        None => None,
    };
    row.ok_or_else(|| {
        Refusal::not_found(format!("no rollout is {id:?}; see `drover rollout list`"))
    })
}

/// A device by identity or name; a name that several devices have means none of them.
pub(super) async fn find_device(core: &Core, wanted: &str) -> Result<Device, Refusal> {
    let mut devices = core.store.devices().await?;
    if let Some(at) = devices.iter().position(|d| d.id == wanted) {
        return Ok(devices.swap_remove(at));
    }
    devices.retain(|d| d.name == wanted && !wanted.is_empty());
    match devices.len() {
        1 => Ok(devices.swap_remove(0)),
        0 => Err(Refusal::not_found(format!(
            "no device has the identity or name {wanted:?}; see `drover device list`"
        ))),
        n => Err(Refusal::bad(format!(
            "{n} devices have the name {wanted:?}; use an identity instead"
        ))),
    }
}
