//! Every defence, taken away, is noticed: this test runs the others once more with one check
//! switched off each time, and each of them must fail then.
//!
//! Only in builds with the feature `mutation`, which also make the switch.

use std::process::Command;

use drover_trust::mutation::Check;

const STOLEN: &str = "stolen::nothing_runs_that_the_release_threshold_did_not_sign";

/// A check, and the test that notices its absence.
const TABLE: [(Check, &str); 28] = [
    (Check::Threshold, STOLEN),
    (Check::RootPredecessor, STOLEN),
    (Check::FastForward, STOLEN),
    (Check::Epoch, STOLEN),
    (Check::CatalogRollback, STOLEN),
    (Check::AssignmentRollback, STOLEN),
    (Check::TimeFloor, STOLEN),
    (
        Check::Signature,
        "hostile::messages_that_are_not_from_the_fleet_or_not_for_this_device",
    ),
    (
        Check::Threshold,
        "hostile::bundles_that_the_device_must_not_run",
    ),
    (
        Check::Compatibility,
        "hostile::bundles_that_the_device_must_not_run",
    ),
    (
        Check::BundleRollback,
        "hostile::an_older_release_is_refused_even_if_both_roles_signed_it",
    ),
    (
        Check::ChunkDigest,
        "hostile::wrong_chunks_are_refused_and_right_ones_still_taken",
    ),
    (Check::Recipient, "refused::what_is_refused_leaves_no_trace"),
    (
        Check::CatalogRollback,
        "refused::what_is_refused_leaves_no_trace",
    ),
    (
        Check::CatalogExpiry,
        "refused::what_is_refused_leaves_no_trace",
    ),
    (
        Check::CatalogListing,
        "refused::what_is_refused_leaves_no_trace",
    ),
    (
        Check::AssignmentRollback,
        "refused::what_is_refused_leaves_no_trace",
    ),
    (
        Check::AssignmentExpiry,
        "refused::what_is_refused_leaves_no_trace",
    ),
    (
        Check::RefusedIsForgotten,
        "refused::what_is_refused_leaves_no_trace",
    ),
    (
        Check::RootVersion,
        "trust::chains_that_do_not_follow_change_nothing",
    ),
    (
        Check::RootPredecessor,
        "trust::chains_that_do_not_follow_change_nothing",
    ),
    (
        Check::Revocation,
        "trust::what_a_revoked_key_signed_dies_before_its_commit",
    ),
    (
        Check::FastForward,
        "trust::fast_forward_by_stolen_keys_ends_with_a_rotation",
    ),
    (
        Check::Epoch,
        "floor::a_bundle_from_before_a_security_release_never_runs_again",
    ),
    (Check::TimeFloor, "floor::the_time_floor_never_steps_back"),
    (
        Check::ExpiryStopsAcceptanceOnly,
        "floor::an_end_between_staging_and_activation_aborts_nothing",
    ),
    (
        Check::SlowSource,
        "pace::a_source_that_drips_is_left_alone_and_asked_again",
    ),
    (
        Check::Completeness,
        "pace::a_part_that_is_held_back_is_reported",
    ),
];

/// Whether a test of this binary passes with a check switched off, and what it said.
fn passes(test: &str, without: Option<Check>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]);
    command.env("DROVER_SEED", "7").env("RUST_BACKTRACE", "0");
    command.env_remove("DROVER_DISABLE_CHECK");
    if let Some(check) = without {
        command.env("DROVER_DISABLE_CHECK", check.name());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("running 1 test"), "no test {test}: {said}");
    (output.status.success(), said)
}

#[test]
fn every_check_that_is_switched_off_is_noticed() {
    let mut tests: Vec<&str> = TABLE.iter().map(|(_, test)| *test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        let (passed, said) = passes(test, None);
        assert!(passed, "{test} fails by itself: {said}");
    }
    let unnoticed: Vec<_> = TABLE
        .iter()
        .filter(|(check, test)| passes(test, Some(*check)).0)
        .collect();
    assert!(unnoticed.is_empty(), "nobody noticed: {unnoticed:?}");
}
