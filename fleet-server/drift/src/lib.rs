//! Merge, test and alarm on drift profiles.
