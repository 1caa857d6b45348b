//! `drover-agent enroll`: joins a fleet with a claim token.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Settings;
use crate::{AgentError, enrol};

#[derive(Debug, Args)]
pub(super) struct EnrollArgs {
    #[command(flatten)]
    settings: Settings,
    /// Address of the server, as in https://fleet.local:8080
    #[arg(long, value_name = "URL")]
    server: String,
    /// Claim token, as `drover device token` shows it
    #[arg(
        long,
        value_name = "ID.SECRET",
        env = "DROVER_ENROLL_TOKEN",
        hide_env_values = true,
        required_unless_present = "token_file"
    )]
    token: Option<String>,
    /// File that holds the claim token, so that it shows in no process list
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Name of the device, for people
    #[arg(long, default_value = "")]
    name: String,
    /// Label that rollouts may select by; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// SHA-256 of one of the fleet's roots, as `drover keys inspect` shows it: accepts no fleet
    /// without it
    #[arg(long, value_name = "HEX")]
    root_pin: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl EnrollArgs {
    pub(super) fn execute(self) -> Result<u8, AgentError> {
        let config = self.settings.load(Vec::new())?;
        let request = enrol::Request {
            server: self.server,
            token: match (self.token, self.token_file) {
                (Some(token), _) => token,
                (None, Some(path)) => std::fs::read_to_string(&path)
                    .map_err(AgentError::file("read the claim token in", path))?,
                (None, None) => String::new(),
            },
            data: config.data_folder,
            name: self.name,
            labels: parse_labels(&self.labels)?,
            root_pin: self.root_pin.as_deref().map(enrol::parse_pin).transpose()?,
        };
        let enrolled = enrol::enrol(&request)?;
        super::print(&if self.json {
            let value = json!({
                "device": enrolled.device.to_string(),
                "fleet": enrolled.fleet,
                "approved": enrolled.approved,
            });
            format!("{value}\n")
        } else {
            let next = if enrolled.approved {
                "it takes part; start it with `drover-agent run`".to_owned()
            } else {
                format!(
                    "it waits for approval: `drover device approve {}`",
                    enrolled.device
                )
            };
            format!(
                "device {} joined the fleet {}\n{next}\n",
                enrolled.device, enrolled.fleet
            )
        })
    }
}

fn parse_labels(labels: &[String]) -> Result<BTreeMap<String, String>, AgentError> {
    let parse = |label: &String| {
        let (key, value) = label.split_once('=').ok_or_else(|| {
            AgentError::Usage(format!("--label {label}: use KEY=VALUE, as in site=north"))
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    labels.iter().map(parse).collect()
}
