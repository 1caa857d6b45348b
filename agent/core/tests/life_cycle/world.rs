//! A fleet of one device without input or output.

mod device;
mod fixture;
mod server;

pub(crate) use device::{Cut, Device, Fate};
pub(crate) use fixture::*;
pub(crate) use server::{Mail, Server, committed, deliver, settle};
