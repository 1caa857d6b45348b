//! Checks and tools that are more than glue.
fn main() {}
