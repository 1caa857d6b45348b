//! The OpenID Connect issuer: authorisation code with PKCE (RFC 7636) for programs on a
//! person's own machine (RFC 8252).
//!
//! The person's program holds the verifier and the loopback listener, the server talks to the
//! issuer and judges the ID token: signature, issuer, audience, time, and the nonce that the
//! server itself drew. Attempts under way are in memory, few, and each is used once.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drover_api::{FinishOidc, OperatorRole, Secret, StartOidc, StartedOidc};
use jsonwebtoken::jwk::JwkSet;
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::tls::Certificate;

use super::jwt;
use crate::error::ServerError;
use crate::http::Refusal;
use crate::{clock, random};

/// How long a person may take at the issuer.
const TTL: Duration = Duration::from_secs(600);
/// Attempts under way at most; the oldest makes room.
const MAX_PENDING: usize = 256;
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;
const MAX_TEXT_BYTES: usize = 255;

/// The issuer, and who of it may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// Its address, exactly as it names itself in its tokens.
    pub issuer: String,
    /// What it calls this server.
    pub client_id: String,
    /// File with the secret of that client, where the issuer insists on one.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// File with the certificates of authorities, in PEM, that vouch for the issuer; without
    /// it those of the system do.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Claim that names a person's groups; dots lead into objects.
    #[serde(default = "default_claim")]
    pub role_claim: String,
    /// Groups that have each role; whoever is in none of them is not let in.
    #[serde(default)]
    pub roles: BTreeMap<OperatorRole, Vec<String>>,
}

fn default_claim() -> String {
    "groups".to_owned()
}

/// A person whom the issuer vouches for.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) name: String,
    pub(super) role: OperatorRole,
}

/// Talks to the issuer. Every method blocks.
pub(crate) struct Oidc {
    config: OidcConfig,
    client_secret: Option<Secret>,
    agent: ureq::Agent,
    pending: Mutex<HashMap<String, Pending>>,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Oidc({})", self.config.issuer)
    }
}

/// An attempt under way.
pub(super) struct Pending {
    nonce: String,
    redirect_uri: String,
    discovered: Discovered,
    began: Instant,
}

/// What the issuer says of itself (OpenID Connect Discovery 1.0).
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Answer {
    id_token: Secret,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    nonce: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Oidc {
    /// Reads the files that the configuration names.
    pub(super) fn new(config: &OidcConfig) -> Result<Self, ServerError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| ServerError::OidcFile {
                path: path.clone(),
                source,
            })
        };
        let secret = config.client_secret_file.as_ref().map(read).transpose()?;
        let client_secret = secret.map(|s| Secret::new(String::from_utf8_lossy(&s).trim()));
        let authorities = match config.ca_file.as_ref().map(read).transpose()? {
            None => {
                // Authorities that cannot be read are missing, which the issuer's shows.
                let native = rustls_native_certs::load_native_certs().certs;
                let certificate = |c: &CertificateDer<'_>| Certificate::from_der(c).to_owned();
                let certificates = native.iter().map(certificate).collect();
                ureq::tls::RootCerts::Specific(Arc::new(certificates))
            }
            Some(pem) => {
                let items = ureq::tls::parse_pem(&pem);
                let certificates = items.filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                });
                ureq::tls::RootCerts::Specific(Arc::new(certificates.collect()))
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(authorities)
            .build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(15)))
            .tls_config(tls)
            .build();
        Ok(Self {
            config: config.clone(),
            client_secret,
            agent: agent.into(),
            pending: Mutex::default(),
        })
    }

    /// Where to send the browser.
    pub(super) fn start(&self, request: &StartOidc) -> Result<StartedOidc, Refusal> {
        if !is_loopback(&request.redirect_uri, "http://") {
            return Err(Refusal::bad(
                "redirect_uri: the browser comes back to this machine, to \
                 http://127.0.0.1:PORT/ or http://[::1]:PORT/",
            ));
        }
        let challenge = &request.code_challenge;
        let is_base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if challenge.len() != 43 || !challenge.bytes().all(is_base64url) {
            return Err(Refusal::bad(
                "code_challenge: the SHA-256 of the verifier in base64url, 43 characters",
            ));
        }
        let issuer = self.config.issuer.trim_end_matches('/');
        let address = format!("{issuer}/.well-known/openid-configuration");
        let discovered: Discovered = self.ask(self.agent.get(&address).call())?;
        if discovered.issuer != self.config.issuer {
            return Err(unusable("it calls itself by another name"));
        }
        let (nonce, state) = (random::secret()?, random::secret()?);
        let parameters = [
            ("response_type", "code"),
            ("client_id", &self.config.client_id),
            ("redirect_uri", &request.redirect_uri),
            ("scope", "openid profile email"),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ];
        let endpoint = &discovered.authorization_endpoint;
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        let authorization_url = format!("{endpoint}{joint}{}", form(&parameters));
        let now = clock::monotonic();
        let mut pending = self.pending();
        pending.retain(|_, p| now.duration_since(p.began) < TTL);
        if pending.len() >= MAX_PENDING {
            let oldest = pending.iter().min_by_key(|(_, p)| p.began);
            if let Some(oldest) = oldest.map(|(state, _)| state.clone()) {
                pending.remove(&oldest);
            }
        }
        pending.insert(
            state.clone(),
            Pending {
                nonce,
                redirect_uri: request.redirect_uri.clone(),
                discovered,
                began: now,
            },
        );
        Ok(StartedOidc {
            authorization_url,
            state,
            ttl_secs: TTL.as_secs(),
        })
    }

    /// Takes an attempt that is under way; nobody takes it again.
    pub(super) fn take(&self, state: &str) -> Result<Pending, Refusal> {
        let found = self.pending().remove(state);
        let now = clock::monotonic();
        let found = found.filter(|p| now.duration_since(p.began) < TTL);
        found.ok_or_else(|| Refusal::wrong_login("this attempt to log in is over; begin again"))
    }

    /// Exchanges the code, and judges the ID token.
    pub(super) fn finish(&self, pending: Pending, request: &FinishOidc) -> Result<Person, Refusal> {
        let mut parameters = vec![
            ("grant_type", "authorization_code"),
            ("code", request.code.reveal()),
            ("redirect_uri", &pending.redirect_uri),
            ("client_id", &self.config.client_id),
            ("code_verifier", request.code_verifier.reveal()),
        ];
        if let Some(secret) = &self.client_secret {
            parameters.push(("client_secret", secret.reveal()));
        }
        let endpoint = &pending.discovered.token_endpoint;
        permitted(endpoint)?;
        let exchange = self.agent.post(endpoint);
        let exchange = exchange.header("content-type", "application/x-www-form-urlencoded");
        let answer: Answer = self.ask(exchange.send(form(&parameters)))?;
        let keys = &pending.discovered.jwks_uri;
        permitted(keys)?;
        let keys: JwkSet = self.ask(self.agent.get(keys).call())?;
        let (issuer, audience) = (&self.config.issuer, &self.config.client_id);
        let claims: Claims = jwt::verify(answer.id_token.reveal(), &keys, issuer, audience)
            .map_err(|error| {
                tracing::warn!(%error, "an ID token is refused");
                Refusal::wrong_login(format!("the issuer's ID token is refused: {error}"))
            })?;
        self.judge(claims, &pending.nonce)
    }

    fn judge(&self, claims: Claims, nonce: &str) -> Result<Person, Refusal> {
        let refuse = |why: &str| {
            let message = format!("the issuer's ID token is refused: {why}");
            Err(Refusal::wrong_login(message))
        };
        let config = &self.config;
        if claims.iss != config.issuer {
            return refuse("it is of another issuer");
        }
        if claims.nonce != nonce {
            return refuse("it answers another attempt");
        }
        // A token for several parties was made for the one that it names (Core 1.0, 3.1.3.7).
        let alone = match &claims.aud {
            Audience::One(one) => *one == config.client_id,
            Audience::Many(many) => many.len() == 1,
        };
        let party = claims.azp.as_ref().is_some_and(|p| *p == config.client_id);
        if !(party || alone && claims.azp.is_none()) {
            return refuse("it was made for another program");
        }
        let is_text = |t: &str| {
            !t.is_empty() && t.len() <= MAX_TEXT_BYTES && !t.chars().any(char::is_control)
        };
        if !is_text(&claims.sub) {
            return refuse("its subject is not usable");
        }
        let groups = groups(&claims.rest, &config.role_claim);
        let has = |wanted: &[String]| wanted.iter().any(|w| groups.contains(&w.as_str()));
        let mut roles = config.roles.iter().rev();
        let Some((&role, _)) = roles.find(|(_, wanted)| has(wanted)) else {
            return Err(Refusal::not_allowed(format!(
                "none of your groups (claim {:?}) has a role here; ask an admin",
                config.role_claim
            )));
        };
        let text = |claim: &str| claims.rest.get(claim).and_then(|v| v.as_str());
        let name = text("preferred_username").or_else(|| text("email"));
        Ok(Person {
            issuer: claims.iss,
            name: name.filter(|n| is_text(n)).unwrap_or_default().to_owned(),
            subject: claims.sub,
            role,
        })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Refusal> {
        let mut answer = answer.map_err(|error| {
            tracing::warn!(%error, issuer = self.config.issuer, "the issuer does not answer");
            unusable("it does not answer; the server's log says more")
        })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(unusable(&format!("it answers with HTTP status {status}")));
        }
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        let parsed = body.read_json();
        parsed.map_err(|_| unusable("its answer does not parse"))
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pending>> {
        match self.pending.lock() {
            Ok(pending) => pending,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl OidcConfig {
    /// The issuer at this address, where this server goes by this name; nobody has a role yet.
    pub fn new(issuer: &str, client_id: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            client_secret_file: None,
            ca_file: None,
            role_claim: default_claim(),
            roles: BTreeMap::new(),
        }
    }

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        let refuse = |field, why| Err(ServerError::Config { field, why });
        if permitted(&self.issuer).is_err() {
            return refuse("oidc.issuer", "use an https:// address");
        }
        if self.client_id.is_empty() {
            return refuse(
                "oidc.client_id",
                "the issuer gives one when it is set up there",
            );
        }
        if self.roles.values().all(Vec::is_empty) {
            return refuse(
                "oidc.roles",
                "nobody gets in without; give a role to some group",
            );
        }
        Ok(())
    }
}

/// Groups in a claim: one text or a list of them.
fn groups<'a>(claims: &'a serde_json::Map<String, serde_json::Value>, claim: &str) -> Vec<&'a str> {
    let found = claims.get(claim).or_else(|| {
        let mut parts = claim.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    });
    match found {
        Some(serde_json::Value::String(one)) => vec![one],
        Some(serde_json::Value::Array(many)) => many.iter().filter_map(|v| v.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// What the issuer is told and tells goes through TLS, or never leaves this machine.
fn permitted(address: &str) -> Result<(), Refusal> {
    if address.starts_with("https://") || is_loopback(address, "http://") {
        return Ok(());
    }
    Err(unusable("it wants to be asked without TLS"))
}

/// Whether an address is a port of this machine.
fn is_loopback(address: &str, scheme: &str) -> bool {
    let rest = address.strip_prefix(scheme).unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority: Option<std::net::SocketAddr> = rest[..end].parse().ok();
    authority.is_some_and(|a| a.ip().is_loopback())
}

fn unusable(why: &str) -> Refusal {
    Refusal::unavailable(format!("the OpenID Connect issuer is of no use now: {why}"))
}

/// `application/x-www-form-urlencoded`.
fn form(parameters: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (address, wanted) in [
            ("http://127.0.0.1:81/callback", true),
            ("http://[::1]:81", true),
            ("http://127.0.0.1:81@evil.example/", false),
            ("http://127.0.0.1.evil.example:81/", false),
            ("http://localhost:81/", false),
            ("https://127.0.0.1:81/", false),
            ("http://10.0.0.1:81/", false),
        ] {
            assert_eq!(is_loopback(address, "http://"), wanted, "{address}");
        }
        permitted("http://issuer.example/").unwrap_err();
        permitted("https://issuer.example/").unwrap();
    }

    #[test]
    fn groups_are_found_as_text_list_and_inside() {
        let claims = serde_json::json!({
            "groups": ["a", "b", 3],
            "role": "c",
            "realm_access": { "roles": ["d"] },
            "https://x.example/roles": ["e"],
        });
        let claims = claims.as_object().unwrap();
        assert_eq!(groups(claims, "groups"), ["a", "b"]);
        assert_eq!(groups(claims, "role"), ["c"]);
        assert_eq!(groups(claims, "realm_access.roles"), ["d"]);
        assert_eq!(groups(claims, "https://x.example/roles"), ["e"]);
        assert!(groups(claims, "none.at.all").is_empty());
    }
}
