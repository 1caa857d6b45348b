//! Manifest, container and chunks of a model bundle.
