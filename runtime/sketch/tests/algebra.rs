//! The algebra that fleets rely on: sketches add up in any order and survive the wire.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use drover_sketch::{
    Baseline, BinSketch, FeatureBaseline, FeatureCounts, MAX_PROFILE_BYTES, Profile, Sketcher,
};
use proptest::{collection::vec, prelude::*};

/// Independent values, so that the stride is 1: cubing modulo 1013 is a shuffle.
fn baseline() -> FeatureBaseline {
    let values: Vec<f32> = (0..1013u32)
        .map(|i| (i.pow(3) % 1013) as f32 / 10.0)
        .collect();
    let baseline = FeatureBaseline::from_values("x", &values, 16).unwrap();
    assert_eq!(baseline.stride(), 1);
    baseline
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -50.0f32..150.0,
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        2 => Just(42.0f32),
    ]
}

fn sketch(values: &[f32]) -> BinSketch {
    let mut sketch = BinSketch::new(&baseline());
    values.iter().for_each(|&v| sketch.update(v));
    sketch
}

fn merged(a: &BinSketch, b: &BinSketch) -> BinSketch {
    let mut sum = a.clone();
    sum.merge(b).unwrap();
    sum
}

/// Integers exactly, moments to 1e-9 of their scale.
fn same(a: &FeatureCounts, b: &FeatureCounts) {
    let integers = |c: &FeatureCounts| FeatureCounts {
        mean: 0.0,
        m2: 0.0,
        ..c.clone()
    };
    assert_eq!(integers(a), integers(b));
    assert!((a.mean - b.mean).abs() <= 1e-9 * a.mean.abs().max(1.0));
    assert!((a.m2 - b.m2).abs() <= 1e-9 * a.m2.abs().max(1.0));
}

fn profile() -> impl Strategy<Value = Profile> {
    (
        vec(vec(value(), 0..200), 1..6),
        any::<[u8; 32]>(),
        0..1u64 << 60,
    )
        .prop_map(|(features, digest, start)| {
            let names = (0..features.len()).map(|i| format!("f{i}"));
            let built = names.map(|name| {
                let values: Vec<f32> = (0..1013u32).map(|i| (i.pow(3) % 1013) as f32).collect();
                FeatureBaseline::from_values(&name, &values, 16).unwrap()
            });
            let baseline = Baseline::new(built.collect()).unwrap();
            let mut sketcher = Sketcher::new(&baseline, digest, digest, start);
            for (index, values) in features.iter().enumerate() {
                for &value in values {
                    sketcher.observe(index, value).unwrap();
                }
            }
            sketcher.count_window();
            sketcher.close(start + 3_600_000)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merge_is_commutative(a in vec(value(), 0..300), b in vec(value(), 0..300)) {
        let (a, b) = (sketch(&a), sketch(&b));
        let (ab, ba) = (merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(ab.counts(), ba.counts());
    }

    #[test]
    fn merge_is_associative(
        a in vec(value(), 0..200),
        b in vec(value(), 0..200),
        c in vec(value(), 0..200),
    ) {
        let (a, b, c) = (sketch(&a), sketch(&b), sketch(&c));
        same(
            merged(&merged(&a, &b), &c).counts(),
            merged(&a, &merged(&b, &c)).counts(),
        );
    }

    #[test]
    fn a_split_stream_adds_up(values in vec(value(), 0..600), cuts in vec(0usize..600, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(values.len())).collect();
        cuts.extend([0, values.len()]);
        cuts.sort_unstable();
        let parts: Vec<BinSketch> = cuts.windows(2).map(|w| sketch(&values[w[0]..w[1]])).collect();
        let mut sum = BinSketch::new(&baseline());
        parts.iter().for_each(|part| sum.merge(part).unwrap());
        let whole = sketch(&values);
        // A run that a cut goes through is seen in two pieces; all else is exact.
        let longest: u64 = parts.iter().map(|p| p.counts().longest_run).sum();
        prop_assert!(sum.counts().longest_run <= whole.counts().longest_run);
        prop_assert!(longest >= whole.counts().longest_run);
        let mut sum = sum.counts().clone();
        sum.longest_run = whole.counts().longest_run;
        same(&sum, whole.counts());
    }

    #[test]
    fn one_stream_cut_by_periods_keeps_its_runs(values in vec(value(), 1..400), cut in 0usize..400) {
        let cut = cut.min(values.len());
        let mut live = sketch(&values[..cut]);
        let mut sum = live.counts().clone();
        live.reset();
        values[cut..].iter().for_each(|&v| live.update(v));
        sum.merge(live.counts()).unwrap();
        same(&sum, sketch(&values).counts());
    }

    #[test]
    fn what_was_sent_is_what_arrives(profile in profile()) {
        let bytes = profile.encode().unwrap();
        let arrived = Profile::decode(&bytes).unwrap();
        // Moments are rounded to f32 once; a second trip changes nothing.
        for (sent, got) in profile.features.iter().zip(&arrived.features) {
            prop_assert_eq!(f64::from(sent.mean as f32), got.mean);
            prop_assert_eq!(f64::from(sent.m2 as f32), got.m2);
            let rounded = FeatureCounts { mean: got.mean, m2: got.m2, ..sent.clone() };
            prop_assert_eq!(&rounded, got);
        }
        prop_assert_eq!((arrived.schema, arrived.bundle), (profile.schema, profile.bundle));
        prop_assert_eq!(arrived.encode().unwrap(), bytes);
        prop_assert_eq!(Profile::decode(&arrived.encode().unwrap()).unwrap(), arrived);
    }

    #[test]
    fn a_baseline_survives_its_encoding(values in vec(value(), 1..500), bins in 2usize..=64) {
        prop_assume!(values.iter().any(|v| v.is_finite()));
        let feature = FeatureBaseline::from_values("f", &values, bins).unwrap();
        let baseline = Baseline::new(vec![feature]).unwrap();
        prop_assert_eq!(Baseline::decode(&baseline.encode().unwrap()).unwrap(), baseline);
    }

    #[test]
    fn extreme_values_never_make_an_unreadable_profile(values in vec(any::<f32>(), 1..100)) {
        let Ok(feature) = FeatureBaseline::from_values("f", &values, 8) else { return Ok(()) };
        let baseline = Baseline::new(vec![feature]).unwrap();
        prop_assert!(Baseline::decode(&baseline.encode().unwrap()).is_ok());
        let mut sketcher = Sketcher::new(&baseline, [0; 32], [0; 32], 5);
        values.iter().for_each(|&v| sketcher.observe(0, v).unwrap());
        let bytes = sketcher.close(0).encode().unwrap();
        prop_assert!(Profile::decode(&bytes).is_ok(), "{:?}", Profile::decode(&bytes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400), version in prop::bool::ANY) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = 1;
        }
        drop(Profile::decode(&bytes));
        drop(Baseline::decode(&bytes));
    }

    #[test]
    fn damaged_profiles_never_panic(profile in profile(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = profile.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(damaged) = Profile::decode(&bytes) {
            let mut sum = profile;
            drop(sum.merge(&damaged));
        }
        prop_assert!(Profile::decode(&bytes[..at]).is_err(), "a cut profile was accepted");
    }
}

#[test]
fn profiles_of_other_bundles_or_baselines_are_refused() {
    let baseline = Baseline::new(vec![baseline()]).unwrap();
    let close = |schema, bundle| Sketcher::new(&baseline, [schema; 32], [bundle; 32], 0).close(1);
    let mut profile = close(1, 1);
    assert!(profile.merge(&close(1, 1)).is_ok());
    let before = profile.clone();
    for other in [close(2, 1), close(1, 2)] {
        let message = profile.merge(&other).unwrap_err().to_string();
        assert!(message.contains("differs"), "{message}");
    }
    assert_eq!(profile, before);
}

#[test]
fn oversized_input_is_refused_before_decoding() {
    let message = Profile::decode(&vec![1; MAX_PROFILE_BYTES + 1]).unwrap_err();
    assert!(message.to_string().contains("exceed the limit"));
}

#[test]
fn counts_that_double_beyond_the_largest_number_stay_there() {
    let values = [0.0, 42.0, -60.0, 200.0, f32::NAN, f32::INFINITY];
    let mut sum = sketch(&values);
    for _ in 0..70 {
        sum = merged(&sum, &sum);
    }
    // One more stream, and one more of each value, where there is no room left.
    sum.merge(&sketch(&values)).unwrap();
    values.iter().for_each(|&value| sum.update(value));
    let counts = sum.counts();
    let full = [
        counts.n,
        counts.missing,
        counts.infinite,
        counts.below,
        counts.above,
        counts.offered(),
        counts.out_of_range(),
        counts.thinned_n(),
    ];
    assert_eq!(full, [u64::MAX; 8]);
    assert!(counts.bins.iter().all(|&bin| bin == 0 || bin == u64::MAX));
    assert!((0.0..=1.0).contains(&counts.missing_rate()));
    assert!((0.0..=1.0).contains(&counts.out_of_range_rate()));
    assert!(counts.mean.is_finite() && counts.m2.is_finite() && counts.std().is_finite());

    let mut profile = Profile {
        schema: [1; 32],
        bundle: [2; 32],
        start_unix_ms: 0,
        end_unix_ms: 1,
        windows: u64::MAX,
        features: vec![counts.clone()],
    };
    profile.merge(&profile.clone()).unwrap();
    assert_eq!(profile.windows, u64::MAX);
    let read = Profile::decode(&profile.encode().unwrap()).unwrap();
    assert_eq!(read.features[0].offered(), u64::MAX);
}
