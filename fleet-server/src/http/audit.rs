//! The audit log, to be read and carried away.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use drover_api::{AuditEntry, AuditHead, ErrorBody, List};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Refusal;
use super::request::Parameters;
use crate::audit;
use crate::state::Core;

/// Entries of one answer at most.
const MAX_LIMIT: u32 = 10_000;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Number of the entry before the first one wanted; 0 without it.
    after: Option<u64>,
    /// How many at most, 1 to 10000; 1000 without it.
    limit: Option<u32>,
}

/// Entries of the audit log, oldest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(Page),
    responses((status = 200, body = List<AuditEntry>), (status = 400, body = ErrorBody)))]
pub(crate) async fn audit(
    State(core): State<Arc<Core>>,
    Parameters(page): Parameters<Page>,
) -> Result<Json<List<AuditEntry>>, Refusal> {
    let limit = page.limit.unwrap_or(1000).clamp(1, MAX_LIMIT);
    let items = core.store.audit(page.after.unwrap_or(0), limit).await?;
    Ok(Json(List { items }))
}

/// The newest entry of the audit log, signed by the fleet key.
#[utoipa::path(get, path = "/v1/audit/head", tag = "audit",
    responses((status = 200, body = AuditHead)))]
pub(crate) async fn audit_head(State(core): State<Arc<Core>>) -> Result<Json<AuditHead>, Refusal> {
    Ok(Json(audit::head(&core).await?))
}
