//! Engines behind one trait, and the pipeline from sensor rows to decisions.
