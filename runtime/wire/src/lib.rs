//! Messages, topics, limits and versions of the fleet protocol.
