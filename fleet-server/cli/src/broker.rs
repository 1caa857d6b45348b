//! `drover broker`: the server's MQTT broker, and the configuration of another. Stopping it
//! loses nothing; devices go on and buffer.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use drover_api::{Client, ConfigFile, MosquittoRequest};

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::output::{Output, word};
use crate::table::Table;
use crate::{file, link};

#[derive(Debug, Subcommand)]
pub(crate) enum Broker {
    /// Show the broker
    Status,
    /// Stop the embedded broker; devices go on and buffer
    Stop,
    /// Start the embedded broker again
    Start,
    /// Write the configuration of another broker
    #[command(subcommand)]
    Config(Config),
    /// Write the list of revoked certificates anew; a broker that reads it wants SIGHUP then
    Crl {
        /// File to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Configuration, permissions, certificates and key of mosquitto; what is there is replaced
    Mosquitto(Mosquitto),
}

#[derive(Debug, Args)]
pub(crate) struct Mosquitto {
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Name or address under which devices reach the broker; may be repeated
    #[arg(long = "name", value_name = "HOST", default_values = ["localhost", "127.0.0.1"])]
    names: Vec<String>,
    /// Port that it listens on
    #[arg(long, default_value = "8883", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Folder in which the files will lie, if the broker sees another
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(command: Broker, global: &Global, out: &Output) -> Result<()> {
    let client = link::client(global)?;
    let broker = match command {
        Broker::Status => client.broker()?,
        Broker::Stop => client.stop_broker()?,
        Broker::Start => client.start_broker()?,
        Broker::Config(Config::Mosquitto(args)) => return mosquitto(&client, args, out),
        Broker::Crl { output } => {
            let list = client.revocation_list()?;
            file::replace(&output, list.content.as_bytes())?;
            return out.show_lines(&output, || format!("wrote {}", output.display()));
        }
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    out.show(&broker, || {
        let mut table = Table::pairs();
        table.pair("kind", word(&broker.kind));
        table.pair("running", yes(broker.running));
        table.pair("connected", yes(broker.connected));
        table.pair("address", &broker.addr);
        let (host, port) = (&broker.advertised_host, broker.advertised_port);
        table.pair("for devices", format!("{host}:{port}"));
        table
    })
}

fn mosquitto(client: &Client, args: Mosquitto, out: &Output) -> Result<()> {
    let failed = |path: &Path, source| CliError::Write {
        path: path.to_owned(),
        source,
    };
    let output = &args.output;
    std::fs::create_dir_all(output).map_err(|e| failed(output, e))?;
    let folder = match args.folder {
        Some(folder) => folder,
        None => std::fs::canonicalize(output).map_err(|e| failed(output, e))?,
    };
    let files = client.mosquitto(&MosquittoRequest {
        names: args.names,
        port: args.port,
        folder: folder.display().to_string(),
    })?;
    let mut written = Vec::new();
    for file in &files {
        written.push(write(output, file)?);
    }
    out.show_lines(&written, || {
        let conf = folder.join("mosquitto.conf");
        format!(
            "wrote {} files to {}; start the broker with `mosquitto -c {}`, as a user that may \
             read server.key",
            written.len(),
            output.display(),
            conf.display()
        )
    })
}

fn write(folder: &Path, file: &ConfigFile) -> Result<PathBuf> {
    // The server names the files; none of them leaves the folder.
    let name = Path::new(&file.name).file_name().unwrap_or_default();
    let path = folder.join(name);
    match file.secret {
        true => {
            // Made anew, so that its permissions are the owner's from its first byte.
            let _ = std::fs::remove_file(&path);
            file::create(&path, file.content.as_bytes(), true)?;
        }
        false => file::replace(&path, file.content.as_bytes())?,
    }
    Ok(path)
}
