//! Tests of a whole server in this process, over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod interface;
mod round_trip;
mod support;
