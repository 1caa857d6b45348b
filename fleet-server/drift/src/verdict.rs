//! What is said about one feature in one window.

use std::fmt;

/// The outcome for one feature, in order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Fewer samples than five per bin: nothing was tested.
    TooFew,
    /// Tested, and no difference that counts.
    Stable,
    /// Significantly different, by an effect that matters.
    Drifting,
    /// Drifting by at least [`crate::MAJOR_EFFECT`].
    Major,
    /// The data is broken rather than drifting.
    Fault(Fault),
}

/// How the data is broken. All of them point upstream: a sensor, a cable, a unit, a scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// One value repeated far longer than the baseline ever did.
    Stuck,
    /// Far more missing values than the baseline had.
    Missing,
    /// Far more values outside the baseline's range than chance allows.
    OutOfRange,
}

impl Verdict {
    /// Whether the distribution has moved.
    #[must_use]
    pub fn is_drift(self) -> bool {
        matches!(self, Self::Drifting | Self::Major)
    }

    /// Whether the data is broken.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Fault(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TooFew => "too few",
            Self::Stable => "stable",
            Self::Drifting => "drifting",
            Self::Major => "major drift",
            Self::Fault(Fault::Stuck) => "fault: stuck",
            Self::Fault(Fault::Missing) => "fault: missing",
            Self::Fault(Fault::OutOfRange) => "fault: out of range",
        })
    }
}
