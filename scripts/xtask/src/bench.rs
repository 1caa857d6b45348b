//! Benchmarks that need whole programs: sizes, memory, throughput.

mod compile;
mod connect;
mod trust;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::agent::{is_connected, windows};
use crate::fleet::{Broker, Fleet, repository};
use crate::rig::{pump_rig, replay};

/// Measures `name`; figures go to standard output, everything else to standard error.
///
/// # Errors
/// When something cannot be built or started; a figure that cannot be measured is a line
/// with its reason instead.
pub fn run(name: &str, quick: bool) -> anyhow::Result<()> {
    match name {
        "agent" => agent(quick),
        "compile" => compile::run(quick),
        "trust" => trust::run(quick),
        other => bail!("there is no benchmark {other}; there are: agent, compile, trust"),
    }
}

fn figure(figure: &str, unit: &str, value: anyhow::Result<(f64, u32, f64)>, goal: Option<f64>) {
    let line = match value {
        Ok((value, n, spread)) => json!({
            "bench": "agent", "figure": figure, "value": value, "unit": unit,
            "goal": goal, "better": "lower", "n": n, "spread": spread,
        }),
        Err(why) => json!({
            "bench": "agent", "figure": figure, "value": null, "unit": unit,
            "goal": goal, "better": "lower", "why": format!("{why:#}"),
        }),
    };
    println!("{line}");
}

fn agent(quick: bool) -> anyhow::Result<()> {
    for (board, name, goal) in [
        ("x86_64-linux", "size_bytes_x86_64", None),
        ("generic-arm64", "size_bytes_aarch64", Some(12e6)),
    ] {
        figure(name, "bytes", size_of(board), goal);
    }
    let rounds = if quick { 3 } else { 11 };
    let agent = build("x86_64-linux");
    for (name, loaded) in [("pss_idle_bytes", false), ("pss_loaded_bytes", true)] {
        let value = match &agent {
            Ok(agent) => pss(agent, loaded, rounds),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        figure(name, "bytes", value, None);
    }
    pipeline(quick)
}

fn build(board: &str) -> anyhow::Result<PathBuf> {
    let output = Command::new(repository().join("scripts/build-target"))
        .arg(board)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "scripts/build-target {board} failed"
    );
    let text = String::from_utf8(output.stdout)?;
    let path = text.lines().last().context("no path was printed")?;
    Ok(PathBuf::from(path))
}

fn size_of(board: &str) -> anyhow::Result<(f64, u32, f64)> {
    let bytes = std::fs::metadata(build(board)?)?.len();
    Ok((bytes as f64, 1, 0.0))
}

/// Proportional set size of a fleet agent that is connected, with no model or with the pump
/// model running at 100 windows per second: median of samples, one each 200 ms.
fn pss(agent_program: &Path, loaded: bool, samples: u32) -> anyhow::Result<(f64, u32, f64)> {
    let folder = tempfile::tempdir()?;
    let fleet = Fleet::start(folder.path(), Broker::Embedded)?;
    let mut agent = fleet.enrol("bench", "bench")?;
    agent.use_program(agent_program);
    let minute = Duration::from_secs(60);
    if loaded {
        let models = repository().join("scripts/models");
        fleet.publish(&models.join("pump/pump-1.0.0.toml"), "pump.drover")?;
        let csv = folder.path().join("rows.csv");
        pump_rig(&csv, 6000, &["--seed", "1"])?;
        agent.start(replay(&csv, "10"))?;
        let id = fleet.roll_out("pump-anomaly@1.0.0", false)?;
        fleet.wait_for_rollout(&id, minute)?;
        agent.wait_for("inference", minute, |s| (windows(s) > 500).then_some(()))?;
    } else {
        agent.start_without_rows()?;
        agent.wait_for("its connection", minute, |s| is_connected(s).then_some(()))?;
    }
    let pid = agent.pid().context("the agent does not run")?;
    let mut seen = Vec::new();
    for _ in 0..samples {
        seen.push(pss_of(pid)?);
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(median(seen))
}

fn pss_of(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("smaps_rollup has no Pss")? * 1024.0)
}

/// Median, number, and (max - min) / median.
fn median(mut values: Vec<f64>) -> (f64, u32, f64) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    let spread = (values[values.len() - 1] - values[0]) / median;
    (
        median,
        u32::try_from(values.len()).unwrap_or(u32::MAX),
        spread,
    )
}

/// Windows per second through the whole pipeline, and its overhead over the bare engine; the
/// agent's own benchmark prints these lines.
fn pipeline(quick: bool) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command
        .args([
            "bench",
            "--locked",
            "--package",
            "drover-agent",
            "--bench",
            "agent",
            "--",
        ])
        .current_dir(repository())
        .stderr(Stdio::inherit());
    if quick {
        command.arg("--quick");
    }
    ensure!(command.status()?.success(), "the agent's benchmark failed");
    Ok(())
}
