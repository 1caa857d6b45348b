//! Roles, keys, signed metadata and their verification.
