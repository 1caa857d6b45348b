//! A small OpenID Connect issuer: what it signs, and what it gets wrong when told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What the issuer signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// What it gives for a code: set by the test before the browser would have come back.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) challenge: String,
    pub(crate) claims: Value,
    pub(crate) header: Value,
    pub(crate) signer: Arc<Signer>,
}

pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) signer: Arc<Signer>,
    grants: Grants,
}

type Grants = Arc<Mutex<HashMap<String, Grant>>>;

#[derive(Clone)]
struct Shared {
    url: String,
    jwk: Value,
    grants: Grants,
}

/// A key of nobody's: `openssl genrsa 2048`, as PKCS #8.
const RSA_KEY: &str = include_str!("rsa.pk8.base64");

impl Signer {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let random = SystemRandom::new();
        match algorithm {
            Algorithm::Rs256 => {
                let text: String = RSA_KEY.split_whitespace().collect();
                let der = data_encoding::BASE64.decode(text.as_bytes()).unwrap();
                Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).unwrap()))
            }
            Algorithm::Es256 => {
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
                Self::Ec(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
            }
            Algorithm::EdDsa => {
                let key = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
            }
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Self::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({
                    "kty": "RSA", "use": "sig", "kid": "k",
                    "n": text(&public.n), "e": text(&public.e),
                })
            }
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256", "use": "sig", "kid": "k",
                    "x": text(&point[1..33]), "y": text(&point[33..]),
                })
            }
            Self::Ed(key) => json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "k",
                "x": text(key.public_key().as_ref()),
            }),
        }
    }

    pub(crate) fn header(&self) -> Value {
        let algorithm = match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        };
        json!({ "alg": algorithm, "kid": "k" })
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let bytes = message.as_bytes();
                key.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
                    .unwrap();
                signature
            }
            Self::Ec(key) => key
                .sign(&random, message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

impl Issuer {
    pub(crate) async fn start(algorithm: Algorithm) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let signer = Arc::new(Signer::new(algorithm));
        let grants = Grants::default();
        let shared = Shared {
            url: url.clone(),
            jwk: signer.jwk(),
            grants: grants.clone(),
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            signer,
            grants,
        }
    }

    /// What the person at the browser would have brought about.
    pub(crate) fn grant(&self, code: &str, grant: Grant) {
        self.grants.lock().unwrap().insert(code.into(), grant);
    }
}

async fn discovery(State(shared): State<Shared>) -> Json<Value> {
    let url = &shared.url;
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize?tenant=1"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"),
    }))
}

async fn keys(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({ "keys": [shared.jwk] }))
}

async fn token(State(shared): State<Shared>, form: String) -> Result<Json<Value>, StatusCode> {
    let refused = StatusCode::BAD_REQUEST;
    // A form is written like a query.
    let form = format!("http://form/?{form}")
        .parse()
        .map_err(|_| refused)?;
    let form = Query::<HashMap<String, String>>::try_from_uri(&form).map_err(|_| refused)?;
    let grant = shared.grants.lock().unwrap().remove(&form["code"]);
    let grant = grant.ok_or(refused)?;
    let shown = BASE64URL_NOPAD.encode(&Sha256::digest(form["code_verifier"].as_bytes()));
    if shown != grant.challenge || form["grant_type"] != "authorization_code" {
        return Err(refused);
    }
    let id_token = grant.signer.token(&grant.header, &grant.claims);
    Ok(Json(
        json!({ "id_token": id_token, "token_type": "Bearer", "access_token": "x" }),
    ))
}
