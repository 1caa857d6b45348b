//! A small blocking client, for the command line and for tests.
//!
//! It never retries: whoever calls decides that. Over HTTPS it speaks to nobody whose
//! certificate it cannot verify.

mod operator;
mod tls;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::HeaderValue;

pub use tls::TlsFiles;

use crate::{
    Affected, BootStats, Broker, Catalog, ConfigFile, CreateRollout, CreateTokens, Device,
    DriftStatus, ErrorBody, ErrorCode, Event, Health, List, MosquittoRequest, Observation,
    ObservationSummary, Release, RevokeDevice, Rollout, RootVersion, Secret, Status, Token,
};

/// Header that says why something is changed; UTF-8.
pub const REASON_HEADER: &str = "x-drover-reason";

/// Answers larger than this are refused, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server did not answer.
    #[error("no answer from {url}; is the server running there?")]
    Unreachable {
        /// Address that was tried.
        url: String,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// The server's certificate is not one to believe.
    #[error(
        "the certificate of {url} cannot be verified; name the file of its authority with --ca \
         or DROVER_CA (the server keeps it in its data folder as ca.pem)"
    )]
    Untrusted {
        /// Address that was tried.
        url: String,
        /// What is wrong with it.
        source: Box<ureq::Error>,
    },
    /// Certificates or keys that cannot be used.
    #[error("{what} is not usable PEM")]
    Tls {
        /// Which file.
        what: &'static str,
    },
    /// The server answered that it does not do it.
    #[error("{}", .body.message)]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's reason.
        body: ErrorBody,
    },
    /// The answer is not one of this interface.
    #[error("{url} answered with something that is not this interface (HTTP status {status})")]
    Unexpected {
        /// Address that was tried.
        url: String,
        /// HTTP status.
        status: u16,
    },
}

impl ApiError {
    /// The server's reason, when it gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { body, .. } => Some(body.code),
            _ => None,
        }
    }
}

/// Talks to one server as an operator.
#[derive(Clone, Debug)]
pub struct Client {
    base_url: String,
    token: Secret,
    reason: Option<HeaderValue>,
    agent: ureq::Agent,
}

type Result<T> = std::result::Result<T, ApiError>;

impl Client {
    /// A client of the server at `base_url`, such as `https://127.0.0.1:8080`, with the
    /// operator's token. The server's certificate is judged by the system's authorities.
    pub fn new(base_url: &str, token: &str) -> Self {
        Self::build(base_url, token, tls::by_system())
    }

    /// A client that believes the authorities in `files` and may show a certificate.
    /// Whoever shows a certificate may give an empty token.
    ///
    /// # Errors
    /// [`ApiError::Tls`] when the files hold something else.
    pub fn with_tls(base_url: &str, token: &str, files: &TlsFiles) -> Result<Self> {
        Ok(Self::build(base_url, token, tls::by_files(files)?))
    }

    fn build(base_url: &str, token: &str, tls: ureq::tls::TlsConfig) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(300)))
            .tls_config(tls)
            .build();
        Self {
            base_url: base_url.trim_end_matches('/').to_owned(),
            token: Secret::new(token.trim()),
            reason: None,
            agent: config.into(),
        }
    }

    /// The same client, which says why with every change that it asks for; the server's audit
    /// log keeps it. Control characters are left out.
    pub fn with_reason(mut self, reason: &str) -> Self {
        let text: String = reason.chars().filter(|c| !c.is_control()).collect();
        self.reason = HeaderValue::from_bytes(text.trim().as_bytes()).ok();
        self
    }

    /// Whether the server lives.
    ///
    /// # Errors
    /// Any [`ApiError`], as every method here.
    pub fn health(&self) -> Result<Health> {
        self.get("/healthz")
    }

    /// The server at a glance.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn status(&self) -> Result<Status> {
        self.get("/v1/status")
    }

    /// Makes claim tokens.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn create_tokens(&self, request: &CreateTokens) -> Result<Vec<Token>> {
        self.post::<List<Token>>("/v1/tokens", request)
            .map(|l| l.items)
    }

    /// All devices.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn devices(&self) -> Result<Vec<Device>> {
        self.list("/v1/devices")
    }

    /// One device, by identity or name.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn device(&self, device: &str) -> Result<Device> {
        self.get(&format!("/v1/devices/{}", segment(device)))
    }

    /// Lets a waiting device take part.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn approve_device(&self, device: &str) -> Result<Device> {
        self.post(&format!("/v1/devices/{}/approve", segment(device)), &())
    }

    /// Takes a device's certificates back for ever and ends its connection.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn revoke_device(&self, device: &str, reason: &str) -> Result<Device> {
        let request = RevokeDevice {
            reason: reason.to_owned(),
        };
        self.post(&format!("/v1/devices/{}/revoke", segment(device)), &request)
    }

    /// Publishes a bundle, given as the bytes of its container file.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn publish_release(&self, container: &[u8]) -> Result<Release> {
        self.send("/v1/releases", container)
    }

    /// Publishes a bundle whose content travels encrypted, for the fleet's devices alone.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn publish_confidential(&self, container: &[u8]) -> Result<Release> {
        self.send("/v1/releases?confidential=true", container)
    }

    /// The catalog that devices get.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn catalog(&self) -> Result<Catalog> {
        self.get("/v1/catalog")
    }

    /// All roots of the fleet, the oldest first.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn roots(&self) -> Result<Vec<RootVersion>> {
        self.list("/v1/roots")
    }

    /// Publishes the root that follows the newest, given as its encoded envelope.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn publish_root(&self, envelope: &[u8]) -> Result<RootVersion> {
        self.send("/v1/roots", envelope)
    }

    /// Gives a device to another fleet by a voucher, given as its encoded envelope.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn transfer_device(&self, device: &str, voucher: &[u8]) -> Result<Device> {
        self.send(
            &format!("/v1/devices/{}/transfer", segment(device)),
            voucher,
        )
    }

    /// All releases, newest first.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn releases(&self) -> Result<Vec<Release>> {
        self.list("/v1/releases")
    }

    /// One release, named as in [`CreateRollout::release`].
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn release(&self, release: &str) -> Result<Release> {
        self.get(&format!("/v1/releases/{}", segment(release)))
    }

    /// Which devices run a component: `NAME`, or `NAME<VERSION` with `<`, `<=`, `=`, `>=`, `>`.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn affected(&self, component: &str) -> Result<Affected> {
        self.get(&format!("/v1/affected?component={}", segment(component)))
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn create_rollout(&self, request: &CreateRollout) -> Result<Rollout> {
        self.post("/v1/rollouts", request)
    }

    /// All rollouts without their devices, newest first.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn rollouts(&self) -> Result<Vec<Rollout>> {
        self.list("/v1/rollouts")
    }

    /// One rollout with its devices.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn rollout(&self, id: &str) -> Result<Rollout> {
        self.get(&format!("/v1/rollouts/{}", segment(id)))
    }

    /// Lets a rollout begin that waits for a second person.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn approve_rollout(&self, id: &str) -> Result<Rollout> {
        self.post(&format!("/v1/rollouts/{}/approve", segment(id)), &())
    }

    /// Each device's observations, summed up.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn observation_summaries(&self) -> Result<Vec<ObservationSummary>> {
        self.list("/v1/observations/summary")
    }

    /// The newest observations, of one device or of all.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn observations(&self, device: Option<&str>, limit: u32) -> Result<Vec<Observation>> {
        let device = device.map_or(String::new(), |d| format!("&device={}", segment(d)));
        self.list(&format!("/v1/observations?limit={limit}{device}"))
    }

    /// What is stored of each start of each device.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn data_stats(&self) -> Result<Vec<BootStats>> {
        self.list("/v1/data/stats")
    }

    /// The newest events, of one device or of all.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn events(&self, device: Option<&str>, limit: u32) -> Result<Vec<Event>> {
        let device = device.map_or(String::new(), |d| format!("&device={}", segment(d)));
        self.list(&format!("/v1/events?limit={limit}{device}"))
    }

    /// Drift per bundle that has profiles.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn drift(&self) -> Result<Vec<DriftStatus>> {
        self.list("/v1/drift")
    }

    /// The broker.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn broker(&self) -> Result<Broker> {
        self.get("/v1/broker")
    }

    /// Starts the embedded broker again.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn start_broker(&self) -> Result<Broker> {
        self.post("/v1/broker/start", &())
    }

    /// Stops the embedded broker; devices go on and buffer.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn stop_broker(&self) -> Result<Broker> {
        self.post("/v1/broker/stop", &())
    }

    /// Files with which mosquitto enforces what the embedded broker does.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn mosquitto(&self, request: &MosquittoRequest) -> Result<Vec<ConfigFile>> {
        self.post::<List<ConfigFile>>("/v1/broker/mosquitto", request)
            .map(|l| l.items)
    }

    /// The list of revoked certificates, for brokers that read it.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn revocation_list(&self) -> Result<ConfigFile> {
        self.get("/v1/broker/crl")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// With the token; without one the connection's certificate says who asks.
    fn authorized<Body>(&self, request: ureq::RequestBuilder<Body>) -> ureq::RequestBuilder<Body> {
        match self.token.reveal() {
            "" => request,
            token => request.header("authorization", format!("Bearer {token}")),
        }
    }

    fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        self.get::<List<T>>(path).map(|l| l.items)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.authorized(self.agent.get(self.url(path)));
        self.answer(path, request.call())
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.answer(path, self.change(path).send_json(body))
    }

    /// A request that changes something.
    fn change(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let request = self.authorized(self.agent.post(self.url(path)));
        match &self.reason {
            Some(reason) => request.header(REASON_HEADER, reason),
            None => request,
        }
    }

    fn send<T: DeserializeOwned>(&self, path: &str, bytes: &[u8]) -> Result<T> {
        // A server that refuses answers before the bytes are sent; it would close the connection
        // on the rest of them, and its reason would be lost.
        let request = self
            .change(path)
            .header("content-type", "application/octet-stream")
            .header("expect", "100-continue");
        self.answer(path, request.send(bytes))
    }

    fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        result: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T> {
        let unreachable = |source| {
            let (url, source) = (self.url(path), Box::new(source));
            match tls::is_untrusted(&source) {
                true => ApiError::Untrusted { url, source },
                false => ApiError::Unreachable { url, source },
            }
        };
        let mut response = result.map_err(unreachable)?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_vec()
            .map_err(unreachable)?;
        let unexpected = || ApiError::Unexpected {
            url: self.url(path),
            status,
        };
        if (200..300).contains(&status) {
            return serde_json::from_slice(&body).map_err(|_| unexpected());
        }
        match serde_json::from_slice(&body) {
            Ok(body) => Err(ApiError::Refused { status, body }),
            Err(_) => Err(unexpected()),
        }
    }
}

/// One path segment or query value: everything that could mean something in a URL is escaped.
fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
