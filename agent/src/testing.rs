//! A few lines of HTTP, for tests that play the server.

use std::io::{Read, Write};

/// The body of a request whose first line starts with `line`, in lower case.
pub(crate) fn http_body(stream: &mut impl Read, line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let n = stream.read(&mut part).expect("the client sends");
        bytes.extend_from_slice(&part[..n]);
        if let Some(body) = body_of(&bytes, line) {
            return body;
        }
        assert!(n > 0, "the request ends early");
    }
}

/// Answers it.
pub(crate) fn answer(stream: &mut impl Write, status: u16, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .expect("the client listens");
    stream.write_all(body).expect("the client listens");
}

/// The body, once it is there as a whole.
fn body_of(bytes: &[u8], line: &str) -> Option<Vec<u8>> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    assert!(head.starts_with(line), "{head}");
    let length = head.split("content-length: ").nth(1)?;
    let length: usize = length.split("\r\n").next()?.parse().ok()?;
    let body = &bytes[end + 4..];
    (body.len() >= length).then(|| body.to_vec())
}
