//! Reading requests: bodies up to a limit, and errors in the interface's own form.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Refusal;

/// Largest JSON body, in bytes.
const MAX_JSON_BYTES: u64 = 1024 * 1024;

/// All bytes of a body.
pub(super) async fn read(body: Body, limit: u64) -> Result<Bytes, Refusal> {
    let bytes = axum::body::to_bytes(body, usize::try_from(limit).unwrap_or(usize::MAX)).await;
    bytes.map_err(|_| Refusal::too_large(limit))
}

/// A JSON body.
pub(super) struct Parsed<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Parsed<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = read(request.into_body(), MAX_JSON_BYTES).await?;
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Self)
            .map_err(|e| Refusal::bad(format!("the request does not parse: {e}")))
    }
}

/// Parameters of the query.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(parameters)| Self(parameters))
            .map_err(|e| Refusal::bad(format!("the query does not parse: {e}")))
    }
}
