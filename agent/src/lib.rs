//! The on-device agent: sources, inference, the local socket and the glue to the fleet.
//!
//! Rows come from one [`source`], a dedicated thread of [`runner`] makes them windows and
//! outcomes, and [`local`] gives those to applications on the board. Nothing here decides
//! what may run (that is `drover-agent-core`) or how it is kept (`drover-agent-store`).

pub mod cli;
pub mod clock;
pub mod config;
pub mod enrol;
mod error;
pub mod exchange;
mod http;
pub mod identity;
mod infer;
pub mod link;
pub mod local;
mod model;
pub mod ota;
pub mod renew;
pub mod runner;
pub mod source;
pub mod status;
#[cfg(test)]
mod testing;
pub mod trust;

pub use error::AgentError;
pub use http::HttpError;

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}
