//! Trials and swaps on a stage fed by hand: no window is lost, and whatever a candidate does
//! wrong costs only the candidate.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{Heard, Manner, WINDOW, manifest, row, slot, slot_of, stage};
use drover_agent::config;
use drover_agent::runner::{self, Rules, Shared, Stage};
use drover_agent::source::{Columns, Feed, Row};
use drover_bundle::Normalisation;
use drover_sketch::{Baseline, FeatureBaseline, Profile};
use drover_wire::message::{Body, Event};
use tokio::sync::{broadcast, mpsc};

fn settings() -> config::Runner {
    config::Runner {
        trial_windows: 5,
        trial_timeout_secs: 10,
        ..config::Runner::default()
    }
}

/// A stage on which version 1 (digest 1) runs.
fn running(heard: &Heard) -> Stage {
    let mut stage = stage(heard, &settings());
    stage.run(slot("1.0.0", 1, Manner::Well, None), Instant::now());
    stage
}

fn feed(stage: &mut Stage, rows: std::ops::Range<u16>) {
    for value in rows {
        stage.feed(row(f32::from(value)), Instant::now()).unwrap();
    }
}

#[test]
fn a_swap_loses_no_window() {
    let heard = Heard::default();
    let mut stage = running(&heard);
    feed(&mut stage, 0..10);
    stage.stand_by(slot("2.0.0", 2, Manner::Well, None));
    stage.start_trial(&[2; 32], Instant::now());
    feed(&mut stage, 10..40);
    assert_eq!(heard.endings(), [([2; 32], Ok(()))]);
    assert_eq!(stage.snapshot().candidate.unwrap().windows, 28);
    stage.activate(&[2; 32], Instant::now());
    stage.activate(&[2; 32], Instant::now());
    feed(&mut stage, 40..50);

    let observations = heard.observations();
    assert_eq!(observations.len(), 50 - (WINDOW as usize - 1));
    for (window, (model, score)) in (0u8..).zip(observations) {
        assert_eq!(score, f32::from(window) * 3.0 + 3.0, "window {window}");
        let last_row = window + 2;
        assert_eq!(model, if last_row < 40 { 1 } else { 2 }, "window {window}");
    }
    assert!(stage.snapshot().candidate.is_none());
}

#[test]
fn a_bad_candidate_fails_once_and_what_runs_goes_on() {
    let other = manifest("2.0.0", &["b"]);
    let cases = [
        (slot("2.0.0", 2, Manner::Nan, None), "not finite"),
        (slot("2.0.0", 2, Manner::Broken, None), "by order"),
        (
            slot("2.0.0", 2, Manner::Slow, None),
            "us, the active model takes",
        ),
        (
            slot_of(&other, 2, Manner::Well, None),
            "no column for \"b\"; it has \"a\"",
        ),
    ];
    for (candidate, wanted) in cases {
        let heard = Heard::default();
        let mut stage = running(&heard);
        stage.stand_by(candidate);
        stage.start_trial(&[2; 32], Instant::now());
        feed(&mut stage, 0..20);
        let endings = heard.endings();
        let [(digest, Err(detail))] = endings.as_slice() else {
            panic!("{wanted}: {endings:?}");
        };
        assert_eq!(*digest, [2; 32]);
        assert!(detail.contains(wanted), "{detail:?} lacks {wanted:?}");
        stage.drop_candidate();
        assert_eq!(heard.observations().len(), 18);
        assert!(heard.observations().iter().all(|(model, _)| *model == 1));
    }
}

#[test]
fn a_silent_source_passes_a_first_model_only() {
    for (has_active, passes) in [(true, false), (false, true)] {
        let heard = Heard::default();
        let mut stage = stage(&heard, &settings());
        if has_active {
            stage.run(slot("1.0.0", 1, Manner::Well, None), Instant::now());
        }
        stage.stand_by(slot("2.0.0", 2, Manner::Well, None));
        let start = Instant::now();
        stage.start_trial(&[2; 32], start);
        stage.tick(start + Duration::from_secs(9));
        assert!(heard.endings().is_empty());
        stage.tick(start + Duration::from_secs(10));
        stage.tick(start + Duration::from_secs(60));
        let endings = heard.endings();
        assert_eq!(endings.len(), 1, "{endings:?}");
        assert_eq!(endings[0].1.is_ok(), passes, "{endings:?}");
    }
}

#[test]
fn missing_values_end_a_trial_in_bounded_time() {
    let heard = Heard::default();
    let mut stage = running(&heard);
    stage.stand_by(slot("2.0.0", 2, Manner::Well, None));
    stage.start_trial(&[2; 32], Instant::now());
    for _ in 0..200 {
        stage.feed(row(f32::NAN), Instant::now()).unwrap();
    }
    let endings = heard.endings();
    assert!(
        matches!(&endings[..], [(_, Err(why))] if why.contains("missing in 101 windows")),
        "{endings:?}"
    );
}

#[test]
fn a_candidate_that_is_not_there_fails_its_trial() {
    let heard = Heard::default();
    let mut stage = running(&heard);
    stage.start_trial(&[9; 32], Instant::now());
    assert!(matches!(&heard.endings()[..], [(_, Err(why))] if why.contains("not loaded")));
    stage.activate(&[9; 32], Instant::now());
    assert_eq!(stage.active_digest(), Some([1; 32]));
}

#[test]
fn rows_without_a_model_are_counted_and_gaps_are_not_spanned() {
    let heard = Heard::default();
    let mut stage = stage(&heard, &settings());
    feed(&mut stage, 0..7);
    assert_eq!(stage.snapshot().source.no_model, 7);
    stage.run(slot("1.0.0", 1, Manner::Well, None), Instant::now());
    feed(&mut stage, 10..13);
    for _ in 0..2 {
        let detail = "3 samples were lost".to_owned();
        stage.feed(Feed::Gap { detail }, Instant::now()).unwrap();
    }
    feed(&mut stage, 20..23);
    assert_eq!(heard.observations(), [(1, 33.0), (1, 63.0)]);
    let events = heard.bodies.lock().unwrap();
    let told = events
        .iter()
        .filter(|body| matches!(body, Body::Event(Event::Source { .. })));
    assert_eq!(told.count(), 1, "gaps are told once a minute");
    assert_eq!(stage.snapshot().source.gaps, 2);
}

#[test]
fn a_gap_ends_a_calibration_without_losing_its_windows() {
    let mut manifest = manifest("1.0.0", &["a"]);
    manifest.input.normalisation = Normalisation::CalibratedZScore {
        rows: 10,
        epsilon: 1.0,
        clip: 8.0,
    };
    let heard = Heard::default();
    let mut stage = stage(&heard, &settings());
    let model = slot_of(&manifest, 1, Manner::Well, None);
    stage.run(model, Instant::now());
    feed(&mut stage, 0..9);
    assert!(heard.observations().is_empty());
    let detail = "one sample was lost".to_owned();
    stage.feed(Feed::Gap { detail }, Instant::now()).unwrap();
    assert_eq!(heard.observations().len(), 7);
}

#[test]
fn rows_that_do_not_fit_are_counted_and_leave_a_gap() {
    let heard = Heard::default();
    let mut stage = running(&heard);
    feed(&mut stage, 0..3);
    for _ in 0..4 {
        let columns: Columns = ["b".to_owned()].into();
        let values = vec![1.0];
        let row = Row {
            columns,
            values,
            time: None,
        };
        stage.feed(Feed::Row(row), Instant::now()).unwrap();
    }
    feed(&mut stage, 3..6);
    let source = stage.snapshot().source;
    assert_eq!((source.rows, source.misfit), (10, 4));
    assert!(
        source.note.contains("no column for \"a\""),
        "{}",
        source.note
    );
    assert_eq!(heard.observations(), [(1, 3.0), (1, 12.0)]);
}

#[test]
fn profiles_are_closed_by_windows_by_time_and_at_a_swap() {
    let values: Vec<f32> = (0..200u8).map(f32::from).collect();
    let feature = |name| FeatureBaseline::from_values(name, &values, 8).unwrap();
    let baseline = Baseline::new(vec![feature("score"), feature("a")]).unwrap();
    let encoded = baseline.encode().unwrap();
    let heard = Heard::default();
    let rules = config::Runner {
        profile_windows: 10,
        profile_secs: 60,
        ..settings()
    };
    let mut stage = stage(&heard, &rules);
    let start = Instant::now();
    stage.run(slot("1.0.0", 1, Manner::Well, Some(encoded)), start);
    feed(&mut stage, 0..12);
    feed(&mut stage, 12..16);
    stage.tick(start + Duration::from_secs(61));
    stage.tick(start + Duration::from_secs(130));
    feed(&mut stage, 16..17);
    stage.run(slot("2.0.0", 2, Manner::Well, None), Instant::now());

    let bodies = heard.bodies.lock().unwrap();
    let profiles: Vec<Profile> = bodies
        .iter()
        .filter_map(|body| match body {
            Body::Profile(bytes) => Some(Profile::decode(bytes).unwrap()),
            _ => None,
        })
        .collect();
    let windows: Vec<u64> = profiles.iter().map(|profile| profile.windows).collect();
    assert_eq!(windows, [10, 4, 1], "an empty period gives no profile");
    assert_eq!(profiles[0].bundle, [1; 32]);
    let counted = |feature: usize| profiles[0].features[feature].n;
    assert_eq!((counted(0), counted(1)), (10, 12), "score, then a");
}

#[test]
fn the_thread_ends_with_its_source_and_its_death_is_seen() {
    let start = |heard: &Heard, panics: bool| {
        let (results, _) = broadcast::channel(4);
        let mut sinks = heard.sinks(results);
        if panics {
            sinks.record = Box::new(|_| panic!("by order"));
        }
        let rules = Rules::new(&settings(), true);
        let mut stage = Stage::new(rules, sinks, "test".into());
        stage.run(slot("1.0.0", 1, Manner::Well, None), Instant::now());
        let (rows, queue) = mpsc::channel(8);
        let end = runner::start(Shared::new(stage), queue, true).unwrap();
        (rows, end)
    };
    let heard = Heard::default();
    let (rows, end) = start(&heard, false);
    for value in 0..100u8 {
        rows.blocking_send(row(f32::from(value))).unwrap();
    }
    rows.blocking_send(Feed::Ended { rows: 100 }).unwrap();
    end.blocking_recv().unwrap().unwrap();
    assert_eq!(heard.observations().len(), 98);

    let (rows, end) = start(&heard, true);
    for value in 0..3u8 {
        rows.blocking_send(row(f32::from(value))).unwrap();
    }
    assert!(
        end.blocking_recv().is_err(),
        "a dead thread gives no result"
    );
}
