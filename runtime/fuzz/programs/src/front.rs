//! The first packet of an MQTT connection, which the server's front reads before the broker
//! does.
//!
//! The file itself is compiled in: the server around it would take minutes to build.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use arbitrary::Unstructured;
use drover_fuzz::bound::{bounded, linear};
use drover_fuzz::parser::{self, Parser, noise};

#[path = "../../../../fleet-server/src/tls/connect.rs"]
#[expect(dead_code, reason = "the front uses more of it")]
mod connect;

use connect::Connect;

/// The reader, with room for one packet of the largest length.
pub const PARSERS: &[Parser] = &[Parser {
    name: "front CONNECT",
    bound: linear(3, 10 * 1024),
    limit: 16 * 1024,
    read: read_connect,
    seeds: packets,
}];

/// Reads from bytes, which never wait.
fn read(bytes: &[u8]) -> (Option<Connect>, usize) {
    let mut stream = bytes;
    let read = {
        let mut future = pin!(Connect::read(&mut stream));
        let mut context = Context::from_waker(Waker::noop());
        match future.as_mut().poll(&mut context) {
            Poll::Ready(read) => read,
            Poll::Pending => panic!("bytes in memory never wait"),
        }
    };
    (read, stream.len())
}

fn read_connect(parser: &Parser, bytes: &[u8]) -> bool {
    let (connect, left) = bounded(parser, bytes.len(), || read(bytes));
    let Some(connect) = connect else {
        return false;
    };
    assert!(left < bytes.len());
    // What goes to the broker has the same client and level, and our credentials only.
    let Some(written) = connect.write_as("user", "secret") else {
        panic!("a packet of 8 KiB can be written");
    };
    let (again, left) = read(&written);
    let again = again.expect("what is written to the broker is a CONNECT");
    assert_eq!(left, 0);
    assert_eq!(
        (again.level, &again.client_id),
        (connect.level, &connect.client_id)
    );
    assert!(written.ends_with(b"\0\x04user\0\x06secret"));
    assert_eq!(again.write_as("user", "secret"), Some(written));
    true
}

fn packets() -> Vec<Vec<u8>> {
    let (id, will) = (&b"\0\x02id"[..], &b"\0\x01t\0\x02hi"[..]);
    let packet = |level: u8, flags: u8, parts: &[&[u8]]| {
        let head = [&b"\0\x04MQTT"[..], &[level, flags, 0, 60]].concat();
        let body = [&head[..], &parts.concat()].concat();
        [&[0x10, u8::try_from(body.len()).unwrap_or(0)], &body[..]].concat()
    };
    vec![
        packet(4, 2, &[id]),
        packet(4, 0xc6, &[id, will, b"\0\x01u", b"\0\x01p"]),
        packet(5, 2, &[b"\x05\x11\0\0\0\x0a", id]),
        packet(5, 6, &[b"\0", id, b"\x02\x01\x01", will]),
    ]
}

/// Raw bytes, and packets put together from parts.
pub fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((choice, rest)) if choice & 1 == 0 => {
            parser::dispatch(PARSERS, &[&[0], rest].concat());
        }
        Some((_, rest)) => assembled(&mut Unstructured::new(rest)),
        None => {}
    }
}

/// Seeds of [`run`].
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = parser::seeds(PARSERS);
    seeds.extend((1..20).map(|n| [&[1], &noise(n, 200)[..]].concat()));
    seeds
}

/// A packet whose parts are what they say is accepted, whatever is in them.
fn assembled(u: &mut Unstructured<'_>) {
    let field = |u: &mut Unstructured<'_>| -> Vec<u8> {
        let bytes: Vec<u8> = u.arbitrary().unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(100)];
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    };
    let properties = |u: &mut Unstructured<'_>| -> Vec<u8> {
        let bytes: Vec<u8> = u.arbitrary().unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(100)];
        [&[bytes.len() as u8], bytes].concat()
    };
    let level = if u.arbitrary().unwrap_or(true) { 4 } else { 5 };
    let flags: u8 = u.arbitrary().unwrap_or(2);
    let mut body = [&b"\0\x04MQTT"[..], &[level, flags, 0, 60]].concat();
    if level == 5 {
        body.extend(properties(u));
    }
    let name: String = u
        .arbitrary::<&str>()
        .unwrap_or("")
        .chars()
        .take(20)
        .collect();
    body.extend((name.len() as u16).to_be_bytes());
    body.extend(name.as_bytes());
    if flags & 4 != 0 {
        if level == 5 {
            body.extend(properties(u));
        }
        body.extend(field(u));
        body.extend(field(u));
    }
    for credential in [0x80, 0x40] {
        if flags & credential != 0 {
            body.extend(field(u));
        }
    }
    let len = body.len();
    let packet = [&[0x10, len as u8 | 0x80, (len >> 7) as u8][..], &body].concat();
    let (connect, left) = read(&packet);
    let connect = connect.expect("its parts are what they say");
    assert_eq!(
        (left, connect.level, connect.client_id.as_str()),
        (0, level, &name[..])
    );
    assert!(read_connect(&PARSERS[0], &packet));
}
