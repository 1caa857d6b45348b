//! REST as raw HTTP, so that rows can ask for what no client of ours would.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Result, fail};

/// An answer of the server.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body, if it is JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether the server did what it was asked.
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, or what the server said instead.
    pub(crate) fn accepted(self, what: &str) -> Result<Value> {
        if self.is_ok() {
            return Ok(self.json());
        }
        fail(format!("{what} was refused: {}", self.text()))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        format!(
            "HTTP {} {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        )
    }
}

/// Somebody who talks to the server, with a token or without.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    url: String,
    token: Option<String>,
    agent: ureq::Agent,
}

impl Caller {
    /// A caller of the server at `url`.
    pub(crate) fn new(url: &str, token: Option<&str>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Self {
            url: url.to_owned(),
            token: token.map(|t| t.trim().to_owned()),
            agent: config.into(),
        }
    }

    /// GET.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.answer(path, request.call())
    }

    /// POST of JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(path, "application/json", body.to_string().as_bytes())
    }

    /// POST of octets.
    pub(crate) fn post_bytes(&self, path: &str, body: &[u8]) -> Result<Answer> {
        self.send(path, "application/octet-stream", body)
    }

    /// What a list has, newest first where it says so.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<Value>> {
        let answer = self.get(path)?.accepted(path)?;
        let items = answer.get("items").and_then(Value::as_array);
        Ok(items.cloned().unwrap_or_default())
    }

    fn send(&self, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("content-type", kind);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.answer(path, request.send(body))
    }

    fn answer(
        &self,
        path: &str,
        result: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer> {
        let read = |mut response: ureq::http::Response<ureq::Body>| {
            let status = response.status().as_u16();
            response.body_mut().read_to_vec().map(|body| (status, body))
        };
        match result.and_then(read) {
            Ok((status, body)) => Ok(Answer { status, body }),
            Err(error) => fail(format!("no answer of the server to {path}: {error}")),
        }
    }
}
