//! All rows of the attack table, against the programs that were just built.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use drover_attack::Options;

/// The folder of the programs, which is the test's own or the one above it.
fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .find(|folder| folder.join("drover").exists() && folder.join("drover-agent").exists());
    found
        .map(Path::to_owned)
        .expect("drover and drover-agent are built: cargo build --workspace --bins")
}

fn options(rows: &[&str]) -> Options {
    let programs = programs();
    Options {
        rows: rows.iter().map(|&r| r.to_owned()).collect(),
        drover: programs.join("drover"),
        agent: programs.join("drover-agent"),
        folder: None,
        keep: false,
        jobs: 4,
    }
}

#[test]
fn every_row_is_withstood() {
    let report = drover_attack::run(&options(&[]), |outcome| {
        println!("{} {}", outcome.row, outcome.text());
    })
    .unwrap();
    let rows: Vec<&str> = report.outcomes.iter().map(|o| o.row).collect();
    let wanted: Vec<String> = [('A', 5), ('B', 3), ('C', 8), ('D', 6), ('E', 4), ('F', 5)]
        .into_iter()
        .flat_map(|(letter, count)| (1..=count).map(move |n| format!("{letter}{n}")))
        .collect();
    assert_eq!(rows, wanted, "the table has 31 rows, in this order");
    let findings: Vec<String> = report
        .outcomes
        .iter()
        .filter(|o| !o.passed)
        .map(|o| format!("{}: {}", o.row, o.finding))
        .collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn a_row_that_does_not_exist_is_named() {
    let error = drover_attack::run(&options(&["A9"]), |_| ()).unwrap_err();
    assert!(error.to_string().contains("A9"), "{error}");
}
