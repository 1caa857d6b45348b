//! Board-free logic of a sensor node.
