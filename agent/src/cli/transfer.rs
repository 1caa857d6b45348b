//! `drover-agent transfer`: moves this device to another fleet, by a voucher in a file.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use drover_agent_core::Durable;
use drover_agent_store::{Journal as _, SledJournal};
use drover_trust::{Envelope, TrustedRoot, Voucher};
use serde_json::json;

use super::Settings;
use crate::config::Config;
use crate::identity::{Identity, Membership};
use crate::local::Client;
use crate::{AgentError, clock, ota};

#[derive(Debug, Args)]
pub(super) struct TransferArgs {
    #[command(flatten)]
    settings: Settings,
    /// Voucher, as `drover device transfer` writes it
    voucher: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TransferArgs {
    pub(super) fn execute(self) -> Result<u8, AgentError> {
        let config = self.settings.load(Vec::new())?;
        if Client::connect(&config.socket_path()).is_some() {
            return Err(AgentError::Usage(
                "the agent runs; stop it first, or have its server send the voucher \
                 (`drover device transfer`)"
                    .into(),
            ));
        }
        let identity = Identity::load(&config.data_folder)?
            .ok_or_else(|| super::fleet::not_enrolled(&config))?;
        let refuse = |source: drover_trust::TrustError| AgentError::Model {
            path: self.voucher.clone(),
            source: source.into(),
        };
        let mut bytes = Vec::new();
        std::fs::File::open(&self.voucher)
            .and_then(|file| {
                let limit = drover_trust::envelope::MAX_BYTES as u64;
                file.take(limit + 1).read_to_end(&mut bytes)
            })
            .map_err(AgentError::file("read the voucher", &self.voucher))?;
        let (root, now_s) = newest_trust(&config, &identity)?;
        let voucher = Envelope::decode(&bytes)
            .and_then(|envelope| Voucher::open(&envelope, &root, &identity.device, now_s))
            .map_err(refuse)?;
        let member = Membership::new(&config.data_folder, &identity);
        // What the store knows of the old fleet is reset at the next start.
        let enrolment = ota::join_by(&voucher, member.key())?;
        let approved = !enrolment.access.certificate.is_empty();
        member.join(enrolment)?;
        let (device, fleet) = (member.device(), &voucher.to_fleet);
        super::print(&if self.json {
            let value = json!({
                "device": device.to_string(),
                "fleet": fleet,
                "approved": approved,
            });
            format!("{value}\n")
        } else {
            let next = if approved {
                "it takes part; start it with `drover-agent run`".to_owned()
            } else {
                format!("it waits for approval there: `drover device approve {device}`")
            };
            format!("device {device} moved to the fleet {fleet}\n{next}\n")
        })
    }
}

/// The newest root that the device has verified, and its trusted time: what the agent knew
/// when it stopped.
fn newest_trust(config: &Config, identity: &Identity) -> Result<(TrustedRoot, u64), AgentError> {
    let (journal, _) = SledJournal::open(&config.data_folder, config.store.options())?;
    let stored = journal.load_state(ota::STATE_CELL)?;
    let durable = stored.and_then(|bytes| Durable::decode(&bytes).ok());
    let floor_s = durable.as_ref().map_or(0, |d| d.time_floor_s);
    let stored = durable.and_then(|d| d.root).and_then(|bytes| {
        let envelope = Envelope::decode(&bytes).ok()?;
        TrustedRoot::self_signed(envelope).ok()
    });
    let known = identity.root.root();
    let newer =
        stored.filter(|s| s.root().fleet == known.fleet && s.root().version > known.version);
    let root = newer.unwrap_or_else(|| identity.root.clone());
    let now_s = floor_s
        .max(root.root().created_unix_s)
        .max(clock::built_unix_s());
    Ok((root, now_s))
}
