//! Where one device is in a rollout, and how reports move it.
//!
//! Reports arrive twice, late and out of order. Within one assignment a device only ever
//! moves forward, and what is final stays: a lost or late report can never turn a success
//! into something else. Only [`Progress::Assigned`] by a newer assignment starts again.

/// Where a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its stage has not begun.
    Pending,
    /// The assignment is made.
    Assigned,
    /// Chunks are under way.
    Fetching {
        /// Chunks that are there.
        have: u32,
        /// Chunks in all; 0 while the manifest is missing.
        total: u32,
    },
    /// The candidate is being checked.
    Staged,
    /// The candidate runs, not yet for good.
    Trial,
    /// It runs for good.
    Committed,
    /// It was not accepted.
    Failed,
    /// Its deadline passed; only a final report moves it on.
    Expired,
    /// A newer rollout took the device over; final for this one.
    Superseded,
}

/// What a device says about the bundle of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Chunks are under way.
    Fetching {
        /// Chunks that are there.
        have: u32,
        /// Chunks in all.
        total: u32,
    },
    /// The candidate is being checked.
    Staged,
    /// The candidate runs, not yet for good.
    Trial,
    /// It runs for good.
    Committed,
    /// It was not accepted.
    Failed,
}

impl Progress {
    /// Where the device is after `report`; `None` when the report changes nothing.
    pub fn on_report(&self, report: Report) -> Option<Self> {
        let next = match report {
            Report::Fetching { have, total } => match self {
                Self::Fetching {
                    have: h, total: t, ..
                } => Self::Fetching {
                    have: have.max(*h),
                    total: total.max(*t),
                },
                _ => Self::Fetching { have, total },
            },
            Report::Staged => Self::Staged,
            Report::Trial => Self::Trial,
            Report::Committed => Self::Committed,
            Report::Failed => Self::Failed,
        };
        let moves = match self {
            // Not assigned by this rollout: the report is about something else.
            Self::Pending => false,
            Self::Committed | Self::Failed | Self::Superseded => false,
            Self::Expired => next.is_final(),
            _ => next.rank() >= self.rank() && next != *self,
        };
        moves.then_some(next)
    }

    /// Whether the device has finished by itself.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Committed | Self::Failed)
    }

    /// Whether the device still has something to do.
    pub fn is_updating(&self) -> bool {
        matches!(
            self,
            Self::Assigned | Self::Fetching { .. } | Self::Staged | Self::Trial
        )
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Assigned => 1,
            Self::Fetching { .. } => 2,
            Self::Staged => 3,
            Self::Trial => 4,
            Self::Committed | Self::Failed | Self::Expired | Self::Superseded => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTS: [Report; 6] = [
        Report::Fetching { have: 1, total: 4 },
        Report::Fetching { have: 3, total: 4 },
        Report::Staged,
        Report::Trial,
        Report::Committed,
        Report::Failed,
    ];

    #[test]
    fn no_sequence_of_reports_undoes_a_final_state_or_steps_back() {
        // All 6^5 sequences, duplicates and reorderings included.
        for mut code in 0..6usize.pow(5) {
            let mut progress = Progress::Assigned;
            for _ in 0..5 {
                let report = REPORTS[code % 6];
                code /= 6;
                if let Some(next) = progress.on_report(report) {
                    assert!(!progress.is_final(), "{progress:?} became {next:?}");
                    assert!(next.rank() >= progress.rank());
                    progress = next;
                }
            }
        }
    }

    #[test]
    fn fetching_never_loses_chunks() {
        let at = Progress::Fetching { have: 3, total: 4 };
        assert_eq!(at.on_report(REPORTS[0]), None);
        assert_eq!(
            at.on_report(Report::Fetching { have: 4, total: 4 }),
            Some(Progress::Fetching { have: 4, total: 4 })
        );
    }

    #[test]
    fn an_expired_device_may_still_finish() {
        assert_eq!(Progress::Expired.on_report(Report::Trial), None);
        assert_eq!(
            Progress::Expired.on_report(Report::Committed),
            Some(Progress::Committed)
        );
        assert_eq!(Progress::Pending.on_report(Report::Committed), None);
        assert_eq!(Progress::Superseded.on_report(Report::Committed), None);
    }
}
