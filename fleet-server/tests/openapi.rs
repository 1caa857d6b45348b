//! The description of the REST interface is the one in `api/openapi.json`.

use std::path::Path;

#[test]
fn the_description_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("api/openapi.json");
    let json = drover_server::openapi_json();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &json).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == json,
        "api/openapi.json is not what the server serves; see README.md for how to update it"
    );
    assert!(json.contains("/v1/rollouts/{rollout}"));
}
