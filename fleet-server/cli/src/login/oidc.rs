//! Logging in at an OpenID Connect issuer with a browser: this program holds the PKCE
//! verifier (RFC 7636) and a listener on loopback (RFC 8252), the server does the rest.
//!
//! What comes back over loopback is worth nothing without the verifier, which only ever goes
//! to the server; a page that brings another state is not the one that was asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use drover_api::{Client, FinishOidc, NewApiToken, Secret, StartOidc};
use sha2::{Digest, Sha256};

use crate::error::{CliError, Result};

/// Longest line of a request that is read.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// A browser that connects and says nothing is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether a browser has come.
const INTERVAL: Duration = Duration::from_millis(50);

/// Goes through it all and gives the server's token.
pub(super) fn log_in(client: &Client) -> Result<NewApiToken> {
    let failed = |e| CliError::Process("listen for the browser", e);
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|e| CliError::Random(e.into()))?;
    let verifier = BASE64URL_NOPAD.encode(&random);
    let started = client.start_oidc(&StartOidc {
        redirect_uri: format!("http://127.0.0.1:{port}/"),
        code_challenge: BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes())),
    })?;
    let url = &started.authorization_url;
    // It goes to a program of the desktop, which does much with what is no page.
    if !url.starts_with("https://") && !url.starts_with("http://127.0.0.1:") {
        return Err(CliError::Oidc("the issuer's page is not one of the web"));
    }
    eprintln!("log in with a browser on this machine, at:\n{url}");
    open(url);
    let code = wait(&listener, &started.state, started.ttl_secs)?;
    let finish = FinishOidc {
        state: started.state,
        code,
        code_verifier: Secret::new(verifier),
    };
    Ok(client.finish_oidc(&finish)?)
}

/// Opens the page where there is a desktop; the address is printed in any case.
fn open(url: &str) {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"];
    if desktop.iter().any(|v| std::env::var_os(v).is_some()) {
        let mut browser = Command::new("xdg-open");
        browser.arg(url).stdin(Stdio::null());
        // Where it is missing the person opens the address by hand.
        let _ = browser.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

/// The code that the browser brings back.
fn wait(listener: &TcpListener, state: &str, ttl_secs: u64) -> Result<Secret> {
    let deadline = Instant::now() + Duration::from_secs(ttl_secs);
    while Instant::now() < deadline {
        match listener.accept() {
            // Whatever else connects, such as a browser's look for an icon, is let go.
            Ok((stream, _)) => {
                if let Some(answer) = serve(stream, state) {
                    return answer;
                }
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
    Err(CliError::Oidc("nobody logged in in time"))
}

/// Answers one request; gives the outcome if it is the one waited for.
fn serve(mut stream: TcpStream, state: &str) -> Option<Result<Secret>> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone().ok()?.take(MAX_LINE_BYTES));
    reader.read_line(&mut line).ok()?;
    let outcome = outcome(&line, state);
    // A browser shows no answer of a connection that is closed on its unread headers.
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
        header.clear();
    }
    let (status, text) = match &outcome {
        Some(Ok(_)) => (
            "200 OK",
            "You may close this page and go on in the terminal.",
        ),
        Some(Err(_)) => (
            "400 Bad Request",
            "This did not work; the terminal says more.",
        ),
        None => ("404 Not Found", "Nothing is here."),
    };
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{text}"
    );
    // The code is here; whether the browser reads its page changes nothing.
    let _ = stream.write_all(answer.as_bytes());
    outcome
}

/// What a request line such as `GET /?code=..&state=.. HTTP/1.1` brings.
fn outcome(line: &str, state: &str) -> Option<Result<Secret>> {
    let target = line.strip_prefix("GET /?")?.split(' ').next()?;
    let value = |wanted: &str| {
        let mut pairs = target.split('&').filter_map(|p| p.split_once('='));
        pairs
            .find(|(name, _)| *name == wanted)
            .map(|(_, v)| decode(v))
    };
    if value("state")? != state {
        return None;
    }
    Some(match value("code") {
        Some(code) => Ok(Secret::new(code)),
        None => Err(CliError::Oidc("the issuer did not let you in")),
    })
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| first == b'%');
        let escaped = escaped.and_then(|d| data_encoding::HEXUPPER_PERMISSIVE.decode(d).ok());
        match (escaped, first) {
            (Some(byte), _) => {
                bytes.extend(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (None, b'+') => {
                bytes.push(b' ');
                rest = after;
            }
            (None, _) => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_that_was_asked_for_counts() {
        let of = |line: &str| outcome(line, "s1").map(|r| r.ok().map(|s| s.reveal().to_owned()));
        let code = of("GET /?state=s1&code=a%2Fb+c%3D HTTP/1.1\r\n");
        assert_eq!(code, Some(Some("a/b c=".into())));
        let refused = of("GET /?error=access_denied&state=s1 HTTP/1.1\r\n");
        assert_eq!(refused, Some(None));
        assert_eq!(of("GET /?state=s2&code=x HTTP/1.1\r\n"), None);
        assert_eq!(of("GET /?code=x HTTP/1.1\r\n"), None);
        assert_eq!(of("GET /favicon.ico HTTP/1.1\r\n"), None);
        assert_eq!(of("POST /?state=s1&code=x HTTP/1.1\r\n"), None);
    }
}
