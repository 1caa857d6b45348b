//! The REST interface: routes, who may use them, and what errors look like.
//!
//! Handlers translate between HTTP and the modules that do the work; no rule lives here.

mod fleet;
mod gate;
mod insight;
mod operate;
mod refusal;
mod request;
mod trust;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};

use crate::state::Core;

pub(crate) use refusal::Refusal;

pub(crate) use fleet::{
    __path_approve_device, __path_create_rollout, __path_create_tokens, __path_device,
    __path_devices, __path_enroll, __path_publish_release, __path_release, __path_releases,
    __path_renew_certificate, __path_revoke_device, __path_rollout, __path_rollouts,
};
pub(crate) use insight::{
    __path_data_stats, __path_drift, __path_events, __path_observation_summary, __path_observations,
};
pub(crate) use operate::{
    __path_broker, __path_certify_operator, __path_healthz, __path_metrics, __path_mosquitto,
    __path_revocation_list, __path_start_broker, __path_status, __path_stop_broker,
};
pub(crate) use trust::{__path_catalog, __path_publish_root, __path_roots, __path_transfer_device};

/// All routes.
pub(crate) fn router(core: Arc<Core>) -> Router {
    let operator = Router::new()
        .route("/v1/status", get(operate::status))
        .route("/metrics", get(operate::metrics))
        .route("/v1/broker", get(operate::broker))
        .route("/v1/broker/start", post(operate::start_broker))
        .route("/v1/broker/stop", post(operate::stop_broker))
        .route("/v1/broker/mosquitto", post(operate::mosquitto))
        .route("/v1/broker/crl", get(operate::revocation_list))
        .route("/v1/certificates", post(operate::certify_operator))
        .route("/v1/tokens", post(fleet::create_tokens))
        .route("/v1/devices", get(fleet::devices))
        .route("/v1/devices/{device}", get(fleet::device))
        .route("/v1/devices/{device}/approve", post(fleet::approve_device))
        .route("/v1/devices/{device}/revoke", post(fleet::revoke_device))
        .route(
            "/v1/devices/{device}/transfer",
            post(trust::transfer_device),
        )
        .route("/v1/roots", get(trust::roots).post(trust::publish_root))
        .route("/v1/catalog", get(trust::catalog))
        .route(
            "/v1/releases",
            get(fleet::releases).post(fleet::publish_release),
        )
        .route("/v1/releases/{release}", get(fleet::release))
        .route(
            "/v1/rollouts",
            get(fleet::rollouts).post(fleet::create_rollout),
        )
        .route("/v1/rollouts/{rollout}", get(fleet::rollout))
        .route("/v1/observations", get(insight::observations))
        .route(
            "/v1/observations/summary",
            get(insight::observation_summary),
        )
        .route("/v1/data/stats", get(insight::data_stats))
        .route("/v1/events", get(insight::events))
        .route("/v1/drift", get(insight::drift))
        .route_layer(middleware::from_fn_with_state(
            core.clone(),
            gate::operators_only,
        ));
    Router::new()
        .route("/healthz", get(operate::healthz))
        .route("/openapi.json", get(operate::openapi))
        .route("/v1/enroll", post(fleet::enroll))
        .route("/v1/certificate", post(fleet::renew_certificate))
        .merge(operator)
        .fallback(operate::nothing_here)
        .method_not_allowed_fallback(operate::nothing_here)
        // Each handler names its own limit when it reads a body.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(gate::number))
        .layer(middleware::from_fn(crate::tls::peer_certificate))
        .with_state(core)
}
