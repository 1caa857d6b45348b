//! One 32-bit device register. Making one is the unsafe step; using it is not.

use core::ptr;

/// A device register at a fixed address.
#[derive(Clone, Copy)]
pub struct Register(*mut u32);

impl Register {
    /// # Safety
    /// `address` must be a 32-bit device register of this board, aligned, and no read or write
    /// of it may affect memory that Rust owns.
    pub const unsafe fn at(address: usize) -> Self {
        Self(address as *mut u32)
    }

    /// Reads it, with whatever side effect that has in the device.
    pub fn read(self) -> u32 {
        // SAFETY: `at` promised an aligned, always mapped device register.
        unsafe { ptr::read_volatile(self.0) }
    }

    /// Writes it.
    pub fn write(self, value: u32) {
        // SAFETY: as in `read`; `at` also promised that writes do not reach memory of ours.
        unsafe { ptr::write_volatile(self.0, value) }
    }
}
