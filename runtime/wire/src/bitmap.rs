//! Which chunks of a bundle are meant: one bit per chunk.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// A set of chunk indices below [`Bitmap::len`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap {
    len: u32,
    bytes: Vec<u8>,
}

impl Bitmap {
    /// No chunk of `len`.
    pub fn empty(len: u32) -> Self {
        Self {
            len,
            bytes: vec![0; len.div_ceil(8) as usize],
        }
    }

    /// Every chunk of `len`.
    pub fn full(len: u32) -> Self {
        let mut map = Self::empty(len);
        (0..len).for_each(|i| map.insert(i));
        map
    }

    /// How many chunks there are, meant or not.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no chunk is meant.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// How many chunks are meant.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Adds a chunk; indices out of range are ignored.
    pub fn insert(&mut self, index: u32) {
        if index < self.len
            && let Some(byte) = self.bytes.get_mut((index / 8) as usize)
        {
            *byte |= 1 << (index % 8);
        }
    }

    /// Takes a chunk out.
    pub fn remove(&mut self, index: u32) {
        if let Some(byte) = self.bytes.get_mut((index / 8) as usize) {
            *byte &= !(1 << (index % 8));
        }
    }

    /// Whether a chunk is meant. A map whose bytes are fewer than its length says no.
    pub fn contains(&self, index: u32) -> bool {
        index < self.len
            && self
                .bytes
                .get((index / 8) as usize)
                .is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// The chunks that are meant, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let present = u32::try_from(self.bytes.len().saturating_mul(8)).unwrap_or(u32::MAX);
        (0..self.len.min(present)).filter(|&i| self.contains(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave_like_sets() {
        let mut map = Bitmap::full(10);
        assert_eq!(map.count(), 10);
        map.remove(3);
        map.insert(99);
        assert_eq!(map.iter().collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert!(!map.contains(3) && !map.contains(99));
        assert!(Bitmap::empty(10).is_empty());
    }

    #[test]
    fn a_hostile_length_costs_nothing() {
        let hostile = Bitmap {
            len: u32::MAX,
            bytes: vec![0xff],
        };
        assert_eq!(hostile.count(), 8);
    }
}
