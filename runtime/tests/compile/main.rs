//! What the compiler makes of real models, run through the engine and held against what
//! onnxruntime answered: the models of `../shared`, a zoo of other ones, and accuracy on
//! labelled rows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod case;
mod digits;
mod made;
mod quantiser;
mod swallowed;
mod table;
mod zoo;
