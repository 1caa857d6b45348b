//! Control of false discoveries over many tests.

/// Which of the tests reject at false discovery rate `q`, in the order given.
///
/// The step-up procedure: reject the `k` smallest, `k` the largest rank with
/// `p_(k) <= k q / tests`. Source: Benjamini and Hochberg, "Controlling the false discovery rate"
/// (1995). A NaN never rejects and counts as a test.
#[must_use]
pub fn benjamini_hochberg(p_values: &[f64], q: f64) -> Vec<bool> {
    let mut sorted = p_values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let tests = p_values.len() as f64;
    let limit = sorted
        .iter()
        .zip(1u32..)
        .filter(|&(&p, rank)| p <= f64::from(rank) * q / tests)
        .map(|(&p, _)| p)
        .last();
    p_values
        .iter()
        .map(|&p| limit.is_some_and(|limit| p <= limit))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_own_example() {
        // Benjamini and Hochberg (1995), section 3.2: fifteen tests, four rejected at 5 %.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        let rejected = benjamini_hochberg(&p, 0.05);
        assert_eq!(rejected.iter().filter(|&&r| r).count(), 4);
        assert!(rejected[..4].iter().all(|&r| r));
    }

    #[test]
    fn a_later_rank_carries_the_earlier_ones() {
        // 0.04 alone fails its own rank (0.025) but passes with the second.
        assert_eq!(benjamini_hochberg(&[0.04, 0.05], 0.05), [true, true]);
        assert_eq!(
            benjamini_hochberg(&[0.9, 0.001, 0.5], 0.05),
            [false, true, false]
        );
    }

    #[test]
    fn nothing_and_nan() {
        assert!(benjamini_hochberg(&[], 0.05).is_empty());
        assert_eq!(benjamini_hochberg(&[f64::NAN, 0.0], 0.05), [false, true]);
    }
}
