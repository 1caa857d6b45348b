//! The main job, visible to the end: every step prints what it does and is checked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use drover_api::{DeviceStatus, Level, Rollout, RolloutState};
use drover_bundle::{Container, FileRole, GoldenVectors, Manifest, Tensor, container};
use drover_trust::Envelope;

use crate::agent::{Agent, is_connected, outbox, windows};
use crate::fleet::{Broker, Fleet, repository, write};
use crate::poll::{Look, wait_for};
use crate::rig::{pump_rig, replay};

const MINUTE: Duration = Duration::from_secs(60);
/// Rows per second of the replayed recordings, as a multiple of the rig's 10 Hz.
const SPEED: &str = "20";

/// Runs the demo.
///
/// # Errors
/// When a step does not do what it should.
pub fn run() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("drover-demo-").tempdir()?;
    let mut steps = Steps::new();
    let result = play(folder.path(), &mut steps);
    steps.summary(&result);
    if result.is_err() {
        let kept = folder.keep();
        println!("Everything is kept in {}", kept.display());
    }
    result
}

fn play(folder: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    steps.begin("make keys and start the server with its broker and database");
    let mut fleet = Fleet::start(folder, Broker::Embedded)?;
    let client = fleet.client()?;
    let status = client.status()?;
    steps.done(format!(
        "fleet {:?}, broker at {}",
        status.fleet, status.broker.addr
    ));

    steps.begin("enrol three agents, each with its own data folder");
    let mut agents = vec![
        fleet.enrol("pump-oslo-1", "oslo")?,
        fleet.enrol("pump-oslo-2", "oslo")?,
        fleet.enrol("pump-bergen-1", "bergen")?,
    ];
    let streams = [
        record(folder, "normal", &["--seed", "101"])?,
        record(
            folder,
            "cavitation",
            &[
                "--seed",
                "102",
                "--fault",
                "cavitation",
                "--fault-at",
                "3000",
            ],
        )?,
        record(
            folder,
            "warm-site",
            &[
                "--seed",
                "103",
                "--site-offset",
                "motor_temperature_degc=1.0",
            ],
        )?,
    ];
    for (agent, stream) in agents.iter_mut().zip(&streams) {
        start(agent, stream)?;
    }
    wait_for("all agents to say hello", MINUTE, || {
        let heard = client
            .devices()?
            .iter()
            .filter(|d| d.last_seen_unix_ms.is_some())
            .count();
        Ok(if heard == agents.len() {
            Look::Ready(())
        } else {
            Look::NotYet(format!("{heard} of 3"))
        })
    })?;
    steps.done("oslo runs a normal and a cavitating pump, bergen is 1 degree warmer".to_owned());

    steps.begin("build, sign, verify and publish the int8 pump model");
    let models = repository().join("scripts/models/pump");
    let bundle = fleet.publish(&models.join("pump-1.0.0.toml"), "pump-1.0.0.drover")?;
    let size = std::fs::metadata(&bundle)?.len();
    steps.done(format!(
        "pump-anomaly 1.0.0, {size} bytes with golden vectors and drift baseline"
    ));

    steps.begin("roll it out: one device first, then all");
    let rollout = roll_out(&fleet, "pump-anomaly@1.0.0")?;
    expect_completed(&rollout)?;
    for agent in &mut agents {
        agent.wait_for("inference", MINUTE, |s| (windows(s) > 100).then_some(()))?;
    }
    steps.done(format!(
        "{} of 3 devices committed, {} bytes sent for a bundle of {}",
        rollout.counts.committed, rollout.sent_bytes, rollout.bundle_bytes
    ));

    steps.begin("ask which devices an advisory concerns");
    let affected = wait_for("all devices to be found by a component", MINUTE, || {
        let found = client.affected("onnxruntime<2")?;
        let devices = found.items.len();
        Ok(if devices == agents.len() && found.unknown.is_empty() {
            Look::Ready(devices)
        } else {
            Look::NotYet(format!("{found:?}"))
        })
    })?;
    let others = client.affected("onnxruntime>=2")?;
    ensure!(others.items.is_empty(), "nothing was made so: {others:?}");
    steps.done(format!(
        "{affected} run a model made with onnxruntime<2, none one made with a later version"
    ));

    steps.begin("read results on the board, as an application does");
    let seen = agents[1].ask(r#"{"op":"subscribe"}"#, 20)?;
    let observation = seen.iter().find(|v| v["type"] == "observation");
    let observation = observation.context("no observation came over the local socket")?;
    steps.done(format!(
        "window {} scores {:.4}: {}",
        observation["window"],
        observation["score"].as_f64().unwrap_or(f64::NAN),
        observation["verdict"]
    ));

    steps.begin("take the broker away for a while");
    fleet.stop_broker()?;
    let mut before = Vec::new();
    for agent in &mut agents {
        before.push(agent.wait_for("its connection to drop", MINUTE, |s| {
            (!is_connected(s)).then(|| windows(s))
        })?);
    }
    let mut buffered = 0;
    for (agent, before) in agents.iter_mut().zip(before) {
        buffered += agent.wait_for("inference to go on", MINUTE, |s| {
            (windows(s) > before + 500 && outbox(s) > 400).then(|| outbox(s))
        })?;
    }
    steps.done(format!(
        "inference went on, {buffered} records wait on the boards"
    ));

    steps.begin("bring the broker back: everything arrives, exactly once");
    fleet.start_broker()?;
    let mut seen = Vec::new();
    for agent in &mut agents {
        seen.push(agent.observed()?);
        // A quiet stream lets the outbox run empty, so that both sides can be compared.
        agent.stop()?;
        agent.start_without_rows()?;
        agent.wait_for("the outbox to run empty", MINUTE, |s| {
            (is_connected(s) && outbox(s) == 0).then_some(())
        })?;
    }
    let mut arrived = 0;
    for (agent, (boot, sequence)) in agents.iter().zip(seen) {
        for stored in fleet.stored(&agent.id)? {
            let whole =
                stored.is_gapless() && (stored.boot != boot || stored.last_sequence >= sequence);
            ensure!(whole, "{}: records are missing: {stored:?}", agent.name);
            arrived += stored.records;
        }
    }
    for (agent, stream) in agents.iter_mut().zip(&streams) {
        agent.stop()?;
        start(agent, stream)?;
    }
    steps.done(format!("{arrived} records, no gap, none twice"));

    steps.begin("look at drift");
    let (level, psi) = wait_for("drift profiles of three devices", 2 * MINUTE, || {
        let drift = client.drift()?;
        let devices = drift.iter().flat_map(|d| &d.devices);
        let bergen = devices.clone().find(|d| d.name == "pump-bergen-1");
        let temperature = bergen.and_then(|d| {
            d.features
                .iter()
                .find(|f| f.feature.contains("temperature"))
        });
        let oslo = devices.clone().find(|d| d.name == "pump-oslo-1");
        Ok(match (temperature, oslo) {
            (Some(t), Some(o)) if t.level == Level::Alarm && o.level != Level::Unknown => {
                ensure!(o.level != Level::Alarm, "the normal pump alarms: {o:?}");
                Look::Ready((t.level, t.psi.unwrap_or(f64::NAN)))
            }
            _ => Look::NotYet(format!(
                "{:?}",
                devices
                    .map(|d| (&d.name, d.level, d.profiles))
                    .collect::<Vec<_>>()
            )),
        })
    })?;
    steps.done(format!(
        "bergen's motor temperature: {level:?}, PSI {psi:.2}; oslo's normal pump is quiet"
    ));

    steps.begin("offer a tampered bundle");
    let tampered = tamper(Path::new(&bundle), &fleet.path("tampered.drover"))?;
    let root = fleet.path("keys/root.drover-root");
    let reason = fleet.drover_refuses(["bundle", "verify", &tampered, "--root", &root])?;
    fleet.drover_refuses(["release", "publish", &tampered])?;
    let reason = reason.strip_prefix("error: ").unwrap_or(&reason);
    steps.done(reason.replace(&fleet.path(""), ""));

    steps.begin("roll out a bad successor: signed, but it computes wrongly on these CPUs");
    let bad = spoil(Path::new(&bundle), &fleet.path("pump-1.0.1.drover"))?;
    fleet.drover([
        "bundle",
        "sign",
        &bad,
        "--key",
        &fleet.path("keys/release-1.key"),
    ])?;
    fleet.drover(["release", "publish", &bad])?;
    let rollout = roll_out(&fleet, "pump-anomaly@1.0.1")?;
    ensure!(
        rollout.state == RolloutState::Paused,
        "the rollout did not halt: {:?}",
        rollout.state
    );
    let failed = rollout.devices.iter().find_map(|d| match &d.status {
        DeviceStatus::Failed { code, .. } => Some(code.clone()),
        _ => None,
    });
    let failed = failed.context("no device says why it refused")?;
    ensure!(
        rollout.counts.failed == 1,
        "more than the first device was exposed: {:?}",
        rollout.counts
    );
    for agent in &mut agents {
        let version = agent.status()?["active"]["version"].clone();
        ensure!(version == "1.0.0", "{} runs {version}", agent.name);
    }
    steps.done(format!(
        "one device exposed, it kept 1.0.0 ({failed}); the rollout halted by itself"
    ));

    steps.begin("roll out a good successor");
    fleet.publish(&models.join("pump-1.1.0.toml"), "pump-1.1.0.drover")?;
    let rollout = roll_out(&fleet, "pump-anomaly@1.1.0")?;
    expect_completed(&rollout)?;
    for agent in &mut agents {
        agent.wait_for("the successor", MINUTE, |s| {
            (s["active"]["version"] == "1.1.0").then_some(())
        })?;
    }
    steps.done("3 of 3 devices run 1.1.0".to_owned());

    steps.begin("stop everything");
    for agent in &mut agents {
        agent.stop()?;
    }
    fleet.stop_server()?;
    steps.done("all processes ended by themselves when asked".to_owned());
    Ok(())
}

fn start(agent: &mut Agent, stream: &Path) -> anyhow::Result<()> {
    let mut args = replay(stream, SPEED);
    args.extend(["--set", "runner.profile_windows=1000"].map(str::to_owned));
    agent.start(args)
}

fn roll_out(fleet: &Fleet, release: &str) -> anyhow::Result<Rollout> {
    let id = fleet.roll_out(release, true)?;
    fleet.wait_for_rollout(&id, 2 * MINUTE)
}

fn expect_completed(rollout: &Rollout) -> anyhow::Result<()> {
    ensure!(
        rollout.state == RolloutState::Completed && rollout.counts.committed == 3,
        "the rollout ended as {:?}: {:?}",
        rollout.state,
        rollout.devices
    );
    Ok(())
}

/// Records a stretch of the simulated rig.
fn record(folder: &Path, name: &str, args: &[&str]) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{name}.csv"));
    pump_rig(&path, 12_000, args)?;
    Ok(path)
}

/// Flips one bit of the model inside a signed bundle.
fn tamper(bundle: &Path, out: &str) -> anyhow::Result<String> {
    let mut container = Container::decode(&std::fs::read(bundle)?)?;
    let byte = container
        .payload
        .get_mut(1000)
        .context("the bundle is too small")?;
    *byte ^= 1;
    write(Path::new(out), &container.encode()?)?;
    Ok(out.to_owned())
}

/// An unsigned successor whose golden outputs are not what the model gives: what a release
/// engineer would sign after validating on a machine that computes otherwise.
pub fn spoil(bundle: &Path, out: &str) -> anyhow::Result<String> {
    let old = Container::decode(&std::fs::read(bundle)?)?;
    let manifest = Manifest::decode(old.envelope.unverified_payload())?;
    let mut files = Vec::new();
    for (entry, bytes) in container::files(&manifest, &old.payload) {
        let mut bytes = bytes.to_vec();
        if entry.role == FileRole::Golden {
            let mut golden = GoldenVectors::decode(&bytes)?;
            for case in &mut golden.cases {
                let values: Vec<f32> = case.output.to_f32().iter().map(|v| v + 100.0).collect();
                case.output = Tensor::from_f32(case.output.shape().to_vec(), &values)?;
            }
            bytes = golden.encode()?;
        }
        files.push((entry.name.clone(), entry.role, bytes));
    }
    let (files, chunking, payload) = container::pack(files);
    let successor = Manifest {
        version: "1.0.1".to_owned(),
        counter: manifest.counter + 1,
        files,
        chunking,
        ..manifest
    };
    let envelope = Envelope::unsigned(successor.encode()?);
    write(Path::new(out), &Container { envelope, payload }.encode()?)?;
    Ok(out.to_owned())
}

/// Prints what happens, and remembers it for the summary.
struct Steps {
    start: Instant,
    step_start: Instant,
    title: String,
    done: Vec<(String, Duration, String)>,
}

impl Steps {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            step_start: Instant::now(),
            title: String::new(),
            done: Vec::new(),
        }
    }

    fn begin(&mut self, title: &str) {
        println!(
            "[{:>5.1} s] {title} ...",
            self.start.elapsed().as_secs_f32()
        );
        title.clone_into(&mut self.title);
        self.step_start = Instant::now();
    }

    fn done(&mut self, detail: String) {
        println!("          {detail}");
        let title = std::mem::take(&mut self.title);
        self.done.push((title, self.step_start.elapsed(), detail));
    }

    fn summary(&self, result: &anyhow::Result<()>) {
        println!("\nSummary");
        for (title, took, detail) in &self.done {
            println!(
                "  ok    {title} ({:.1} s)\n          {detail}",
                took.as_secs_f32()
            );
        }
        match result {
            Ok(()) => println!("All {} steps were checked.", self.done.len()),
            Err(error) => println!("  FAIL  {}\n          {error:#}", self.title),
        }
    }
}
