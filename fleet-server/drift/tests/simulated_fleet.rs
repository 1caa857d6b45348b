//! Fleets with known truth: nothing is found where nothing changed, and what changed is found.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use drover_drift::{
    Fault, FeatureDrift, FleetDrift, FleetWindow, Verdict, assess, assess_fleet, confirmed,
};
use drover_sketch::{Baseline, FeatureBaseline, Profile, Sketcher};
use std::collections::BTreeMap;

const FEATURES: [&str; 6] = [
    "normal",
    "uniform",
    "lognormal",
    "repeating",
    "sparse",
    "steps",
];
const DEVICES: u64 = 20;
const WINDOWS: u64 = 24;
const ROWS: usize = 1200;
const HOUR_MS: u64 = 3_600_000;
const SCHEMA: [u8; 32] = [1; 32];
const BUNDLE: [u8; 32] = [2; 32];

/// Knuth's 64-bit linear congruential generator, upper bits.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d);
        for _ in 0..8 {
            random.uniform();
        }
        random
    }

    fn uniform(&mut self) -> f64 {
        let step = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = step.wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// One device's world: an endless stream of rows.
struct World {
    random: Random,
    memory: f64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            memory: 0.0,
        }
    }

    fn row(&mut self) -> [f32; 6] {
        let r = &mut self.random;
        // First order autoregressive with rho 0.6 and unit variance.
        self.memory = 0.6 * self.memory + 0.8 * r.normal();
        [
            r.normal(),
            r.uniform() * 10.0,
            (0.5 * r.normal()).exp(),
            self.memory,
            if r.uniform() < 0.6 {
                0.0
            } else {
                r.normal().abs()
            },
            (r.uniform() * 5.0).floor(),
        ]
        .map(|value| value as f32)
    }
}

fn baseline() -> Baseline {
    let mut world = World::new(4711);
    let rows: Vec<_> = (0..12_000).map(|_| world.row()).collect();
    let features = FEATURES.iter().enumerate().map(|(index, name)| {
        let values: Vec<f32> = rows.iter().map(|row| row[index]).collect();
        FeatureBaseline::from_values(name, &values, 16).unwrap()
    });
    Baseline::new(features.collect()).unwrap()
}

struct Device {
    world: World,
    sketcher: Sketcher,
}

impl Device {
    fn new(baseline: &Baseline, seed: u64) -> Self {
        let sketcher = Sketcher::new(baseline, SCHEMA, BUNDLE, 0);
        Self {
            world: World::new(seed),
            sketcher,
        }
    }

    fn window(&mut self, hour: u64, change: impl Fn(&mut [f32; 6])) -> Profile {
        for _ in 0..ROWS {
            let mut row = self.world.row();
            change(&mut row);
            for (index, value) in row.into_iter().enumerate() {
                self.sketcher.observe(index, value).unwrap();
            }
            self.sketcher.count_window();
        }
        let profile = self.sketcher.close((hour + 1) * HOUR_MS);
        Profile::decode(&profile.encode().unwrap()).unwrap()
    }
}

/// Runs the fleet; `change` sees device, hour and row.
fn run(
    baseline: &Baseline,
    hours: u64,
    change: impl Fn(u64, u64, &mut [f32; 6]),
) -> Vec<FleetDrift> {
    let mut devices: Vec<Device> = (0..DEVICES)
        .map(|d| Device::new(baseline, 100 + d))
        .collect();
    let hour = |hour: u64| {
        let window = FleetWindow {
            baseline,
            schema: SCHEMA,
            bundle: BUNDLE,
        };
        let profiles = devices.iter_mut().zip(0..).map(|(device, d)| {
            (
                format!("d{d:02}"),
                device.window(hour, |row| change(d, hour, row)),
            )
        });
        assess_fleet(window, profiles)
    };
    (0..hours).map(hour).collect()
}

/// Histories of verdicts per device and feature, oldest first.
fn histories(windows: &[FleetDrift]) -> BTreeMap<(String, String), Vec<Verdict>> {
    let mut histories: BTreeMap<_, Vec<Verdict>> = BTreeMap::new();
    for (device, features) in windows.iter().flat_map(|window| &window.devices) {
        for feature in features {
            let key = (device.clone(), feature.name.clone());
            histories.entry(key).or_default().push(feature.verdict);
        }
    }
    histories
}

fn one<'a>(features: &'a [FeatureDrift], name: &str) -> &'a FeatureDrift {
    features
        .iter()
        .find(|feature| feature.name == name)
        .unwrap()
}

#[test]
fn a_day_without_drift_raises_no_alarm() {
    let baseline = baseline();
    assert!(
        baseline.features()[3].stride() > 1,
        "the repeating stream is thinned"
    );
    let windows = run(&baseline, WINDOWS, |_, _, _| {});
    for ((device, feature), verdicts) in histories(&windows) {
        assert_eq!(verdicts.len() as u64, WINDOWS);
        for end in 1..=verdicts.len() {
            assert!(
                !confirmed(&verdicts[..end]),
                "{device} {feature}: {verdicts:?}"
            );
        }
        assert!(
            verdicts.iter().all(|&v| v != Verdict::TooFew),
            "{feature} was not tested"
        );
    }
    for window in &windows {
        assert!(window.refused.is_empty());
        let alarm = window.fleet.iter().find(|f| f.verdict != Verdict::Stable);
        assert_eq!(alarm, None);
    }
    let all = windows.iter().flat_map(|w| w.devices.values().flatten());
    let single = all.filter(|f| f.verdict != Verdict::Stable).count();
    assert!(single <= 3, "{single} unconfirmed alarms in 2880 tests");
}

#[test]
fn p_values_without_drift_are_calibrated() {
    let baseline = baseline();
    let windows = run(&baseline, 8, |_, _, _| {});
    for name in FEATURES {
        let devices = windows.iter().flat_map(|w| w.devices.values());
        let p: Vec<f64> = devices
            .map(|features| one(features, name).p_value)
            .collect();
        let share = p.iter().filter(|&&p| p < 0.05).count() as f64 / p.len() as f64;
        // 160 tests share one baseline sample; binomial noise alone is 1.7 points.
        assert!(share < 0.12, "{name}: {share} of the tests at 5 % reject");
    }
}

#[test]
fn a_shift_on_one_device_is_found_there_and_only_there() {
    let baseline = baseline();
    let windows = run(&baseline, 6, |device, hour, row| {
        if device == 7 && hour >= 2 {
            row[0] += 0.8;
        }
    });
    for ((device, feature), verdicts) in histories(&windows) {
        if (device.as_str(), feature.as_str()) == ("d07", "normal") {
            assert!(
                !confirmed(&verdicts[..3]),
                "one window is not enough: {verdicts:?}"
            );
            assert!(confirmed(&verdicts[..4]), "{verdicts:?}");
        } else {
            assert!(!confirmed(&verdicts), "{device} {feature}: {verdicts:?}");
        }
    }
    let found = one(&windows[5].devices["d07"], "normal");
    assert_eq!(found.verdict, Verdict::Major);
    assert!((found.mean_shift_in_std - 0.8).abs() < 0.1, "{found:?}");
}

#[test]
fn a_weak_shift_of_the_whole_fleet_is_found_in_the_sum() {
    let baseline = baseline();
    let windows = run(&baseline, 1, |_, _, row| row[0] += 0.15);
    let window = &windows[0];
    assert_eq!(one(&window.fleet, "normal").verdict, Verdict::Drifting);
    assert_eq!(one(&window.fleet, "normal").n, DEVICES * ROWS as u64);
    for name in &FEATURES[1..] {
        assert_eq!(one(&window.fleet, name).verdict, Verdict::Stable, "{name}");
    }
    let alone = window
        .devices
        .values()
        .filter(|f| one(f, "normal").verdict.is_drift());
    assert!(alone.count() < 5, "single devices see little of it");
}

#[test]
fn a_broken_sensor_is_a_fault_and_leaves_the_fleet_alone() {
    let baseline = baseline();
    let windows = run(&baseline, 1, |device, _, row| match device {
        3 => row[0] = 0.25,
        4 => row[1] = f32::NAN,
        5 => row[2] += 1000.0,
        _ => {}
    });
    let window = &windows[0];
    for (device, feature, fault) in [
        ("d03", "normal", Fault::Stuck),
        ("d04", "uniform", Fault::Missing),
        ("d05", "lognormal", Fault::OutOfRange),
    ] {
        let found = one(&window.devices[device], feature);
        assert_eq!(found.verdict, Verdict::Fault(fault), "{found:?}");
        let fleet = one(&window.fleet, feature);
        assert_eq!(fleet.verdict, Verdict::Stable, "{fleet:?}");
        assert_eq!(fleet.n, (DEVICES - 1) * ROWS as u64);
    }
}

#[test]
fn a_fault_that_most_devices_share_is_the_fleets() {
    let baseline = baseline();
    let windows = run(&baseline, 1, |_, _, row| row[1] += 100.0);
    let fleet = one(&windows[0].fleet, "uniform");
    assert_eq!(fleet.verdict, Verdict::Fault(Fault::OutOfRange));
    assert_eq!(fleet.n, DEVICES * ROWS as u64);
}

#[test]
fn a_short_window_is_not_tested() {
    let baseline = baseline();
    let mut sketcher = Sketcher::new(&baseline, SCHEMA, BUNDLE, 0);
    // Sixteen bins ask for 80 samples.
    let mut verdict_after = |values: u16| {
        for i in 0..values {
            let value = f32::from(i % 16) / 8.0 - 1.0;
            sketcher.observe(0, value).unwrap();
        }
        assess(&baseline, &sketcher.close(1)).unwrap()
    };
    assert_eq!(verdict_after(79)[0].verdict, Verdict::TooFew);
    let features = verdict_after(80);
    assert_ne!(features[0].verdict, Verdict::TooFew);
    let nothing = &features[5];
    assert_eq!(nothing.verdict, Verdict::TooFew);
    assert_eq!((nothing.psi, nothing.p_value), (0.0, 1.0));
}

#[test]
fn strangers_are_set_aside_and_stop_nobody() {
    let baseline = baseline();
    let good = Device::new(&baseline, 1).window(0, |_| {});
    let edited = |edit: fn(&mut Profile)| {
        let mut profile = good.clone();
        edit(&mut profile);
        profile
    };
    let profiles = [
        ("bundle", edited(|p| p.bundle = [9; 32])),
        ("schema", edited(|p| p.schema = [9; 32])),
        ("features", edited(|p| drop(p.features.pop()))),
        ("bins", edited(|p| p.features[2].bins.push(0))),
        ("good", good.clone()),
        ("good", good.clone()),
    ];
    let window = FleetWindow {
        baseline: &baseline,
        schema: SCHEMA,
        bundle: BUNDLE,
    };
    let drift = assess_fleet(window, profiles.map(|(device, p)| (device.to_owned(), p)));
    assert_eq!(drift.devices.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(
        drift.devices["good"][0].n,
        2 * ROWS as u64,
        "one device's profiles add up"
    );
    let refused: Vec<&str> = drift
        .refused
        .iter()
        .map(|(device, _)| device.as_str())
        .collect();
    assert_eq!(refused, ["bundle", "schema", "features", "bins"]);
    let message = drift.refused[3].1.to_string();
    assert!(
        message.contains("lognormal") && message.contains("17 bins"),
        "{message}"
    );
}

#[test]
fn no_profiles_are_no_verdict() {
    let baseline = baseline();
    let window = FleetWindow {
        baseline: &baseline,
        schema: SCHEMA,
        bundle: BUNDLE,
    };
    let drift = assess_fleet(window, []);
    assert!(drift.devices.is_empty());
    assert!(drift.fleet.iter().all(|f| f.verdict == Verdict::TooFew));
}
