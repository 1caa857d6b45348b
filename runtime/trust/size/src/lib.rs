//! What both programs have: a heap, a way to stop, and bytes that the compiler knows nothing
//! about.
//!
//! They are linked to be measured and never run, so the heap only ever hands out.

#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

struct Heap {
    next: AtomicUsize,
}

#[global_allocator]
static HEAP: Heap = Heap {
    next: AtomicUsize::new(0x2000_0000),
};

// SAFETY: every address is handed out once, aligned as asked; the board has 4 MiB there.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size() + layout.align();
        let free = self.next.fetch_add(size, Ordering::Relaxed);
        free.next_multiple_of(layout.align()) as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[panic_handler]
fn stop(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Bytes from elsewhere.
pub fn input() -> &'static [u8] {
    black_box(&[0; 64])
}

/// Lets a result be used.
pub fn done(result: bool) -> ! {
    loop {
        black_box(result);
    }
}
