//! A fleet of one device without input or output.

mod device;
mod fixture;
mod server;

pub(crate) use device::{Cut, Device, Fate};
pub(crate) use fixture::*;
pub(crate) use server::{
    Mail, Server, committed, deliver, reconnect, roots, settle, tell, updates,
};

/// Switches the check off that the environment names, in builds that can.
fn switch_off() {
    #[cfg(feature = "mutation")]
    if let Ok(name) = std::env::var("DROVER_DISABLE_CHECK") {
        let is_known = drover_trust::mutation::Check::disable_named(&name);
        assert!(is_known, "there is no check {name}");
    }
}
