//! In which order devices get a release.

/// Size of one stage, counted from the rollout's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Until this many devices in all have it.
    Count(u32),
    /// Until this share of the selected devices has it, in percent.
    Percent(u8),
}

/// In which order devices get a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Everyone in one stage.
    AllAtOnce,
    /// Growing groups; whoever is left after the last one forms one more.
    Staged(Vec<Stage>),
}

/// Why stages make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    /// No stage, or absurdly many.
    #[error("a staged rollout has 1 to 32 stages")]
    Number,
    /// A size of nothing or of more than everything.
    #[error("a stage has at least 1 device, or 1 to 100 percent")]
    Size,
    /// Sizes count from the start, so each is larger than the one before.
    #[error("each stage is larger than the one before: sizes count from the start")]
    Order,
}

impl Strategy {
    /// Refuses stages that make no sense.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), StrategyError> {
        let Self::Staged(stages) = self else {
            return Ok(());
        };
        if stages.is_empty() || stages.len() > 32 {
            return Err(StrategyError::Number);
        }
        for stage in stages {
            if !matches!(stage, Stage::Count(1..) | Stage::Percent(1..=100)) {
                return Err(StrategyError::Size);
            }
        }
        for pair in stages.windows(2) {
            let grows = match pair {
                [Stage::Count(a), Stage::Count(b)] => a < b,
                [Stage::Percent(a), Stage::Percent(b)] => a < b,
                _ => true,
            };
            if !grows {
                return Err(StrategyError::Order);
            }
        }
        Ok(())
    }

    /// The stage (from 1) of each of `devices` devices, in their order. Stages that would be
    /// empty for so few devices are left out.
    pub fn assign(&self, devices: u32) -> Vec<u32> {
        let mut ends: Vec<u32> = match self {
            Self::AllAtOnce => Vec::new(),
            Self::Staged(stages) => stages.iter().map(|s| s.end(devices)).collect(),
        };
        ends.push(devices);
        let mut stages = Vec::new();
        let mut number = 0;
        for end in ends {
            let have = u32::try_from(stages.len()).unwrap_or(u32::MAX);
            if end > have {
                number += 1;
                stages.extend((have..end).map(|_| number));
            }
        }
        stages
    }
}

impl Stage {
    fn end(self, devices: u32) -> u32 {
        match self {
            Self::Count(n) => n.min(devices),
            Self::Percent(p) => {
                let end = (u64::from(devices) * u64::from(p)).div_ceil(100);
                u32::try_from(end).unwrap_or(devices).min(devices)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_cut_into_stages() {
        let staged = |stages: &[Stage], n| Strategy::Staged(stages.to_vec()).assign(n);
        assert_eq!(Strategy::AllAtOnce.assign(3), [1, 1, 1]);
        assert_eq!(Strategy::AllAtOnce.assign(0), [0u32; 0]);
        assert_eq!(staged(&[Stage::Count(1)], 3), [1, 2, 2]);
        assert_eq!(
            staged(&[Stage::Percent(10), Stage::Percent(50)], 4),
            [1, 2, 3, 3]
        );
        // Stages beyond the fleet's size vanish instead of waiting for nobody.
        assert_eq!(
            staged(&[Stage::Count(1), Stage::Count(10), Stage::Count(20)], 2),
            [1, 2]
        );
        assert_eq!(staged(&[Stage::Percent(100)], 2), [1, 1]);
        assert_eq!(staged(&[Stage::Count(5), Stage::Percent(10)], 10).len(), 10);
    }

    #[test]
    fn stages_without_sense_are_refused() {
        let check = |stages: &[Stage]| Strategy::Staged(stages.to_vec()).check();
        assert_eq!(check(&[]), Err(StrategyError::Number));
        assert_eq!(check(&[Stage::Count(0)]), Err(StrategyError::Size));
        assert_eq!(check(&[Stage::Percent(101)]), Err(StrategyError::Size));
        assert_eq!(
            check(&[Stage::Percent(50), Stage::Percent(10)]),
            Err(StrategyError::Order)
        );
        assert_eq!(check(&[Stage::Count(1), Stage::Percent(10)]), Ok(()));
    }
}
