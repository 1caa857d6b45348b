//! The `drover` program as a person or a script uses it: arguments in, text, files and exit
//! codes out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bundle;
mod ceremony;
mod compile;
mod drover;
mod help;
mod keys;
mod oidc;
mod operator;
mod server;
mod supply;
mod trust;
