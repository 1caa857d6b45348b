//! The server itself: health, status, figures and the broker.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use drover_api::{
    Broker, CertifyOperator, ConfigFile, ErrorBody, Health, List, MosquittoRequest,
    OperatorCertificate, Revoked, RolloutState, Status,
};

use super::Refusal;
use super::request::Parsed;
use crate::metrics::Gauge;
use crate::operator::Actor;
use crate::state::Core;
use crate::{ServerError, certificate, clock, mosquitto};

/// A device counts as recent when it was heard within this time, in milliseconds.
const RECENT_MS: u64 = 300_000;

pub(super) async fn nothing_here() -> Refusal {
    Refusal::not_found("nothing is here; GET /openapi.json describes what there is")
}

/// Whether the server lives.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()),
    responses((status = 200, body = Health)))]
pub(crate) async fn healthz(State(core): State<Arc<Core>>) -> Json<Health> {
    Json(Health {
        ok: core.store.answers().await,
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

pub(super) async fn openapi() -> Response {
    let json = [(CONTENT_TYPE, "application/json")];
    (json, crate::openapi_json()).into_response()
}

/// The server at a glance.
#[utoipa::path(get, path = "/v1/status", tag = "server",
    responses((status = 200, body = Status), (status = 401, body = ErrorBody)))]
pub(crate) async fn status(State(core): State<Arc<Core>>) -> Result<Json<Status>, Refusal> {
    Ok(Json(glance(&core).await?))
}

/// Figures in Prometheus' text form.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, body = String), (status = 401, body = ErrorBody)))]
pub(crate) async fn metrics(State(core): State<Arc<Core>>) -> Result<Response, Refusal> {
    let status = glance(&core).await?;
    let gauge = |name, help, value| Gauge { name, help, value };
    let text = core.metrics.render(&[
        gauge("drover_devices", "Devices enrolled.", status.devices),
        gauge(
            "drover_devices_recent",
            "Devices heard in the last five minutes.",
            status.devices_recent,
        ),
        gauge("drover_releases", "Releases published.", status.releases),
        gauge(
            "drover_rollouts_active",
            "Rollouts under way.",
            status.rollouts_active,
        ),
        gauge(
            "drover_observations",
            "Observations stored.",
            status.observations,
        ),
        gauge(
            "drover_sessions",
            "Sessions of devices at the embedded broker.",
            core.broker.sessions().unwrap_or(0) as u64,
        ),
        gauge(
            "drover_broker_connected",
            "Whether the server is connected to its broker.",
            status.broker.connected.into(),
        ),
    ]);
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((kind, text).into_response())
}

/// The broker.
#[utoipa::path(get, path = "/v1/broker", tag = "server",
    responses((status = 200, body = Broker), (status = 401, body = ErrorBody)))]
pub(crate) async fn broker(State(core): State<Arc<Core>>) -> Json<Broker> {
    Json(describe(&core))
}

/// Starts the embedded broker again, on the port it had.
#[utoipa::path(post, path = "/v1/broker/start", tag = "server",
    responses((status = 200, body = Broker), (status = 409, body = ErrorBody)))]
pub(crate) async fn start_broker(
    State(core): State<Arc<Core>>,
    actor: Actor,
) -> Result<Json<Broker>, Refusal> {
    core.store
        .add_audit(&actor.entry("broker.start", "broker"))
        .await?;
    core.broker.start().await?;
    core.link.hurry();
    Ok(Json(describe(&core)))
}

/// Closes the embedded broker's listener and sessions; devices go on and buffer.
#[utoipa::path(post, path = "/v1/broker/stop", tag = "server",
    responses((status = 200, body = Broker), (status = 409, body = ErrorBody)))]
pub(crate) async fn stop_broker(
    State(core): State<Arc<Core>>,
    actor: Actor,
) -> Result<Json<Broker>, Refusal> {
    core.store
        .add_audit(&actor.entry("broker.stop", "broker"))
        .await?;
    core.broker.stop().await?;
    Ok(Json(describe(&core)))
}

/// Files with which mosquitto enforces what the embedded broker does.
#[utoipa::path(post, path = "/v1/broker/mosquitto", tag = "server",
    request_body = MosquittoRequest,
    responses((status = 200, body = List<ConfigFile>), (status = 400, body = ErrorBody)))]
pub(crate) async fn mosquitto(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Parsed(request): Parsed<MosquittoRequest>,
) -> Result<Json<List<ConfigFile>>, Refusal> {
    let items = mosquitto::files(&core, &actor, &request).await?;
    Ok(Json(List { items }))
}

/// The list of revoked certificates, for brokers that read it.
#[utoipa::path(get, path = "/v1/broker/crl", tag = "server",
    responses((status = 200, body = ConfigFile)))]
pub(crate) async fn revocation_list(
    State(core): State<Arc<Core>>,
) -> Result<Json<ConfigFile>, Refusal> {
    Ok(Json(ConfigFile {
        name: "crl.pem".into(),
        content: certificate::revocation_list(&core).await?,
        secret: false,
    }))
}

/// Certifies an operator's own key.
#[utoipa::path(post, path = "/v1/certificates", tag = "server", request_body = CertifyOperator,
    responses((status = 200, body = OperatorCertificate), (status = 400, body = ErrorBody)))]
pub(crate) async fn certify_operator(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Parsed(request): Parsed<CertifyOperator>,
) -> Result<Json<OperatorCertificate>, Refusal> {
    certificate::certify_operator(&core, &actor, &request)
        .await
        .map(Json)
}

/// Takes back all certificates of an operator.
#[utoipa::path(post, path = "/v1/certificates/{name}/revoke", tag = "server",
    params(("name" = String, Path, description = "Name of the operator's account")),
    responses((status = 200, body = Revoked)))]
pub(crate) async fn revoke_operator(
    State(core): State<Arc<Core>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<Json<Revoked>, Refusal> {
    let certificates = certificate::revoke_operator(&core, &actor, &name).await?;
    Ok(Json(Revoked { certificates }))
}

fn describe(core: &Core) -> Broker {
    let endpoint = core.broker.endpoint();
    let (advertised_host, advertised_port) = core.advertised();
    let running = core.broker.is_running();
    Broker {
        kind: core.broker.kind(),
        running,
        connected: running && core.link.is_connected(),
        addr: format!("{}:{}", endpoint.host, endpoint.port),
        advertised_host,
        advertised_port,
    }
}

async fn glance(core: &Core) -> Result<Status, ServerError> {
    let devices = core.store.devices().await?;
    let since = clock::unix_ms().saturating_sub(RECENT_MS);
    let count = |n: usize| n as u64;
    let rollouts = core.store.rollouts().await?;
    let active = rollouts.iter().filter(|r| r.state == RolloutState::Active);
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        fleet: core.identity.fleet().into(),
        root_version: core.identity.root().root().version,
        started_unix_ms: core.started_unix_ms,
        broker: describe(core),
        devices_waiting: count(devices.iter().filter(|d| !d.approved).count()),
        devices_recent: count(core.store.seen_since(since).await?.len()),
        devices: count(devices.len()),
        releases: count(core.store.releases().await?.len()),
        rollouts_active: count(active.count()),
        observations: core.store.observation_count().await?,
    })
}
