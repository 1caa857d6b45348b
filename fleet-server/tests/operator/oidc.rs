//! Logging in at an OpenID Connect issuer, and every way in which its word does not count.

use std::collections::HashMap;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use drover_api::{
    ApiError, CreateApiToken, ErrorCode, FinishOidc, NewApiToken, OperatorRole, Secret, StartOidc,
    TokenKind,
};
use drover_server::OidcConfig;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Person;
use crate::issuer::{Algorithm, Grant, Issuer, Signer};
use crate::support::Fleet;

const VERIFIER: &str = "a verifier of this test, 43 characters or more";

async fn fleet_with(issuer: &Issuer) -> Fleet {
    let mut oidc = OidcConfig::new(&issuer.url, "drover");
    oidc.roles = [
        (OperatorRole::Operator, vec!["staff".into()]),
        (OperatorRole::Admin, vec!["admins".into(), "owners".into()]),
    ]
    .into();
    Fleet::start_with(|config| config.oidc = Some(oidc)).await
}

#[expect(clippy::disallowed_methods, reason = "ID tokens carry the real time")]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn challenge() -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(VERIFIER.as_bytes()))
}

/// Begins to log in; gives the state, and the nonce that the browser would carry.
async fn start(fleet: &Fleet) -> (String, HashMap<String, String>) {
    let request = StartOidc {
        redirect_uri: "http://127.0.0.1:9/".into(),
        code_challenge: challenge(),
    };
    let stranger = Person::with(fleet, "");
    let started = stranger
        .asks(move |c| c.start_oidc(&request))
        .await
        .unwrap();
    let (_, query) = started.authorization_url.split_once('?').unwrap();
    let pair = |p: &str| {
        let (name, value) = p.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    (started.state, query.split('&').map(pair).collect())
}

async fn finish(fleet: &Fleet, state: &str, verifier: &str) -> Result<NewApiToken, ApiError> {
    let request = FinishOidc {
        state: state.into(),
        code: Secret::new("the-code"),
        code_verifier: Secret::new(verifier),
    };
    let stranger = Person::with(fleet, "");
    stranger.asks(move |c| c.finish_oidc(&request)).await
}

/// Logs in with claims that `change` changed.
async fn log_in(
    fleet: &Fleet,
    issuer: &Issuer,
    change: impl FnOnce(&mut Grant),
) -> Result<NewApiToken, ApiError> {
    let (state, query) = start(fleet).await;
    let mut grant = Grant {
        challenge: query["code_challenge"].clone(),
        claims: json!({
            "iss": issuer.url, "sub": "248289761001", "aud": "drover", "exp": now() + 300,
            "iat": now(), "nonce": query["nonce"], "groups": ["staff", "others"],
            "preferred_username": "jane",
        }),
        header: issuer.signer.header(),
        signer: issuer.signer.clone(),
    };
    change(&mut grant);
    issuer.grant("the-code", grant);
    finish(fleet, &state, VERIFIER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_the_issuer_get_the_role_of_their_group() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let issuer = Issuer::start(algorithm).await;
        let fleet = fleet_with(&issuer).await;
        let token = log_in(&fleet, &issuer, |_| ()).await.unwrap();
        assert_eq!(token.about.kind, TokenKind::Oidc);
        assert_eq!(
            (token.about.name.as_str(), token.about.role),
            ("jane", OperatorRole::Operator)
        );
        let jane = Person::with(&fleet, token.token.reveal());
        let who = jane.asks(|c| c.who_am_i()).await.unwrap();
        assert_eq!(who.account, "oidc:248289761001", "{algorithm:?}");
        let token = log_in(&fleet, &issuer, |g| g.claims["groups"] = json!("owners")).await;
        assert_eq!(token.unwrap().about.role, OperatorRole::Admin);

        // What such a person makes does not outlive the login.
        let long = CreateApiToken {
            name: "long".into(),
            role: OperatorRole::Viewer,
            ttl_secs: 90 * 24 * 3600,
        };
        let made = jane.asks(move |c| c.create_api_token(&long)).await.unwrap();
        assert!(made.about.expires_unix_s <= now() + 13 * 3600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_is_sent_with_all_that_ties_the_answer_to_the_question() {
    let issuer = Issuer::start(Algorithm::EdDsa).await;
    let fleet = fleet_with(&issuer).await;
    let (state, query) = start(&fleet).await;
    let (_, other) = start(&fleet).await;
    assert_eq!(query["tenant"], "1");
    assert_eq!(query["state"], state);
    assert_eq!(query["code_challenge"], challenge());
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["redirect_uri"], "http%3A%2F%2F127.0.0.1%3A9%2F");
    assert!(query["nonce"].len() >= 26 && query["nonce"] != other["nonce"]);

    let elsewhere = StartOidc {
        redirect_uri: "https://evil.example/".into(),
        code_challenge: challenge(),
    };
    let stranger = Person::with(&fleet, "");
    let refused = stranger.asks(move |c| c.start_oidc(&elsewhere)).await;
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::BadRequest));
}

type Forgery = (&'static str, Box<dyn FnOnce(&mut Grant) + Send>);

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_not_the_issuers_is_refused() {
    let issuer = Issuer::start(Algorithm::Rs256).await;
    let fleet = fleet_with(&issuer).await;
    let set = |claim: &'static str, value: Value| -> Box<dyn FnOnce(&mut Grant) + Send> {
        Box::new(move |g| g.claims[claim] = value)
    };
    let header = |header: Value| -> Box<dyn FnOnce(&mut Grant) + Send> {
        Box::new(move |g| g.header = header)
    };
    let other = |algorithm| -> Box<dyn FnOnce(&mut Grant) + Send> {
        Box::new(move |g| g.signer = Arc::new(Signer::new(algorithm)))
    };
    let forgeries: Vec<Forgery> = vec![
        ("issuer", set("iss", json!("https://evil.example"))),
        (
            "issuers",
            set("iss", json!([issuer.url, "https://evil.example"])),
        ),
        ("audience", set("aud", json!("another"))),
        ("audiences", set("aud", json!(["drover", "another"]))),
        ("party", set("azp", json!("another"))),
        ("expired", set("exp", json!(now() - 120))),
        ("no expiry", set("exp", Value::Null)),
        ("expiry of text", set("exp", json!("never"))),
        ("future", set("nbf", json!(now() + 600))),
        ("nonce", set("nonce", json!("guess"))),
        ("no nonce", set("nonce", Value::Null)),
        ("no subject", set("sub", json!(""))),
        ("unknown key", header(json!({ "alg": "RS256", "kid": "x" }))),
        ("no signature", header(json!({ "alg": "none", "kid": "k" }))),
        (
            "shared secret",
            header(json!({ "alg": "HS256", "kid": "k" })),
        ),
        (
            "other algorithm",
            header(json!({ "alg": "ES256", "kid": "k" })),
        ),
        ("other signer", other(Algorithm::EdDsa)),
    ];
    for (what, forge) in forgeries {
        let error = log_in(&fleet, &issuer, forge).await.unwrap_err();
        assert_eq!(
            error.code(),
            Some(ErrorCode::Unauthorized),
            "{what}: {error}"
        );
        assert!(error.to_string().contains("ID token"), "{what}: {error}");
    }
    let nobody = log_in(&fleet, &issuer, |g| g.claims["groups"] = json!(["guests"])).await;
    let nobody = nobody.unwrap_err();
    assert_eq!(nobody.code(), Some(ErrorCode::Forbidden), "{nobody}");
    let tokens = fleet.operate(|c| c.api_tokens()).await.unwrap();
    assert!(tokens.is_empty(), "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_used_once_by_whoever_began_it() {
    let issuer = Issuer::start(Algorithm::Es256).await;
    let fleet = fleet_with(&issuer).await;
    let (state, query) = start(&fleet).await;
    let grant = Grant {
        challenge: query["code_challenge"].clone(),
        claims: json!({}),
        header: issuer.signer.header(),
        signer: issuer.signer.clone(),
    };
    issuer.grant("the-code", grant);
    // Somebody who saw code and state but has not the verifier.
    let stolen = finish(
        &fleet,
        &state,
        "not the verifier of this attempt at all....",
    )
    .await;
    assert_eq!(stolen.unwrap_err().code(), Some(ErrorCode::Unavailable));
    for state in [state.as_str(), "guess"] {
        let over = finish(&fleet, state, VERIFIER).await.unwrap_err();
        assert_eq!(over.code(), Some(ErrorCode::Unauthorized));
        assert!(over.to_string().contains("begin again"), "{over}");
    }
    let without = Fleet::start().await;
    let request = StartOidc {
        redirect_uri: "http://127.0.0.1:9/".into(),
        code_challenge: challenge(),
    };
    let stranger = Person::with(&without, "");
    let none = stranger
        .asks(move |c| c.start_oidc(&request))
        .await
        .unwrap_err();
    assert_eq!(none.code(), Some(ErrorCode::NotFound));
}
