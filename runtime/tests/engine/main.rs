//! The engine and the checks at load, on small graphs written byte by byte.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod hostile;
mod loaded;
mod onnx;
