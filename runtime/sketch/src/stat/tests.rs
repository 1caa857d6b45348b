//! The statistics against scipy's values: constants, then whole data sets where they are present.

use super::*;
use crate::{BinSketch, FeatureBaseline};
use serde_json::Value;
use std::{fs, path::PathBuf};

fn close(ours: f64, theirs: f64, relative: f64) {
    let scale = theirs.abs().max(1e-300);
    assert!(
        (ours - theirs).abs() <= relative * scale,
        "{ours:e} instead of {theirs:e}"
    );
}

#[test]
fn chi_square_tail_matches_scipy() {
    for (x, degrees, p) in [
        (3.841458820694124, 1, 0.04999999999999989),
        (24.99579013972863, 15, 0.04999999999999998),
        (7.0, 15, 0.9576497473325511),
        (60.0, 15, 2.522085078696141e-07),
        (200.0, 15, 2.124671199893185e-34),
        (31.0, 31, 0.46621250621750804),
        (45.5, 31, 0.04496538982362454),
        (0.01, 1, 0.920344325445942),
        (63.0, 63, 0.47630238333813013),
        (120.0, 63, 2.010693881650102e-05),
    ] {
        close(chi_square_sf(x, degrees), p, 1e-11);
    }
    assert_eq!(chi_square_sf(5.0, 0), 1.0);
    assert_eq!(chi_square_sf(f64::INFINITY, 3), 0.0);
    assert_eq!(chi_square_sf(f64::NAN, 3), 1.0);
}

#[test]
fn kolmogorov_tail_matches_scipy() {
    for (x, p) in [
        (0.2, 0.999999999999495),
        (0.3, 0.9999906941986655),
        (0.5, 0.9639452436648751),
        (0.8276, 0.49995841656354456),
        (0.99, 0.2808738392255489),
        (1.0, 0.26999967167735456),
        (1.01, 0.25943416909359746),
        (1.3581, 0.0499996304316674),
        (1.6276, 0.010001537333060776),
        (2.5, 7.453306344157342e-06),
        (4.0, 2.532833109818835e-14),
    ] {
        close(kolmogorov_sf(x), p, 1e-12);
    }
    assert_eq!(kolmogorov_sf(0.0), 1.0);
}

#[test]
fn equal_histograms_do_not_differ() {
    let counts = [10, 20, 30, 0];
    let pair = Pair::new(&counts, &counts).unwrap();
    assert_eq!(pair.psi(), 0.0);
    close(pair.psi_adjusted(), -3.0 * (1.0 / 60.0 + 1.0 / 60.0), 1e-12);
    assert_eq!(pair.chi_square().p_value, 1.0);
    assert_eq!(pair.ks().statistic, 0.0);
    assert_eq!(pair.p_value(), 1.0);
    assert_eq!(pair.js_distance(), 0.0);
}

#[test]
fn disjoint_histograms_are_as_far_apart_as_can_be() {
    let pair = Pair::new(&[100, 0], &[0, 100]).unwrap();
    assert_eq!(pair.ks().statistic, 1.0);
    close(pair.js_distance(), core::f64::consts::LN_2.sqrt(), 1e-12);
    assert!(pair.p_value() < 1e-12);
}

#[test]
fn nothing_to_compare_is_none() {
    assert!(Pair::new(&[1, 2], &[0, 0]).is_none());
    assert!(Pair::new(&[0, 0], &[1, 2]).is_none());
    assert!(Pair::new(&[1, 2], &[1, 2, 3]).is_none());
    assert!(Pair::new(&[], &[]).is_none());
}

#[test]
fn small_cells_are_pooled() {
    // Equal totals, so a cell's expected count is half its sum: 1.5, 2, 3.5 are small and pool
    // to 7; 50 stays.
    let pooled = Pair::new(&[2, 2, 3, 50], &[1, 2, 4, 50]).unwrap();
    assert_eq!(pooled.chi_square().degrees, 1);
    // A lone small cell joins the smallest other one, counts and all.
    let joined = Pair::new(&[1, 50, 20], &[3, 60, 18]).unwrap();
    let by_hand = Pair::new(&[50, 21], &[60, 21]).unwrap();
    assert_eq!(joined.chi_square(), by_hand.chi_square());
    // Nothing but small cells leaves one cell and no test.
    let hopeless = Pair::new(&[1, 1, 1], &[3, 0, 0]).unwrap().chi_square();
    assert_eq!((hopeless.degrees, hopeless.p_value), (0, 1.0));
    // Without pooling, scipy.stats.chi2_contingency([[12, 30, 58], [20, 40, 40]]).
    let known = Pair::new(&[12, 30, 58], &[20, 40, 40])
        .unwrap()
        .chi_square();
    close(known.statistic, 6.734693877551021, 1e-12);
    close(known.p_value, 0.034480996293689524, 1e-10);
}

fn reference_folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/drift-reference");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: the drift reference data set is not beside the repository");
    None
}

fn exact(folder: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("exact_out.json")).unwrap()).unwrap()
}

fn integers(value: &Value) -> Vec<u64> {
    let list = value.as_array().unwrap().iter();
    list.map(|v| v.as_u64().unwrap()).collect()
}

#[test]
fn every_column_of_the_reference_runs_agrees() {
    let Some(folder) = reference_folder() else {
        return;
    };
    let mut compared = 0;
    for (_, set) in exact(&folder).as_object().unwrap() {
        let Some(columns) = set.as_object() else {
            continue;
        };
        for column in columns.values() {
            for bins in ["q10", "q16", "q32"] {
                let Some(truth) = column.get(bins) else {
                    continue;
                };
                let (reference, observed) = (integers(&truth["ref"]), integers(&truth["cur"]));
                let pair = Pair::new(&reference, &observed).unwrap();
                let number = |name: &str| truth[name].as_f64().unwrap();
                let same = |ours: f64, name: &str| {
                    assert!((ours - number(name)).abs() < 1e-9, "{name}: {ours}");
                };
                same(pair.psi(), "psi_half_count_floor");
                same(pair.psi() - pair.psi_adjusted(), "psi_expected_under_null");
                same(pair.js_distance(), "js_base_e");
                same(pair.ks().statistic, "ks_on_bins");
                let chi_square = pair.chi_square_pooled(0.0);
                close(chi_square.statistic + 1.0, number("chi2") + 1.0, 1e-9);
                assert_eq!(u64::from(chi_square.degrees), truth["df"].as_u64().unwrap());
                if number("chi2_p") > 1e-280 {
                    close(chi_square.p_value, number("chi2_p"), 1e-6);
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} comparisons");
}

#[test]
fn raw_columns_fall_into_the_reference_bins() {
    let Some(folder) = reference_folder() else {
        return;
    };
    let exact = exact(&folder);
    let column = |file: &str, index: usize| -> Vec<f32> {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let rows = text.lines().skip(1);
        rows.map(|row| row.split(',').nth(index).unwrap().parse().unwrap())
            .collect()
    };
    for (index, name) in ["gauss", "scale", "lognorm", "zeroinfl"].iter().enumerate() {
        let reference = column("syn_ref.csv", index);
        for kind in ["null", "drift"] {
            for bins in [10, 16, 32] {
                let baseline = FeatureBaseline::from_values(name, &reference, bins).unwrap();
                assert_eq!(baseline.stride(), 1, "independent rows need no thinning");
                let mut sketch = BinSketch::new(&baseline);
                for value in column(&format!("syn_cur_{kind}.csv"), index) {
                    sketch.update(value);
                }
                let column = &exact[&format!("syn/{kind}")][*name];
                let truth = &column[&format!("q{bins}")];
                assert_eq!(baseline.counts(), integers(&truth["ref"]), "{name} {bins}");
                assert_eq!(
                    sketch.counts().bins,
                    integers(&truth["cur"]),
                    "{name} {bins}"
                );
                assert_eq!(
                    sketch.counts().out_of_range(),
                    column["out_of_ref_range"].as_u64().unwrap()
                );
            }
        }
    }
}
