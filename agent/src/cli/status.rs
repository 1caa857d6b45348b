//! `drover-agent status`: asks the running agent, or says what the data folder tells.

use clap::Args;
use serde_json::json;

use super::{Settings, fleet::membership};
use crate::AgentError;
use crate::local::Client;

/// Exit code when no agent runs.
const NOT_RUNNING: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    settings: Settings,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    pub(super) fn execute(self) -> Result<u8, AgentError> {
        let config = self.settings.load(Vec::new())?;
        let socket = config.socket_path();
        let Some(mut client) = Client::connect(&socket) else {
            let (device, fleet) = membership(&config.data_folder).unzip();
            super::print(&if self.json {
                let value = json!({
                    "running": false,
                    "device": device,
                    "fleet": fleet,
                    "data_folder": config.data_folder,
                    "local_socket": socket,
                });
                format!("{value}\n")
            } else {
                let who = match (device, fleet) {
                    (Some(device), Some(fleet)) => format!("device {device} of fleet {fleet}"),
                    _ => format!("{} belongs to no fleet", config.data_folder.display()),
                };
                format!(
                    "not running: nothing answers on {}; {who}\n",
                    socket.display()
                )
            })?;
            return Ok(NOT_RUNNING);
        };
        let status = client.status()?;
        super::print(&if self.json {
            let mut value = serde_json::to_value(&status).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("running".into(), true.into());
            }
            format!("{value}\n")
        } else {
            format!("{}\n", status.to_table())
        })
    }
}
