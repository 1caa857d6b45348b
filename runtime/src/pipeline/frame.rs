//! Cuts the row stream into windows.
//!
//! The last rows lie one after the other in memory, raw and normalised, so that a window is
//! a slice and each value is normalised once however many windows it is part of.

use super::normalise::Normaliser;

/// The rows that the next windows need.
pub(super) struct Frame {
    rows: usize,
    stride: u64,
    channels: usize,
    /// Up to twice a window; the older half is dropped when it is full.
    raw: Vec<f32>,
    normalised: Vec<f32>,
    seen: u64,
    /// The rows before this one must not be part of a window that is scored.
    usable_from: u64,
}

/// One complete window.
pub(super) struct Cut<'a> {
    pub(super) index: u64,
    pub(super) first_row: u64,
    pub(super) raw: &'a [f32],
    pub(super) normalised: &'a [f32],
    /// Whether a value of it is missing.
    pub(super) missing: bool,
}

impl Frame {
    pub(super) fn new(rows: usize, stride: usize, channels: usize) -> Self {
        let capacity = 2 * rows * channels;
        Self {
            rows,
            stride: stride as u64,
            channels,
            raw: Vec::with_capacity(capacity),
            normalised: Vec::with_capacity(capacity),
            seen: 0,
            usable_from: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.normalised.clear();
        self.seen = 0;
        self.usable_from = 0;
    }

    pub(super) fn push(&mut self, row: &[f32], normaliser: &Normaliser) {
        let elements = self.rows * self.channels;
        if self.raw.len() >= 2 * elements {
            let kept = elements - self.channels;
            for buffer in [&mut self.raw, &mut self.normalised] {
                let dropped = buffer.len() - kept;
                buffer.copy_within(dropped.., 0);
                buffer.truncate(kept);
            }
        }
        self.raw.extend_from_slice(row);
        let finite = normaliser.apply(row, &mut self.normalised);
        self.seen += 1;
        if !finite {
            self.usable_from = self.seen;
        }
    }

    /// The window that the last row completed.
    pub(super) fn window(&self) -> Option<Cut<'_>> {
        let first_row = self.seen.checked_sub(self.rows as u64)?;
        if !first_row.is_multiple_of(self.stride) {
            return None;
        }
        let start = self.raw.len().checked_sub(self.rows * self.channels)?;
        Some(Cut {
            index: first_row / self.stride,
            first_row,
            raw: self.raw.get(start..)?,
            normalised: self.normalised.get(start..)?,
            missing: first_row < self.usable_from,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(rows: usize, stride: usize, values: &[f32]) -> Vec<(u64, Vec<f32>, bool)> {
        let mut frame = Frame::new(rows, stride, 1);
        let mut found = Vec::new();
        for value in values {
            frame.push(&[*value], &Normaliser::Identity);
            if let Some(cut) = frame.window() {
                assert_eq!(cut.first_row, cut.index * stride as u64);
                found.push((cut.index, cut.raw.to_vec(), cut.missing));
            }
        }
        found
    }

    #[test]
    fn windows_overlap_by_the_stride() {
        let values: Vec<f32> = (0..9).map(|v| v as f32).collect();
        let found = windows(3, 2, &values);
        let expected: Vec<(u64, Vec<f32>, bool)> = (0..4)
            .map(|i| {
                let first = (2 * i) as f32;
                (i, vec![first, first + 1.0, first + 2.0], false)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_stride_above_the_window_leaves_rows_out() {
        let values: Vec<f32> = (0..8).map(|v| v as f32).collect();
        let found = windows(2, 5, &values);
        assert_eq!(
            found,
            [(0, vec![0.0, 1.0], false), (1, vec![5.0, 6.0], false)]
        );
    }

    #[test]
    fn every_window_with_a_missing_value_says_so() {
        let values = [0.0, f32::NAN, 2.0, 3.0, f32::INFINITY, 5.0];
        let missing: Vec<bool> = windows(2, 1, &values).iter().map(|w| w.2).collect();
        assert_eq!(missing, [true, true, false, true, true]);
    }
}
