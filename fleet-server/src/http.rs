//! The REST interface: routes, who may use them, and what errors look like.
//!
//! Handlers translate between HTTP and the modules that do the work; no rule lives here.

mod audit;
mod fleet;
mod gate;
mod insight;
mod operate;
mod operator;
mod refusal;
mod request;
mod trust;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use drover_api::OperatorRole;

use crate::state::Core;

pub(crate) use refusal::Refusal;

pub(crate) use audit::{__path_audit, __path_audit_head};
pub(crate) use fleet::{
    __path_affected, __path_approve_device, __path_approve_rollout, __path_create_rollout,
    __path_create_tokens, __path_device, __path_devices, __path_enroll, __path_publish_release,
    __path_release, __path_releases, __path_renew_certificate, __path_revoke_device,
    __path_rollout, __path_rollouts,
};
pub(crate) use insight::{
    __path_data_stats, __path_drift, __path_events, __path_observation_summary, __path_observations,
};
pub(crate) use operate::{
    __path_broker, __path_certify_operator, __path_healthz, __path_metrics, __path_mosquitto,
    __path_revocation_list, __path_revoke_operator, __path_start_broker, __path_status,
    __path_stop_broker,
};
pub(crate) use operator::{
    __path_add_operator, __path_api_tokens, __path_create_api_token, __path_disable_operator,
    __path_enable_operator, __path_finish_oidc, __path_login, __path_logout, __path_operators,
    __path_revoke_api_token, __path_set_operator_password, __path_set_operator_role,
    __path_start_oidc, __path_who_am_i,
};
pub(crate) use trust::{__path_catalog, __path_publish_root, __path_roots, __path_transfer_device};

/// All routes.
pub(crate) fn router(core: Arc<Core>) -> Router {
    let viewer = Router::new()
        .route("/v1/status", get(operate::status))
        .route("/metrics", get(operate::metrics))
        .route("/v1/broker", get(operate::broker))
        .route("/v1/broker/crl", get(operate::revocation_list))
        .route("/v1/devices", get(fleet::devices))
        .route("/v1/devices/{device}", get(fleet::device))
        .route("/v1/roots", get(trust::roots))
        .route("/v1/catalog", get(trust::catalog))
        .route("/v1/releases", get(fleet::releases))
        .route("/v1/releases/{release}", get(fleet::release))
        .route("/v1/affected", get(fleet::affected))
        .route("/v1/rollouts", get(fleet::rollouts))
        .route("/v1/rollouts/{rollout}", get(fleet::rollout))
        .route("/v1/observations", get(insight::observations))
        .route(
            "/v1/observations/summary",
            get(insight::observation_summary),
        )
        .route("/v1/data/stats", get(insight::data_stats))
        .route("/v1/events", get(insight::events))
        .route("/v1/drift", get(insight::drift))
        .route("/v1/audit", get(audit::audit))
        .route("/v1/audit/head", get(audit::audit_head))
        .route("/v1/whoami", get(operator::who_am_i))
        // Everybody looks after their own tokens and password; the handlers see to that.
        .route("/v1/logout", post(operator::logout))
        .route(
            "/v1/api-tokens",
            get(operator::api_tokens).post(operator::create_api_token),
        )
        .route(
            "/v1/api-tokens/{token}/revoke",
            post(operator::revoke_api_token),
        )
        .route(
            "/v1/operators/{name}/password",
            post(operator::set_operator_password),
        );
    let operator = Router::new()
        .route("/v1/broker/start", post(operate::start_broker))
        .route("/v1/broker/stop", post(operate::stop_broker))
        .route("/v1/tokens", post(fleet::create_tokens))
        .route("/v1/devices/{device}/approve", post(fleet::approve_device))
        .route("/v1/devices/{device}/revoke", post(fleet::revoke_device))
        .route(
            "/v1/devices/{device}/transfer",
            post(trust::transfer_device),
        )
        .route("/v1/rollouts", post(fleet::create_rollout))
        .route(
            "/v1/rollouts/{rollout}/approve",
            post(fleet::approve_rollout),
        );
    let releaser = Router::new().route("/v1/releases", post(fleet::publish_release));
    let admin = Router::new()
        .route("/v1/broker/mosquitto", post(operate::mosquitto))
        .route("/v1/certificates", post(operate::certify_operator))
        .route(
            "/v1/certificates/{name}/revoke",
            post(operate::revoke_operator),
        )
        .route("/v1/roots", post(trust::publish_root))
        .route(
            "/v1/operators",
            get(operator::operators).post(operator::add_operator),
        )
        .route(
            "/v1/operators/{name}/disable",
            post(operator::disable_operator),
        )
        .route(
            "/v1/operators/{name}/enable",
            post(operator::enable_operator),
        )
        .route(
            "/v1/operators/{name}/role",
            post(operator::set_operator_role),
        );
    // No route below asks for a role by itself: it has that of its group.
    let for_role = |routes: Router<Arc<Core>>, role| {
        let state = (core.clone(), role);
        routes.route_layer(middleware::from_fn_with_state(state, gate::demand))
    };
    Router::new()
        .route("/healthz", get(operate::healthz))
        .route("/openapi.json", get(operate::openapi))
        .route("/v1/enroll", post(fleet::enroll))
        .route("/v1/certificate", post(fleet::renew_certificate))
        .route("/v1/login", post(operator::login))
        .route("/v1/login/oidc/start", post(operator::start_oidc))
        .route("/v1/login/oidc/finish", post(operator::finish_oidc))
        .merge(for_role(viewer, OperatorRole::Viewer))
        .merge(for_role(operator, OperatorRole::Operator))
        .merge(for_role(releaser, OperatorRole::Releaser))
        .merge(for_role(admin, OperatorRole::Admin))
        .fallback(operate::nothing_here)
        .method_not_allowed_fallback(operate::nothing_here)
        // Each handler names its own limit when it reads a body.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(
            core.clone(),
            crate::tls::peer_certificate,
        ))
        .layer(middleware::from_fn(gate::number))
        .with_state(core)
}
