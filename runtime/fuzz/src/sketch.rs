//! Drift profiles and baselines, and what is computed from them.

use std::cell::OnceCell;

use arbitrary::Unstructured;
use drover_sketch::{
    Baseline, BinSketch, FeatureBaseline, MAX_BASELINE_BYTES, MAX_PROFILE_BYTES, Profile, stat,
};

use crate::bound::POSTCARD;
use crate::draw::draw;
use crate::parser::{self, Parser, noise};

/// All parsers of `drover-sketch`.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "sketch Profile",
        bound: POSTCARD,
        limit: MAX_PROFILE_BYTES,
        read: |parser, bytes| {
            let decode = |bytes: &[u8]| Profile::decode(bytes).ok();
            let profile = parser.round_trip(bytes, decode, |p| p.encode().ok());
            profile.inspect(use_profile).is_some()
        },
        seeds: || vec![sample_profile().encode().expect("it is small")],
    },
    Parser {
        name: "sketch Baseline",
        bound: POSTCARD,
        limit: MAX_BASELINE_BYTES,
        read: |parser, bytes| {
            let decode = |bytes: &[u8]| Baseline::decode(bytes).ok();
            let baseline = parser.round_trip(bytes, decode, |b| b.encode().ok());
            baseline.inspect(use_baseline).is_some()
        },
        seeds: || vec![sample_baseline().encode().expect("it is small")],
    },
];

fn values(seed: u64, len: usize) -> Vec<f32> {
    let bytes = noise(seed, len);
    bytes.into_iter().map(|b| f32::from(b) / 16.0).collect()
}

fn sample_baseline() -> Baseline {
    let features = [("a", 1), ("b", 2)].map(|(name, seed)| {
        FeatureBaseline::from_values(name, &values(seed, 400), 8).expect("enough values")
    });
    Baseline::new(features.to_vec()).expect("two names")
}

fn sample_profile() -> Profile {
    let baseline = sample_baseline();
    let mut profile: Profile = draw(&mut Unstructured::new(&[])).expect("all are plain");
    for (seed, feature) in (3..).zip(baseline.features()) {
        let mut sketch = BinSketch::new(feature);
        values(seed, 100).into_iter().for_each(|v| sketch.update(v));
        profile.features.push(sketch.counts().clone());
    }
    profile
}

/// What the server does with a profile that it accepted.
fn use_profile(profile: &Profile) {
    let mut sum = profile.clone();
    sum.merge(profile).expect("a profile merges with itself");
    for feature in &sum.features {
        let rates = [feature.missing_rate(), feature.out_of_range_rate()];
        assert!(rates.iter().all(|r| (0.0..=1.0).contains(r)), "{rates:?}");
        assert!(!feature.std().is_nan());
        use_counts(&feature.bins, &feature.bins);
    }
    if let [first, second, ..] = &sum.features[..] {
        use_counts(&first.bins, &second.bins);
    }
    let written = sum.encode();
    // Only its length may stop a sum from travelling; and what travels is accepted.
    if let Ok(bytes) = written {
        Profile::decode(&bytes).expect("a sum of acceptable profiles is acceptable");
    }
}

fn use_counts(reference: &[u64], observed: &[u64]) {
    let Some(pair) = stat::Pair::new(reference, observed) else {
        return;
    };
    let chi = pair.chi_square();
    for p in [chi.p_value, pair.ks().p_value, pair.p_value()] {
        assert!((0.0..=1.0).contains(&p), "p = {p}");
    }
    assert!(pair.psi() >= -1e-9 && pair.psi_adjusted().is_finite());
    assert!((0.0..=0.8326).contains(&pair.js_distance()));
    assert!((0.0..=1.0 + 1e-9).contains(&pair.ks().statistic));
}

/// What a device does with a baseline that it accepted.
fn use_baseline(baseline: &Baseline) {
    for feature in baseline.features() {
        let mut sketch = BinSketch::new(feature);
        for value in [feature.min(), feature.max(), f32::NAN, f32::MAX, -0.0] {
            sketch.update(value);
        }
        let counts = sketch.counts();
        assert_eq!(counts.offered(), 5);
        assert_eq!(counts.bins.len(), feature.edges().bins());
        use_counts(feature.counts(), &counts.bins);
    }
}

/// Seeds of [`raw`].
pub fn raw_seeds() -> Vec<Vec<u8>> {
    parser::seeds(PARSERS)
}

/// Raw bytes for every parser.
pub fn raw(bytes: &[u8]) {
    parser::dispatch(PARSERS, bytes);
}

/// Streams of values, periods and merges; drawn profiles.
pub fn structured(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    match u.int_in_range(0..=2).unwrap_or(0) {
        0 => streams(u),
        1 => baselines_of_any_values(u),
        _ => drawn_profiles(u),
    }
}

/// Two sketches of one feature see values in any order of updates, resets and merges.
fn streams(u: &mut Unstructured<'_>) {
    thread_local! {
        static BASELINE: OnceCell<Baseline> = const { OnceCell::new() };
    }
    let feature = BASELINE.with(|cell| cell.get_or_init(sample_baseline).features()[0].clone());
    let mut sketches = [BinSketch::new(&feature), BinSketch::new(&feature)];
    let mut offered = [0u64; 2];
    while !u.is_empty() {
        let (which, action): (bool, u8) = u.arbitrary().unwrap_or_default();
        let (mine, other) = (usize::from(which), usize::from(!which));
        match action {
            0..8 => {
                let theirs = sketches[other].clone();
                sketches[mine].merge(&theirs).expect("one feature");
                offered[mine] = offered[mine].saturating_add(offered[other]);
            }
            8..16 => {
                sketches[mine].reset();
                offered[mine] = 0;
            }
            _ => {
                sketches[mine].update(u.arbitrary().unwrap_or(f32::NAN));
                // Merging the two into each other doubles them: the largest number is near.
                offered[mine] = offered[mine].saturating_add(1);
            }
        }
        let counts = sketches[mine].counts();
        assert_eq!(counts.offered(), offered[mine]);
        assert!(counts.thinned_n() <= counts.n && counts.m2 >= 0.0);
    }
    let mut profile = sample_profile();
    profile.features = sketches.iter().map(|s| s.counts().clone()).collect();
    let bytes = profile.encode().expect("two features are small");
    let read = Profile::decode(&bytes).expect("what a sketch counted is acceptable");
    assert_eq!(read.encode().ok(), Some(bytes));
}

fn baselines_of_any_values(u: &mut Unstructured<'_>) {
    let bins = u.int_in_range(0..=70).unwrap_or(8);
    let name: String = u.arbitrary().unwrap_or_default();
    let values: Vec<f32> = u.arbitrary().unwrap_or_default();
    let Ok(feature) = FeatureBaseline::from_values(&name, &values, bins) else {
        return;
    };
    let baseline = Baseline::new(vec![feature]).expect("what values made is acceptable");
    let bytes = baseline.encode().expect("one feature is small");
    let read = Baseline::decode(&bytes).expect("what values made is acceptable");
    assert_eq!(read.encode().ok(), Some(bytes));
    use_baseline(&read);
}

fn drawn_profiles(u: &mut Unstructured<'_>) {
    let (Some(first), Some(second)) = (draw::<Profile>(u), draw::<Profile>(u)) else {
        return;
    };
    let acceptable = |profile: &Profile| Profile::decode(&profile.encode().ok()?).ok();
    let (Some(mut first), Some(second)) = (acceptable(&first), acceptable(&second)) else {
        return;
    };
    let before = first.clone();
    if first.merge(&second).is_err() {
        assert_eq!(first, before, "a refused merge changes nothing");
    }
    use_profile(&first);
}

/// Seeds of [`structured`].
pub fn structured_seeds() -> Vec<Vec<u8>> {
    (1..40).map(|n| noise(n, 800)).collect()
}
