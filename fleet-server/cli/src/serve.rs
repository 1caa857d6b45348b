//! `drover serve`: runs the server until SIGTERM or SIGINT.
//!
//! Standard output gets one line, when the server is ready; its log goes to standard error.

mod config;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use drover_server::{BrokerConfig, Config, Server};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::error::{CliError, Result};
use crate::output::Output;
use crate::parse;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Folder for everything the server keeps
    #[arg(long, value_name = "DIR", env = "DROVER_DATA")]
    data: Option<PathBuf>,
    /// Root metadata of the fleet
    #[arg(long, value_name = "FILE", env = "DROVER_ROOT")]
    root: Option<PathBuf>,
    /// Secret key of the fleet role; give that of the next root as well before a rotation
    #[arg(long = "fleet-key", value_name = "FILE", env = "DROVER_FLEET_KEY")]
    fleet_keys: Vec<PathBuf>,
    /// Secret key of the catalog role, catalog.key beside the fleet key by default; may be
    /// repeated as well
    #[arg(long = "catalog-key", value_name = "FILE", env = "DROVER_CATALOG_KEY")]
    catalog_keys: Vec<PathBuf>,
    /// File whose first line is the passphrase of the key files
    #[arg(long, value_name = "FILE", env = "DROVER_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    /// Life of a catalog, such as 7d; a new one is made after half of it
    #[arg(long, value_name = "TIME", value_parser = parse::duration_secs)]
    catalog_ttl: Option<u64>,
    /// Address of the REST interface; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", env = "DROVER_HTTP")]
    http: Option<SocketAddr>,
    /// Serve the REST interface without TLS: on loopback, or behind a proxy that has its own
    #[arg(long, env = "DROVER_PLAIN_HTTP")]
    plain_http: bool,
    /// Name or address under which this server is reached, for its certificate; may be repeated
    #[arg(long = "tls-name", value_name = "HOST")]
    tls_names: Vec<String>,
    /// Address of the embedded broker; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "DROVER_MQTT",
        conflicts_with = "broker"
    )]
    mqtt: Option<SocketAddr>,
    /// Use this broker instead of the embedded one
    #[arg(long, value_name = "HOST:PORT", env = "DROVER_BROKER", value_parser = config::broker)]
    broker: Option<(String, u16)>,
    /// Let every rollout wait until a second person approves it
    #[arg(long)]
    require_approval: bool,
    /// Share of the fleet that a rollout may begin with, in percent [default: 20%]
    #[arg(long, value_name = "N%", value_parser = parse::percent)]
    max_unstaged_share: Option<u8>,
    #[command(flatten)]
    oidc: config::Oidc,
    /// Configuration file, in TOML; flags and environment overrule it
    #[arg(long, value_name = "FILE", env = "DROVER_CONFIG")]
    config: Option<PathBuf>,
    /// Print the configuration that results, and end
    #[arg(long)]
    print_config: bool,
}

#[derive(Serialize)]
struct Ready {
    http: String,
    url: String,
    mqtt: String,
    token_file: PathBuf,
    ca_file: PathBuf,
}

pub(crate) fn run(args: &Serve, out: &Output) -> Result<()> {
    let config = config::resolve(args)?;
    if args.print_config {
        let text = config::to_toml(&config)?;
        return out.show_lines(&config::without_secrets(config), || text);
    }
    #[cfg(feature = "mutation")]
    disable_checks()?;
    let filter = log_filter()?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|e| CliError::Process("start its threads", e))?;
    runtime.block_on(serve(config, out))
}

/// Switches off the checks that a test wants to see missed.
#[cfg(feature = "mutation")]
fn disable_checks() -> Result<()> {
    use drover_trust::mutation::Check;

    const VARIABLE: &str = "DROVER_DISABLE_CHECK";
    let names = std::env::var(VARIABLE).unwrap_or_default();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        if !Check::disable_named(name) {
            return Err(CliError::Usage(format!(
                "{VARIABLE}: no check is named {name:?}"
            )));
        }
    }
    Ok(())
}

fn log_filter() -> Result<EnvFilter> {
    const VARIABLE: &str = "DROVER_LOG";
    let text = std::env::var(VARIABLE).unwrap_or_else(|_| "info".into());
    EnvFilter::try_new(&text).map_err(|error| {
        CliError::Usage(format!(
            "{VARIABLE}={text:?} is no filter: {error}; write a level, such as info or debug"
        ))
    })
}

async fn serve(config: Config, out: &Output) -> Result<()> {
    // Asked for before the server starts, so that a signal during the start is not lost.
    let mut stop = [
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    ];
    let token_file = config.data_dir.join("operator.token");
    let ca_file = config.data_dir.join("ca.pem");
    let scheme = if config.plain_http { "http" } else { "https" };
    let external = match &config.broker {
        BrokerConfig::Embedded => None,
        BrokerConfig::External { host, port, .. } => Some(format!("{host}:{port}")),
    };
    let mut server = drover_server::start(config).await?;
    let ready = Ready {
        http: server.http_addr().to_string(),
        url: format!("{scheme}://{}", server.http_addr()),
        mqtt: mqtt(&server, external),
        token_file,
        ca_file,
    };
    out.show_lines(&ready, || {
        format!(
            "ready: REST at {}, MQTT at {}, operator's token in {}",
            ready.url,
            ready.mqtt,
            ready.token_file.display()
        )
    })?;
    let [terminate, interrupt] = &mut stop;
    let ended = tokio::select! {
        ended = server.wait() => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    server.shutdown().await;
    Ok(ended?)
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| CliError::Process("listen for signals", e))
}

fn mqtt(server: &Server, external: Option<String>) -> String {
    let embedded = server.broker_addr().map(|a| a.to_string());
    external.or(embedded).unwrap_or_default()
}
