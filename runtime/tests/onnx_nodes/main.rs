//! ONNX's own tests of its operators, through the compiler and through tract.
//!
//! They come with the Python package `onnx` up to 1.19, which `scripts/setup test` installs in
//! `target/venv-models`; `DROVER_ONNX_TESTS` names another folder of such tests. Nothing of
//! them is kept here. Without them the tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attempt;
mod case;
mod judge;
mod quantised;
mod suite;
