//! Persistence: one odd window is not an alarm.

use crate::Verdict;

/// How many of the latest windows are looked at.
const WINDOWS: usize = 3;
/// How many of those must drift.
const NEEDED: usize = 2;

/// Whether the verdicts of one device and feature, oldest first, amount to an alarm: a fault in
/// the newest window, or drift in two of the last three.
///
/// Windows that did not arrive or held too few samples take their place and count as no drift.
#[must_use]
pub fn confirmed(history: &[Verdict]) -> bool {
    let Some(newest) = history.last() else {
        return false;
    };
    let recent = history.iter().rev().take(WINDOWS);
    newest.is_fault() || recent.filter(|verdict| verdict.is_drift()).count() >= NEEDED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;
    use Verdict::{Drifting, Major, Stable, TooFew};

    #[test]
    fn two_of_the_last_three() {
        assert!(!confirmed(&[]));
        assert!(!confirmed(&[Major]));
        assert!(!confirmed(&[Stable, Stable, Drifting]));
        assert!(confirmed(&[Drifting, Major]));
        assert!(confirmed(&[Drifting, TooFew, Drifting]));
        assert!(confirmed(&[Drifting, Drifting, Stable]));
        assert!(!confirmed(&[Drifting, Drifting, Stable, Stable]));
    }

    #[test]
    fn a_fault_needs_no_history_and_leaves_none() {
        let fault = Verdict::Fault(Fault::Stuck);
        assert!(confirmed(&[fault]));
        assert!(!confirmed(&[fault, fault, Stable]));
    }
}
