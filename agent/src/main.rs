//! The on-device agent.
fn main() {}
