//! How fast a model can be at best on boards that are not at hand.
//!
//! Multiply-accumulates over the rate at which a core's floating-point units can issue them.
//! No run is faster; memory, small matrices and everything that is no multiplication make
//! real ones several times slower.

use serde::Serialize;

/// A core at a clock rate.
struct Core {
    name: &'static str,
    mhz: u32,
    /// `f32` multiply-accumulates in a cycle, at most.
    macs: u32,
}

/// Peak rates. A72 and A76: two 128-bit FMLA in a cycle (pipelines F0 and F1 in Arm's Cortex-A72
/// Software Optimization Guide, UAN 0016; V0 and V1 in the Cortex-A76 guide, PJDOC-466751330).
/// A53, of which Arm publishes no such guide: one 128-bit FMLA in a cycle, as the Cortex-A55
/// guide has for its successor. ARM1176: one FMACS in a cycle (VFP11 Technical Reference
/// Manual, DDI 0274).
const CORES: [Core; 4] = [
    Core {
        name: "ARM1176",
        mhz: 1000,
        macs: 1,
    },
    Core {
        name: "Cortex-A53",
        mhz: 1200,
        macs: 4,
    },
    Core {
        name: "Cortex-A72",
        mhz: 1500,
        macs: 8,
    },
    Core {
        name: "Cortex-A76",
        mhz: 2400,
        macs: 8,
    },
];

/// The least time that one run can take on a core.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Which core.
    pub core: &'static str,
    /// Its clock.
    pub mhz: u32,
    /// No run of one thread is faster than this, in microseconds.
    pub at_least_us: f64,
}

/// The least time of `macs` multiply-accumulates on each known core.
pub(super) fn all(macs: u64) -> Vec<Estimate> {
    let estimate = |core: &Core| Estimate {
        core: core.name,
        mhz: core.mhz,
        at_least_us: macs as f64 / (f64::from(core.mhz) * f64::from(core.macs)),
    };
    CORES.iter().map(estimate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_needs_at_least_its_cycles() {
        let all = all(9_600_000);
        let a53 = all.iter().find(|e| e.core == "Cortex-A53").unwrap();
        assert_eq!(a53.at_least_us, 2000.0);
    }
}
