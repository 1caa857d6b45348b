//! `drover-agent run`: in a fleet, or a model of one's own without any server.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::{ArgGroup, Args};
use tokio::sync::{broadcast, mpsc};

use super::{Settings, flag};
use crate::config::{Config, Override, SourceKind};
use crate::local::{Desk, RowSink, Server};
use crate::runner::{self, Bundle, Capture, Numbered, Rules, Shared, Sinks, Slot, Stage};
use crate::source::{self, csv::Replay};
use crate::status::{Health, Status};
use crate::{AgentError, clock, model};

/// Results that an application may be behind.
const RESULTS: usize = 1024;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("own").args(["bundle", "spec"])))]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: Settings,
    /// Local mode: run this bundle, without a fleet
    #[arg(long, value_name = "FILE.drover")]
    bundle: Option<PathBuf>,
    /// Local mode: run what this spec (bundle.toml) describes
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Root file whose release keys must have signed the bundle
    #[arg(long, value_name = "FILE", requires = "bundle")]
    root: Option<PathBuf>,
    /// Where rows come from: csv:FILE, node:SOCKET-OR-DEVICE, socket or none
    #[arg(long, value_name = "KIND[:PATH]")]
    source: Option<String>,
    /// Speed of a replay: real-time, max, or a factor
    #[arg(long, value_name = "SPEED")]
    speed: Option<String>,
    /// Unix socket for applications: setting local_socket
    #[arg(long, value_name = "PATH")]
    local_socket: Option<String>,
    /// Local mode: print each result as a line of JSON
    #[arg(long, requires = "own")]
    json: bool,
    /// Print the settings that apply and do nothing else
    #[arg(long)]
    print_config: bool,
}

impl RunArgs {
    pub(super) fn execute(self) -> Result<u8, AgentError> {
        let config = self.settings.load(self.overrides())?;
        if self.print_config {
            return super::print(&config.to_toml()?);
        }
        super::log_to_stderr(&config.log);
        let bundle = match (&self.bundle, &self.spec) {
            (Some(path), _) => model::open_bundle(path, self.root.as_deref())?,
            (None, Some(path)) => model::open_spec(path)?,
            (None, None) => return super::fleet::run(config),
        };
        Local {
            // Where nothing is stored, there is no data folder to put a socket into.
            socket: self.local_socket.is_some()
                || !config.local_socket.as_os_str().is_empty()
                || config.source.kind == SourceKind::Socket,
            config,
            bundle,
            output: if self.json {
                Output::Lines
            } else {
                Output::Summary
            },
        }
        .run()
    }

    fn overrides(&self) -> Vec<Override> {
        let mut flags = Vec::new();
        if let Some(source) = &self.source {
            let (kind, path) = source.split_once(':').unwrap_or((source, ""));
            flags.push(flag("--source", "source.kind", kind));
            if !path.is_empty() {
                flags.push(flag("--source", "source.path", path));
            }
        }
        if let Some(speed) = &self.speed {
            flags.push(flag("--speed", "source.speed", speed));
        }
        if let Some(path) = &self.local_socket {
            flags.push(flag("--local-socket", "local_socket", path));
        }
        flags
    }
}

/// A model that runs without a fleet.
pub(super) struct Local {
    pub(super) config: Config,
    pub(super) bundle: Bundle,
    pub(super) output: Output,
    /// Whether applications are served.
    pub(super) socket: bool,
}

/// What local mode prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Each result as JSON.
    Lines,
    /// What came of it, at the end.
    Summary,
}

impl Local {
    /// Runs until the source ends or somebody stops it.
    pub(super) fn run(self) -> Result<u8, AgentError> {
        let Self { config, bundle, .. } = self;
        let title = format!("{} {}", bundle.manifest.name, bundle.manifest.version);
        let slot = Slot::load(bundle).map_err(|source| AgentError::Run {
            model: title.clone(),
            source,
        })?;
        check_source(&config, &slot)?;

        let (results, _) = broadcast::channel(RESULTS);
        let name = source::describe(&config.source);
        let sinks = local_sinks(&config, self.output, results.clone());
        // A recording that does not fit is a mistake; a live source may yet come right.
        let strict = config.source.kind == SourceKind::Csv;
        let mut stage = Stage::new(Rules::new(&config.runner, strict), sinks, name.clone());
        stage.run(slot, Instant::now());
        let shared = Shared::new(stage);
        let (rows, queue) = mpsc::channel(config.runner.queue_rows);

        let runtime = super::async_runtime()?;
        let result = runtime.block_on(async {
            let mut served = None;
            if self.socket {
                let sink = row_sink(&config, rows.clone(), &shared, name);
                let server = Server::bind(&config.socket_path())?;
                let desk = Desk {
                    results,
                    status: status_of(shared.clone(), Instant::now()),
                    rows: sink,
                };
                served = Some(tokio::spawn(server.serve(Arc::new(desk))));
            }
            let end = runner::start(shared.clone(), queue, true)?;
            source::start(&config.source, rows)?;
            let result = tokio::select! {
                end = end => end.unwrap_or(Err(AgentError::Died("inference thread"))),
                stopped = super::stop_signal() => stopped,
            };
            if let Some(served) = served {
                served.abort();
                // So that the socket is gone before the process is.
                let _ = served.await;
            }
            result
        });
        shared.lock().close(Instant::now());
        result?;
        if self.output == Output::Summary {
            super::print(&format!("{}\n", summary(&shared)))?;
        }
        Ok(0)
    }
}

/// A recording that does not fit is told before anything runs.
fn check_source(config: &Config, slot: &Slot) -> Result<(), AgentError> {
    if config.source.kind != SourceKind::Csv {
        return Ok(());
    }
    let replay = Replay::open(&config.source)?;
    slot.check_fit(replay.columns())
        .map_err(|error| AgentError::Misfit {
            model: slot.title(),
            source: Arc::new(error),
        })
}

fn local_sinks(config: &Config, output: Output, results: broadcast::Sender<Arc<str>>) -> Sinks {
    let mut sequence = 0;
    // A live source's results must be seen when they are made; a file's, all together soon.
    let live = config.source.kind != SourceKind::Csv;
    let lines: Box<dyn Write + Send> = if live {
        Box::new(std::io::LineWriter::new(std::io::stdout()))
    } else {
        Box::new(BufWriter::new(std::io::stdout()))
    };
    Sinks {
        record: Box::new(move |_| {
            sequence += 1;
            Numbered {
                boot: 0,
                sequence,
                unix_ms: clock::unix_ms(),
            }
        }),
        fleet: false,
        results,
        lines: (output == Output::Lines).then_some(lines),
        report: Box::new(|_, _| ()),
        capture: Capture {
            inputs: config.runner.capture_inputs,
            outputs: config.runner.capture_outputs,
        },
        now_unix_ms: clock::unix_ms,
    }
}

/// Where pushed rows go under `config`.
pub(super) fn row_sink(
    config: &Config,
    rows: source::Sender,
    shared: &Shared,
    name: String,
) -> RowSink {
    if config.source.kind != SourceKind::Socket {
        return RowSink::Other(name);
    }
    let shared = shared.clone();
    RowSink::Runner {
        rows,
        channels: Box::new(move || shared.lock().active_channels()),
    }
}

fn status_of(shared: Shared, started: Instant) -> Box<dyn Fn() -> Status + Send + Sync> {
    Box::new(move || {
        let snapshot = shared.lock().snapshot();
        Status {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_secs: started.elapsed().as_secs(),
            mode: "local".to_owned(),
            device: None,
            fleet: None,
            source: snapshot.source,
            active: snapshot.active,
            candidate: snapshot.candidate,
            health: Health::measure(),
        }
    })
}

fn summary(shared: &Shared) -> String {
    let snapshot = shared.lock().snapshot();
    let source = snapshot.source;
    let mut lines = vec![format!("source     {}: {} rows", source.name, source.rows)];
    if let Some(model) = snapshot.active {
        lines.extend(model.to_lines("model"));
    }
    lines.join("\n")
}
