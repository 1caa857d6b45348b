//! The median of the last latencies, which a single slow window does not move.

/// Windows the median is taken over.
const KEPT: usize = 101;

/// The last latencies of a model, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    kept: Vec<u32>,
    next: usize,
}

impl Latencies {
    pub(super) fn push(&mut self, us: u32) {
        match self.kept.get_mut(self.next) {
            Some(oldest) => *oldest = us,
            None => self.kept.push(us),
        }
        self.next = (self.next + 1) % KEPT;
    }

    pub(super) fn median(&self) -> Option<u32> {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_follows_the_last_windows() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.median(), None);
        latencies.push(7);
        assert_eq!(latencies.median(), Some(7));
        (0..KEPT).for_each(|_| latencies.push(9));
        assert_eq!(latencies.median(), Some(9));
        assert_eq!(latencies.kept.len(), KEPT);
    }
}
