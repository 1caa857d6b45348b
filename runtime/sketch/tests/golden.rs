//! Version 1 of both formats, byte for byte. These constants are never edited: bytes in the field
//! must stay readable for ever.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use drover_sketch::{Baseline, FeatureBaseline, Profile, SketchError, Sketcher};

const BASELINE_V1: &str = "0102087072657373757265070000c840000073410000a4410000c44100c0e84100000a4200002c42081a181b18181b1818c8010002018a10a9bd00000000000046428f02c54192b35941057374617465020000003f0000c03f03030c053c0102035f028e3e00000000000000401111913fdd06253f";
const PROFILE_V1: &str = "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb80d095ffbc3180adf180bd31ac0202082d2d191419192d46ac0200010a28014444dc4155ddb047000000c00000684203212121a90203000000010000803f000046430000000000000040";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn baseline() -> Baseline {
    let pressure: Vec<f32> = (0..200u32).map(|i| (i.pow(3) % 199) as f32 / 4.0).collect();
    let mut state: Vec<f32> = (0..60u32).map(|i| (i * i % 7 % 3) as f32).collect();
    state.push(f32::NAN);
    Baseline::new(vec![
        FeatureBaseline::from_values("pressure", &pressure, 8).unwrap(),
        FeatureBaseline::from_values("state", &state, 16).unwrap(),
    ])
    .unwrap()
}

fn profile() -> Profile {
    let mut sketcher = Sketcher::new(&baseline(), [0xaa; 32], [0xbb; 32], 1_700_000_000_000);
    for i in 0..300u32 {
        sketcher.observe(0, (i % 61) as f32 - 2.0).unwrap();
        let state = if i % 100 == 0 {
            f32::NAN
        } else {
            (i % 3) as f32
        };
        sketcher.observe(1, state).unwrap();
        sketcher.count_window();
    }
    sketcher.observe(0, f32::NEG_INFINITY).unwrap();
    sketcher.close(1_700_003_600_000)
}

#[test]
fn baseline_version_1() {
    assert_eq!(hex(&baseline().encode().unwrap()), BASELINE_V1);
    assert_eq!(Baseline::decode(&unhex(BASELINE_V1)).unwrap(), baseline());
}

#[test]
fn profile_version_1() {
    assert_eq!(hex(&profile().encode().unwrap()), PROFILE_V1);
    let read = Profile::decode(&unhex(PROFILE_V1)).unwrap();
    assert_eq!(read.features[0].bins, profile().features[0].bins);
    assert_eq!(read.features[0].infinite, 1);
    assert_eq!(read.features[1].missing, 3);
    assert_eq!((read.windows, read.end_unix_ms), (300, 1_700_003_600_000));
    assert_eq!((read.schema, read.bundle), ([0xaa; 32], [0xbb; 32]));
}

#[test]
fn other_versions_are_refused_by_their_own_error() {
    for found in [0, 2, 255] {
        let mut bytes = unhex(PROFILE_V1);
        bytes[0] = found;
        let unknown = SketchError::UnknownVersion { found, known: 1 };
        assert_eq!(Profile::decode(&bytes), Err(unknown.clone()));
        let mut bytes = unhex(BASELINE_V1);
        bytes[0] = found;
        assert_eq!(Baseline::decode(&bytes), Err(unknown));
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = unhex(PROFILE_V1);
    bytes.push(0);
    assert!(Profile::decode(&bytes).is_err());
}

#[test]
fn sixteen_bins_of_eight_features_fit_in_a_kilobyte() {
    let values: Vec<f32> = (0..1013u32).map(|i| (i.pow(3) % 1013) as f32).collect();
    let features = (0..8).map(|i| FeatureBaseline::from_values(&format!("f{i}"), &values, 16));
    let baseline = Baseline::new(features.collect::<Result<_, _>>().unwrap()).unwrap();
    let mut sketcher = Sketcher::new(&baseline, [1; 32], [2; 32], 0);
    for i in 0..100_000u32 {
        for feature in 0..8 {
            sketcher.observe(feature, (i % 997) as f32).unwrap();
        }
    }
    let bytes = sketcher.close(3_600_000).encode().unwrap();
    assert!(bytes.len() < 800, "{} bytes", bytes.len());
}
