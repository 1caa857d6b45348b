//! What counts as success and as failure in a rollout.

/// What counts as success and as failure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Share of a stage's reachable devices that has to commit before it passes.
    pub min_success_share: f64,
    /// Above this share of failed devices the rollout halts.
    pub max_failed_share: f64,
    /// A device that has not finished this long after its assignment expires, in
    /// milliseconds.
    pub deadline_ms: u64,
}

/// Why a policy can never work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A share outside its range.
    #[error("min_success_share lies above 0 and at most at 1")]
    Success,
    /// A share outside its range.
    #[error("max_failed_share lies from 0 to below 1")]
    Failed,
    /// No time to do anything.
    #[error("deadline_secs is at least 1")]
    Deadline,
}

impl Policy {
    /// Refuses policies that no rollout can fulfil.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), PolicyError> {
        if !(self.min_success_share > 0.0 && self.min_success_share <= 1.0) {
            return Err(PolicyError::Success);
        }
        if !(0.0..1.0).contains(&self.max_failed_share) {
            return Err(PolicyError::Failed);
        }
        if self.deadline_ms < 1000 {
            return Err(PolicyError::Deadline);
        }
        Ok(())
    }

    /// Devices of `reachable` that have to commit.
    pub(crate) fn needed(&self, reachable: u32) -> u32 {
        // The shares are decimal fractions: 0.95 x 100 must need 95, not 96.
        let exact = f64::from(reachable) * self.min_success_share;
        let needed = (exact - 1e-9).ceil();
        (0..=reachable)
            .find(|&n| f64::from(n) >= needed)
            .unwrap_or(reachable)
    }

    /// Whether `failed` of `reachable` is too many.
    pub(crate) fn breached(&self, failed: u32, reachable: u32) -> bool {
        f64::from(failed) > f64::from(reachable) * self.max_failed_share + 1e-9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        min_success_share: 0.95,
        max_failed_share: 0.1,
        deadline_ms: 60_000,
    };

    #[test]
    fn shares_round_in_favour_of_neither_side() {
        assert_eq!(POLICY.needed(100), 95);
        assert_eq!(POLICY.needed(95), 91);
        assert_eq!(POLICY.needed(1), 1);
        assert_eq!(POLICY.needed(0), 0);
        assert!(!POLICY.breached(10, 100));
        assert!(POLICY.breached(11, 100));
        assert!(!POLICY.breached(0, 0));
    }

    #[test]
    fn impossible_policies_are_refused() {
        let with = |change: fn(&mut Policy)| {
            let mut policy = POLICY;
            change(&mut policy);
            policy.check()
        };
        assert_eq!(POLICY.check(), Ok(()));
        assert_eq!(
            with(|p| p.min_success_share = 1.1),
            Err(PolicyError::Success)
        );
        assert_eq!(
            with(|p| p.min_success_share = f64::NAN),
            Err(PolicyError::Success)
        );
        assert_eq!(
            with(|p| p.max_failed_share = -0.1),
            Err(PolicyError::Failed)
        );
        assert_eq!(with(|p| p.deadline_ms = 0), Err(PolicyError::Deadline));
    }
}
