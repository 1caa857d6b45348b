//! The description of the REST interface in OpenAPI.

use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use crate::http;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Drover fleet server",
        description = "Operators use everything under /v1 and /metrics with a bearer token or a \
            client certificate, as far as their role goes; what they change is in the audit \
            log, with the reason that the header x-drover-reason gives; devices enrol at /v1/enroll and speak MQTT from then on."
    ),
    paths(
        http::healthz, http::status, http::metrics,
        http::broker, http::start_broker, http::stop_broker,
        http::mosquitto, http::revocation_list, http::certify_operator,
        http::revoke_operator,
        http::create_tokens, http::enroll, http::devices, http::device, http::approve_device,
        http::revoke_device, http::renew_certificate,
        http::transfer_device, http::roots, http::publish_root, http::catalog,
        http::publish_release, http::releases, http::release, http::affected,
        http::create_rollout, http::rollouts, http::rollout, http::approve_rollout,
        http::observations, http::observation_summary, http::data_stats, http::events, http::drift,
        http::login, http::start_oidc, http::finish_oidc, http::logout, http::who_am_i,
        http::operators, http::add_operator, http::disable_operator, http::enable_operator,
        http::set_operator_role, http::set_operator_password,
        http::api_tokens, http::create_api_token, http::revoke_api_token,
        http::audit, http::audit_head,
    ),
    modifiers(&OperatorToken),
    security(("operator" = []))
)]
struct Description;

struct OperatorToken;

impl utoipa::Modify for OperatorToken {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("operator", scheme);
    }
}

/// The description of the REST interface, as `GET /openapi.json` gives it.
pub fn openapi_json() -> String {
    let mut json = Description::openapi()
        .to_pretty_json()
        .unwrap_or_else(|_| "{}".into());
    json.push('\n');
    json
}
