//! Roots, the catalog, and devices that move to another fleet.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use drover_api::{Catalog, Device, ErrorBody, List, RootVersion};

use super::Refusal;
use super::fleet::find_device;
use super::request::read;
use crate::operator::Actor;
use crate::state::Core;
use crate::transfer;

/// Largest root or voucher with its signatures, in bytes.
const MAX_ENVELOPE_BYTES: u64 = 64 * 1024;

/// The catalog that devices get.
#[utoipa::path(get, path = "/v1/catalog", tag = "trust",
    responses((status = 200, body = Catalog)))]
pub(crate) async fn catalog(State(core): State<Arc<Core>>) -> Result<Json<Catalog>, Refusal> {
    Ok(Json(core.show_catalog().await?))
}

/// All roots of the fleet, the oldest first.
#[utoipa::path(get, path = "/v1/roots", tag = "trust",
    responses((status = 200, body = List<RootVersion>)))]
pub(crate) async fn roots(
    State(core): State<Arc<Core>>,
) -> Result<Json<List<RootVersion>>, Refusal> {
    let items = transfer::versions(&core).await?;
    Ok(Json(List { items }))
}

/// Publishes the root that follows the newest: its signed envelope.
#[utoipa::path(post, path = "/v1/roots", tag = "trust",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = RootVersion), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(crate) async fn publish_root(
    State(core): State<Arc<Core>>,
    actor: Actor,
    body: Body,
) -> Result<Json<RootVersion>, Refusal> {
    let bytes = read(body, MAX_ENVELOPE_BYTES).await?;
    transfer::publish_root(&core, &actor, &bytes)
        .await
        .map(Json)
}

/// Gives a device to another fleet: a voucher that the root role signed.
#[utoipa::path(post, path = "/v1/devices/{device}/transfer", tag = "devices",
    params(("device" = String, Path, description = "Identity or name")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Device), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(crate) async fn transfer_device(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(device): Path<String>,
    body: Body,
) -> Result<Json<Device>, Refusal> {
    let found = find_device(&core, &device).await?;
    let bytes = read(body, MAX_ENVELOPE_BYTES).await?;
    transfer::transfer(&core, &actor, &found.id, &bytes).await?;
    find_device(&core, &found.id).await.map(Json)
}
