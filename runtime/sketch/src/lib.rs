//! Mergeable drift sketches and the statistics on them.
