//! Board-free logic of a sensor node: what to say to the agent, and when.
//!
//! [`Node`] is sans-IO: a board feeds it the time and the bytes of its UART, and it writes
//! frames to a [`Sink`]. Sensors are stock embedded-hal drivers behind [`Sensor`]; [`BitBangI2c`]
//! serves boards whose I²C lines are plain pins. Nothing here allocates, blocks for longer than
//! one sensor reading, or knows a register. A node keeps nothing over a power cut: it greets
//! its host again and gets its settings from there.
#![cfg_attr(not(test), no_std)]

pub mod bitbang;
pub mod lm75;
pub mod node;
pub mod sensor;

pub use bitbang::BitBangI2c;
pub use node::{Event, Identity, Node, Sink};
pub use sensor::{Fault, Sensor};
