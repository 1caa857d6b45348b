//! The driver over a journal in memory and a host that only notes what it is told.
