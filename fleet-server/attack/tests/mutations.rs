//! Every defence is removed once, and the row that is about it must notice.
//!
//! `DROVER_MUTATION_PROGRAMS` names a folder with `drover` and `drover-agent` that were built
//! with the feature `mutation` (`scripts/test` makes it). Each case plays one row against them
//! with one check switched off: a row that is still withstood proves nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

/// Rows played at a time; each waits more than it computes.
const AT_ONCE: usize = 5;

/// Checks with the rows that must notice their absence.
const CASES: [(&str, &str); 36] = [
    ("Signature", "A1"),
    ("DistinctKeys", "A2"),
    ("Threshold", "A3"),
    ("CatalogListing", "A3"),
    ("RootVersion", "A4"),
    ("RootPredecessor", "A4"),
    ("Revocation", "A5"),
    ("CatalogRollback", "B1"),
    ("AssignmentRollback", "B1"),
    ("BundleRollback", "B2"),
    ("Epoch", "B3"),
    ("CatalogExpiry", "C1"),
    ("AssignmentExpiry", "C1"),
    ("TimeFloor", "C2"),
    ("ExpiryStopsAcceptanceOnly", "C3"),
    ("SlowSource", "C4"),
    ("LostReports", "C5"),
    ("ChunkDigest", "C6"),
    ("FastForward", "C7"),
    ("RefusedIsForgotten", "C8"),
    ("FileHash", "D1"),
    ("Completeness", "D2"),
    ("ExactFiles", "D3"),
    ("Recipient", "D4"),
    ("Compatibility", "D4"),
    ("Recipient", "D5"),
    ("DeltaBase", "D6"),
    ("SizeLimit", "E1"),
    ("ModelBounds", "E2"),
    ("FileNames", "E3"),
    ("LoadedIsVerified", "E4"),
    ("Confidentiality", "F1"),
    ("ReportReplay", "F2"),
    ("Recipient", "F3"),
    ("Claim", "F4"),
    ("SecondPerson", "F5"),
];

#[test]
fn each_row_turns_red_without_its_defence() {
    let Some(programs) = std::env::var_os("DROVER_MUTATION_PROGRAMS").map(PathBuf::from) else {
        println!("skipped: DROVER_MUTATION_PROGRAMS names no programs; scripts/test makes them");
        return;
    };
    let chosen = std::env::var("DROVER_MUTATION_CASES").unwrap_or_default();
    let is_chosen = |(check, row): &(&str, &str)| {
        chosen.is_empty() || chosen.split(',').any(|c| c == *check || c == *row)
    };
    let open = Mutex::new(CASES.into_iter().filter(is_chosen).collect::<Vec<_>>());
    let unnoticed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((check, row)) = open.lock().unwrap().pop() else {
                        return;
                    };
                    match notices(&programs, check, row) {
                        Ok(finding) => println!("{row} without {check}: {finding}"),
                        Err(why) => unnoticed.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let unnoticed = unnoticed.into_inner().unwrap();
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

/// What a row finds with a check switched off; that it finds nothing is an error.
fn notices(programs: &Path, check: &str, row: &str) -> Result<String, String> {
    let output = Command::new(programs.join("drover"))
        .args(["attack-suite", "--json", "--row", row])
        .env("DROVER_DISABLE_CHECK", check)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("{row} without {check} was not played: {stderr}"))?;
    let outcome = &report[0];
    match outcome["passed"].as_bool() {
        Some(false) => {
            let finding = outcome["finding"].as_str().unwrap_or_default();
            Ok(finding.chars().take(300).collect())
        }
        _ => Err(format!("{row} is withstood without {check}: {report}")),
    }
}
