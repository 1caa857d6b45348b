//! The program with the verifier: everything a device does with signed metadata before it acts
//! on it, from parsing an envelope to an accepted assignment.

#![no_std]
#![no_main]

extern crate alloc;

use drover_trust::catalog::CatalogMark;
use drover_trust::{
    Assignment, Catalog, DeviceId, Domain, Envelope, PublicKey, Role, TrustError, TrustedRoot,
};
use drover_trust_size::{done, input};

/// Where the linker starts.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    let bytes = alloc::vec::Vec::from(input());
    done(bytes.is_empty() || accept().is_ok())
}

fn accept() -> Result<usize, TrustError> {
    let root = TrustedRoot::self_signed(Envelope::decode(input())?)?;
    let manifest = Envelope::decode(input())?;
    let manifest = root.verify(Role::Release, Domain::Manifest, &manifest)?.len();
    let device = DeviceId::of(&PublicKey([0; 32]));
    let catalog = Catalog::open(&Envelope::decode(input())?, &root, &CatalogMark::default(), 1)?;
    let assignment = Envelope::decode(input())?;
    let assignment = Assignment::open(&assignment, &root, &catalog, &device, 0, 1)?;
    Ok(manifest + assignment.bundles.len())
}
