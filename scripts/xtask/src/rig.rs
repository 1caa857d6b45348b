//! Recordings of the simulated pump rig, and how an agent replays them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::fleet::repository;

/// Simulates `rows` rows of the pump rig into a CSV file.
///
/// # Errors
/// When the simulator cannot be run.
pub fn pump_rig(path: &Path, rows: u32, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("python3")
        .arg(repository().join("scripts/models/pump_rig.py"))
        .args(["--rows", &rows.to_string()])
        .args(args)
        .arg("-o")
        .arg(path)
        .status()
        .context("python3 is missing; run scripts/setup")?;
    ensure!(status.success(), "the pump rig ended with {status}");
    Ok(())
}

/// Arguments that replay a recording of the rig (10 Hz) for ever, `speed` times as fast.
pub fn replay(path: &Path, speed: &str) -> Vec<String> {
    let source = format!("csv:{}", path.display());
    let set = ["--set", "source.rate_hz=10", "--set", "source.loop=true"];
    let args = ["--source", &source, "--speed", speed]
        .into_iter()
        .chain(set);
    args.map(str::to_owned).collect()
}
