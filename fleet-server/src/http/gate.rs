//! What every request passes: its number, and the operator's token where one is needed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::Refusal;
use crate::random;
use crate::state::Core;

/// Lets requests through that show the operator's token.
pub(super) async fn operators_only(
    State(core): State<Arc<Core>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let shown = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    // Hashes are compared, so that timing tells nothing of the token.
    let hash = |text: &str| -> [u8; 32] { Sha256::digest(text.as_bytes()).into() };
    match shown {
        Some(token) if hash(token.trim()) == hash(&core.operator_token) => {
            Ok(next.run(request).await)
        }
        _ => Err(Refusal::unauthorized()),
    }
}

/// Gives each request a number that its log lines and its answer carry.
pub(super) async fn number(request: Request, next: Next) -> Response {
    let id = random::id().unwrap_or_default();
    let span =
        tracing::info_span!("http", id, method = %request.method(), path = request.uri().path());
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let status = response.status();
        response = (status, Json(refusal.body(&id))).into_response();
    }
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}
