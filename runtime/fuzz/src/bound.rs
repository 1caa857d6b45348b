//! How much memory a parser may take for bytes of a given length, and whether it did.
//!
//! The counter stands for the whole process, so one thing is measured at a time: a fuzz target
//! has one thread, and the test of the bounds is one test.

use std::fmt;

use peak_alloc::PeakAlloc;

use crate::Parser;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What serde reserves at most for a list before it has seen an element of it.
const RESERVED: usize = 1 << 20;

/// The most heap that reading `n` bytes may hold at any moment:
/// `min(claim * n, 1 MiB) + factor * n + constant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Size of the largest element of a list: a length is believed up to the bytes that are
    /// left, and up to [`RESERVED`].
    pub claim: usize,
    /// Bytes of heap per byte of input. Lists double while they grow, so it is three times the
    /// worst ratio of an element's size to its encoded length.
    pub factor: usize,
    /// Bytes of heap for any input.
    pub constant: usize,
}

/// Messages with lists of anything.
pub const POSTCARD: Bound = Bound {
    claim: 160,
    factor: 80,
    constant: 4096,
};
/// No heap at all.
pub const NONE: Bound = linear(0, 0);

/// A bound without lists that are claimed ahead.
pub const fn linear(factor: usize, constant: usize) -> Bound {
    Bound {
        claim: 0,
        factor,
        constant,
    }
}

impl Bound {
    /// The bound for `len` bytes.
    pub fn of(self, len: usize) -> usize {
        let claimed = self.claim.saturating_mul(len).min(RESERVED);
        claimed + self.factor.saturating_mul(len) + self.constant
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.claim > 0 {
            parts.push(format!("min({} n, 1 MiB)", self.claim));
        }
        if self.factor > 0 {
            parts.push(format!("{} n", self.factor));
        }
        if self.constant > 0 {
            parts.push(self.constant.to_string());
        }
        if parts.is_empty() {
            parts.push("0".to_owned());
        }
        f.write_str(&parts.join(" + "))
    }
}

/// What `f` gives, and the most heap that it held beyond what was held before.
pub fn measured<T>(f: impl FnOnce() -> T) -> (T, usize) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let value = f();
    (value, HEAP.peak_usage().saturating_sub(before))
}

/// Runs `f`, which reads `len` bytes by `parser`.
///
/// # Panics
/// When it held more than the parser's bound.
pub fn bounded<T>(parser: &Parser, len: usize, f: impl FnOnce() -> T) -> T {
    let (value, peak) = measured(f);
    let bound = parser.bound.of(len);
    assert!(
        peak <= bound,
        "{}: {peak} bytes of heap for {len} bytes of input, the bound is {bound}",
        parser.name
    );
    value
}
