//! Messages, topics, limits and versions of the fleet protocol.
#![no_std]

pub mod node;
