//! Tests of the outbox alone.
