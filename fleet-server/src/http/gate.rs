//! What every request passes: its number, and the door where it says who asks.
//!
//! Somebody is known by a bearer token or by the client certificate of the connection; each
//! route has the least role that it asks for. What a handler gets is [`Who`], never a token.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use drover_api::{OperatorRole, REASON_HEADER};
use tracing::Instrument as _;

use super::Refusal;
use crate::operator::{self, Actor, Who};
use crate::random;
use crate::state::Core;
use crate::tls::{Peer, PeerCertificate};

/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1000;

/// Lets requests through whose sender has at least the role of the route.
pub(super) async fn demand(
    State((core, needed)): State<(Arc<Core>, OperatorRole)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let who = identify(&core, request.headers(), request.extensions()).await?;
    who.demand(needed)?;
    request.extensions_mut().insert(who);
    Ok(next.run(request).await)
}

async fn identify(
    core: &Core,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Who, Refusal> {
    // Whoever shows a token means that token, whatever certificate the connection has.
    let found = match (headers.get(AUTHORIZATION), extensions.get()) {
        (Some(value), _) => {
            let shown = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer "));
            match shown {
                Some(token) => operator::of_token(core, token.trim()).await?,
                None => None,
            }
        }
        (None, Some(PeerCertificate(name))) => operator::of_certificate(core, name).await?,
        (None, None) => None,
    };
    found.ok_or_else(Refusal::unauthorized)
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let who = parts.extensions.get().cloned();
        who.ok_or_else(Refusal::unauthorized)
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Ok(Self {
            who: Who::from_request_parts(parts, state).await?,
            reason: Reason::from_request_parts(parts, state).await?.0,
        })
    }
}

/// Why somebody changes something; empty when the request does not say.
pub(super) struct Reason(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Reason {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(value) = parts.headers.get(REASON_HEADER) else {
            return Ok(Self(String::new()));
        };
        let text = std::str::from_utf8(value.as_bytes()).ok().map(str::trim);
        let text = text.filter(|t| t.len() <= MAX_REASON_BYTES);
        let text = text.filter(|t| !t.chars().any(char::is_control));
        text.map(|t| Self(t.to_owned())).ok_or_else(|| {
            Refusal::bad(format!(
                "{REASON_HEADER}: at most {MAX_REASON_BYTES} bytes of UTF-8 without control \
                 characters"
            ))
        })
    }
}

/// Where a request comes from, where that is known.
pub(super) struct Address(pub(super) Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> Result<Self, std::convert::Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        Ok(Self(peer.map(|peer| peer.0.addr.ip())))
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
