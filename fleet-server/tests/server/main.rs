//! Tests of a whole server in this process, over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod confidential;
mod device;
mod front;
mod interface;
mod mosquitto;
mod permissions;
mod round_trip;
mod support;
mod trust;
