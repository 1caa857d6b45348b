//! `drover-agent run` in a fleet: puts store, update life cycle, inference, link and local
//! socket together.
//!
//! Order of the start: the local socket (which finds another agent), the store, what is
//! committed, the source, and last the network, which nothing else waits for. A part that
//! ends by itself ends the process, so that its supervisor starts everything anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use drover_agent_core::Platform;
use drover_agent_store::SledJournal;
use drover_runtime::{Engine as _, TractEngine};
use drover_trust::TrustedRoot;
use drover_wire::message::{Phase, State};
use tokio::sync::{broadcast, mpsc};

use super::run::row_sink;
use crate::config::Config;
use crate::identity::{Identity, Membership};
use crate::local::{Desk, Server};
use crate::ota::{Driver, HostReports, Options, Prepared, Recorder};
use crate::runner::{
    self, Capture, Checker, Host, Numbered, Recording, Reporting, Rules, Shared, Sinks, Stage,
};
use crate::status::{FleetStatus, Health, Status};
use crate::{AgentError, clock, link, source};

/// Results that an application may be behind.
const RESULTS: usize = 1024;

/// Runs until somebody stops it.
pub(super) fn run(config: Config) -> Result<u8, AgentError> {
    let identity = Identity::load(&config.data_folder)?.ok_or_else(|| not_enrolled(&config))?;
    let member = Arc::new(Membership::new(&config.data_folder, &identity));
    let runtime = super::async_runtime()?;
    let _context = runtime.enter();
    let server = Server::bind(&config.socket_path())?;
    let (journal, report) = SledJournal::open(&config.data_folder, config.store.options())?;
    if let Some(aside) = &report.set_aside {
        tracing::warn!(
            "the store was damaged and is kept as {}; {} records were recovered",
            aside.display(),
            report.salvage.recovered_records
        );
    }
    let prepared = Prepared::open(Box::new(journal))?;
    let boot = prepared.boot();
    let (results, _) = broadcast::channel(RESULTS);
    let name = source::describe(&config.source);
    let sinks = Sinks {
        record: recording(prepared.recorder(), boot),
        fleet: true,
        results: results.clone(),
        lines: None,
        report: reporting(prepared.reports()),
        capture: Capture {
            inputs: config.runner.capture_inputs,
            outputs: config.runner.capture_outputs,
        },
        now_unix_ms: clock::unix_ms,
    };
    let rules = Rules::new(&config.runner, false);
    let shared = Shared::new(Stage::new(rules, sinks, name.clone()));
    let options = options(&config, identity.root, &member);
    let checker = Checker::of_this_program(options.platform.model_memory_bytes);
    let host = Arc::new(Host::new(shared.clone()).with_checker(checker));
    let mut driver = prepared.start(options, host)?;
    let ends = driver
        .link_ends()
        .ok_or(AgentError::Died("update driver"))?;
    let party = link::Party {
        member: Arc::clone(&member),
        trust: driver.trust(),
        boot,
    };
    let driver = Arc::new(driver);

    let (rows, queue) = mpsc::channel(config.runner.queue_rows);
    let desk = Desk {
        results,
        status: status(shared.clone(), Arc::clone(&driver), member, boot),
        rows: row_sink(&config, rows.clone(), &shared, name),
    };
    let result = runtime.block_on(async {
        let served = tokio::spawn(server.serve(Arc::new(desk)));
        let end = runner::start(shared.clone(), queue, false)?;
        source::start(&config.source, rows.clone())?;
        let linked = link::start(config.link.options(), party, ends);
        let result = tokio::select! {
            end = end => end.unwrap_or(Err(AgentError::Died("inference thread"))),
            _ = linked => Err(AgentError::Died("update driver")),
            stopped = super::stop_signal() => stopped,
        };
        served.abort();
        // So that the socket, and with it the last hold on the driver, is gone.
        let _ = served.await;
        result
    });
    shared.lock().close(Instant::now());
    runtime.shutdown_timeout(super::SHUTDOWN);
    if let Ok(driver) = Arc::try_unwrap(driver) {
        driver.stop();
    }
    result.map(|()| 0)
}

pub(super) fn not_enrolled(config: &Config) -> AgentError {
    AgentError::Usage(format!(
        "the data folder {} belongs to no fleet; join one with `drover-agent enroll`, or run a \
         model of your own with --bundle or --spec",
        config.data_folder.display()
    ))
}

fn options(config: &Config, root: TrustedRoot, member: &Arc<Membership>) -> Options {
    let memory_bytes = Health::measure().memory_total_bytes;
    Options {
        member: Arc::clone(member),
        root,
        built_unix_s: clock::built_unix_s(),
        platform: Platform {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            memory_bytes,
            model_memory_bytes: match config.update.model_memory_bytes {
                0 => memory_bytes / 4,
                bytes => bytes,
            },
            engines: vec![TractEngine.name().to_owned()],
        },
        timing: config.update.timing(),
        outbox: config.update.outbox(),
    }
}

/// Records into the outbox. What cannot be recorded has number 0; inference goes on.
fn recording(recorder: Recorder, boot: u64) -> Recording {
    let mut lost = 0u64;
    Box::new(move |body| {
        let sequence = match recorder.record(body) {
            Ok(sequence) => sequence,
            Err(error) => {
                lost += 1;
                // The first, then ever more rarely: a full disk stays full for hours.
                if lost.is_power_of_two() {
                    let why = crate::chain(&error);
                    tracing::error!("{lost} records could not be kept so far, the last for: {why}");
                }
                0
            }
        };
        Numbered {
            boot,
            sequence,
            unix_ms: clock::unix_ms(),
        }
    })
}

fn reporting(reports: HostReports) -> Reporting {
    Box::new(move |digest, ending| match ending {
        Ok(()) => reports.trial_passed(digest),
        Err(detail) => reports.trial_failed(digest, detail),
    })
}

fn status(
    shared: Shared,
    driver: Arc<Driver>,
    member: Arc<Membership>,
    boot: u64,
) -> Box<dyn Fn() -> Status + Send + Sync> {
    let device = member.device().to_string();
    let started = Instant::now();
    Box::new(move || {
        let stage = shared.lock().snapshot();
        let fleet = driver.snapshot();
        let (trust, enrolled) = (driver.trust(), member.current());
        Status {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_secs: started.elapsed().as_secs(),
            mode: "fleet".to_owned(),
            device: Some(device.clone()),
            fleet: Some(FleetStatus {
                name: enrolled.fleet.clone(),
                connected: fleet.connected,
                boot,
                assignment: fleet.state.assignment,
                update: update(&fleet.state),
                outbox_records: fleet.outbox_records,
                refused: fleet.counters.refused,
                undecryptable: fleet.undecryptable,
                root: trust.root().root().version,
                trusted_unix_s: trust.now_s(),
                certificate_expires_unix_s: enrolled.access.expires_unix_s,
            }),
            source: stage.source,
            active: stage.active,
            candidate: stage.candidate,
            health: Health::measure(),
        }
    })
}

/// What is being done about the assignment, for people.
fn update(state: &State) -> String {
    match &state.phase {
        Phase::Idle => "idle".to_owned(),
        Phase::Fetching { total: 0, .. } => "fetching the manifest".to_owned(),
        Phase::Fetching { have, total, .. } => format!("fetching, {have} of {total} chunks"),
        Phase::Staged { .. } => "staged".to_owned(),
        Phase::Trial { .. } => "on trial".to_owned(),
        Phase::Committed { .. } => "committed".to_owned(),
        Phase::Failed { step, detail, .. } => {
            format!("failed at {step:?}: {detail}").to_lowercase()
        }
    }
}

/// Device id and fleet of a data folder, for an agent that does not run.
pub(super) fn membership(data: &Path) -> Option<(String, String)> {
    let identity = Identity::load(data).ok().flatten()?;
    Some((identity.device.to_string(), identity.enrolment.fleet))
}
