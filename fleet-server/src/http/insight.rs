//! What devices saw: observations, events and drift.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use drover_api::{BootStats, DriftStatus, ErrorBody, Event, List, Observation, ObservationSummary};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Refusal;
use super::request::Parameters;
use crate::drift;
use crate::state::Core;

/// Entries of one answer at most.
const MAX_LIMIT: u32 = 10_000;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Identity of the device; all devices without it.
    device: Option<String>,
    /// How many at most, 1 to 10000; 100 without it.
    limit: Option<u32>,
}

impl Filter {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, MAX_LIMIT)
    }
}

/// The newest observations.
#[utoipa::path(get, path = "/v1/observations", tag = "insight", params(Filter),
    responses((status = 200, body = List<Observation>), (status = 400, body = ErrorBody)))]
pub(crate) async fn observations(
    State(core): State<Arc<Core>>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<Observation>>, Refusal> {
    let device = filter.device.as_deref();
    let items = core.store.observations(device, filter.limit()).await?;
    Ok(Json(List { items }))
}

/// Each device's observations, summed up.
#[utoipa::path(get, path = "/v1/observations/summary", tag = "insight",
    responses((status = 200, body = List<ObservationSummary>)))]
pub(crate) async fn observation_summary(
    State(core): State<Arc<Core>>,
) -> Result<Json<List<ObservationSummary>>, Refusal> {
    let items = core.store.observation_summaries().await?;
    Ok(Json(List { items }))
}

/// What is stored of each start of each device: whether records are missing or came twice.
#[utoipa::path(get, path = "/v1/data/stats", tag = "insight",
    responses((status = 200, body = List<BootStats>)))]
pub(crate) async fn data_stats(
    State(core): State<Arc<Core>>,
) -> Result<Json<List<BootStats>>, Refusal> {
    let items = core.store.boot_stats().await?;
    Ok(Json(List { items }))
}

/// The newest events.
#[utoipa::path(get, path = "/v1/events", tag = "insight", params(Filter),
    responses((status = 200, body = List<Event>), (status = 400, body = ErrorBody)))]
pub(crate) async fn events(
    State(core): State<Arc<Core>>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<List<Event>>, Refusal> {
    let device = filter.device.as_deref();
    let items = core.store.events(device, filter.limit()).await?;
    Ok(Json(List { items }))
}

/// Drift of each bundle that has profiles of the last day.
#[utoipa::path(get, path = "/v1/drift", tag = "insight",
    responses((status = 200, body = List<DriftStatus>)))]
pub(crate) async fn drift(
    State(core): State<Arc<Core>>,
) -> Result<Json<List<DriftStatus>>, Refusal> {
    let items = drift::status(&core).await?;
    Ok(Json(List { items }))
}
