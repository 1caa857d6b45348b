//! How much of a fleet one rollout may reach before anybody has seen it work.

/// The largest first stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Radius {
    /// Share of the whole fleet, from above 0 to 1.
    pub max_share: f64,
    /// So many devices are always allowed: in a small fleet every stage is a large share.
    pub free_devices: u32,
}

/// Why a rollout begins with too many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its first stage, with what else this release has begun with, reaches {first} of the \
     fleet's {fleet} devices, at most {allowed} may get \
     a release before others have shown that it works; begin with a smaller stage, such as \
     --stage {canary} --stage {allowed}"
)]
pub struct RadiusError {
    /// Devices of the first stage.
    pub first: u32,
    /// Devices of the fleet.
    pub fleet: u32,
    /// Devices that the first stage may have.
    pub allowed: u32,
    /// Size of a canary stage that would do.
    pub canary: u32,
}

impl Radius {
    /// Devices that the first stage may have in a fleet of `fleet`.
    pub fn allowed(&self, fleet: u32) -> u32 {
        // The share is a decimal fraction: 0.2 of 105 is 21, not 20.
        let share = f64::from(fleet) * self.max_share + 1e-9;
        let whole = (0..=fleet).rev().find(|&n| f64::from(n) <= share);
        whole.unwrap_or(0).max(self.free_devices)
    }

    /// Refuses a first stage of `first` devices in a fleet of `fleet`, if that is too many.
    ///
    /// # Errors
    /// Says what would do.
    pub fn check(&self, first: u32, fleet: u32) -> Result<(), RadiusError> {
        let allowed = self.allowed(fleet);
        if first <= allowed {
            return Ok(());
        }
        Err(RadiusError {
            first,
            fleet,
            allowed,
            canary: (allowed / 10).max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RADIUS: Radius = Radius {
        max_share: 0.2,
        free_devices: 20,
    };

    #[test]
    fn shares_are_exact_and_small_fleets_are_free() {
        assert_eq!(RADIUS.allowed(105), 21);
        assert_eq!(RADIUS.allowed(109), 21);
        assert_eq!(RADIUS.allowed(110), 22);
        assert_eq!(RADIUS.allowed(5), 20);
        assert_eq!(RADIUS.allowed(0), 20);
    }

    #[test]
    fn a_smaller_stage_is_named() {
        assert_eq!(RADIUS.check(20, 20), Ok(()));
        assert_eq!(RADIUS.check(200, 1000), Ok(()));
        let error = RADIUS.check(201, 1000).unwrap_err();
        assert_eq!((error.first, error.allowed, error.canary), (201, 200, 20));
        assert!(error.to_string().contains("--stage 20 --stage 200"));
    }
}
