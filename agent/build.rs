//! Tells the agent when it was built: a time that has passed for certain, whatever the clock
//! of a board says. `SOURCE_DATE_EPOCH` makes it reproducible; without it the age of the
//! manifest beside this file is taken, so that no clock is asked.

use std::time::{Duration, SystemTime};

fn main() {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=Cargo.toml");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let given = given.and_then(|text| text.trim().parse::<u64>().ok());
    let unix_s = given.unwrap_or_else(manifest_unix_s);
    println!("cargo:rustc-env=DROVER_BUILT_UNIX_S={unix_s}");
}

fn manifest_unix_s() -> u64 {
    let modified = std::fs::metadata("Cargo.toml").and_then(|file| file.modified());
    let since = modified.map(|at| at.duration_since(SystemTime::UNIX_EPOCH));
    since.map_or(0, |s| s.unwrap_or(Duration::ZERO).as_secs())
}
