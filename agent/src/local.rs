//! The local socket: how applications on the board get results, push rows and ask for the
//! agent's state, in lines of JSON.
//!
//! Nothing here may hold up inference: results go into a ring of bounded length, and an
//! application that is too slow loses the oldest and is told how many. Who may connect is
//! decided by the socket's owner and mode.

mod client;
mod message;
mod server;

pub use client::{Client, is_alive};
pub use message::{Answer, Observed, PushedRow, Request};
pub use server::{Desk, RowSink, Server};
