//! `drover device`: claim tokens, and the devices that enrolled with them.

mod transfer;

use clap::{Args, Subcommand};
use drover_api::{Approval, ApprovalRule, CreateTokens, Phase};

use crate::args::Global;
use crate::error::Result;
use crate::output::{Output, labels};
use crate::table::Table;
use crate::{clock, link, parse};

#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// Make claim tokens, each of which enrols one device; they are shown only once
    Token(Token),
    /// List devices
    List,
    /// Show one device
    Show {
        /// Identity or name
        device: String,
    },
    /// Let a waiting or quarantined device take part
    Approve {
        /// Identity or name
        device: String,
    },
    /// Take a device's certificates back for ever and end its connection
    Revoke {
        /// Identity or name
        device: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Move a device to another fleet by a voucher that root keys sign
    Transfer(transfer::Transfer),
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// How many
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// How long they can be used, such as 90s, 15m, 2h or 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse::duration_secs)]
    ttl: u64,
    /// Label for the devices that use them, such as site=oslo; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse::label)]
    labels: Vec<(String, String)>,
    /// Let each device wait until an operator approves it
    #[arg(long)]
    manual_approval: bool,
    /// Approve by itself what is like this, such as arch=aarch64,label.site=oslo or
    /// serial=10000000ab (how the board's serial number begins); the others wait
    #[arg(long, value_name = "RULE", conflicts_with = "manual_approval", value_parser = parse::approval_rule)]
    approve_if: Option<ApprovalRule>,
    /// Identity of the one device that may use them: the others learn nothing by them
    #[arg(long, value_name = "ID")]
    for_device: Option<String>,
}

pub(crate) fn run(command: Device, global: &Global, out: &Output) -> Result<()> {
    if let Device::Transfer(args) = command {
        // Signed where the root keys are, where no server need be in reach.
        return transfer::run(&args, global, out);
    }
    let client = link::client(global)?;
    match command {
        Device::Transfer(_) => Ok(()),
        Device::Token(args) => {
            let tokens = client.create_tokens(&CreateTokens {
                count: args.count,
                ttl_secs: args.ttl,
                approval: match args.manual_approval {
                    true => Approval::Manual,
                    false => Approval::Auto,
                },
                approve_if: args.approve_if,
                labels: args.labels.into_iter().collect(),
                for_device: args.for_device,
            })?;
            out.show_lines(&tokens, || {
                tokens.iter().map(|t| format!("{}\n", t.token)).collect()
            })
        }
        Device::List => {
            let devices = client.devices()?;
            out.show(&devices, || list(&devices))
        }
        Device::Show { device } => {
            let device = client.device(&device)?;
            out.show(&device, || show(&device))
        }
        Device::Approve { device } => {
            let device = client.approve_device(&device)?;
            out.show_lines(&device, || format!("{} takes part now", device.id))
        }
        Device::Revoke { device, reason } => {
            let device = client.revoke_device(&device, &reason)?;
            out.show_lines(&device, || format!("{} is out", device.id))
        }
    }
}

fn list(devices: &[drover_api::Device]) -> Table {
    let header = [
        "ID",
        "NAME",
        "MODEL",
        "STATE",
        "SEEN",
        "CERTIFICATE ENDS",
        "OBSERVATIONS",
        "LABELS",
    ];
    let mut table = Table::new(&header, "no devices; enrol one with a token");
    for d in devices {
        table.row([
            d.id.clone(),
            name(&d.name),
            running(d),
            state(d),
            clock::show_ms(d.last_seen_unix_ms),
            certificate(d),
            d.observations.to_string(),
            labels(&d.labels),
        ]);
    }
    table
}

fn show(d: &drover_api::Device) -> Table {
    let mut table = Table::pairs();
    table.pair("id", &d.id);
    table.pair("name", name(&d.name));
    table.pair("labels", labels(&d.labels));
    table.pair("approved", if d.approved { "yes" } else { "no, waiting" });
    if let Some(why) = &d.quarantined {
        table.pair("quarantined", why);
    }
    if let Some(why) = &d.revoked {
        table.pair("revoked", why);
    }
    if let Some(fleet) = &d.transferred_to {
        table.pair("transferred to", fleet);
    }
    table.pair("certificate ends", certificate(d));
    table.pair("enrolled", clock::show_s(d.enrolled_unix_s));
    table.pair("seen", clock::show_ms(d.last_seen_unix_ms));
    table.pair("architecture", &d.arch);
    table.pair("serial number", name(&d.hardware));
    table.pair("agent", &d.agent_version);
    table.pair("memory", format!("{} bytes", d.memory_bytes));
    let (accepted, wanted) = (d.assignment_accepted, d.assignment_wanted);
    table.pair(
        "assignment",
        format!("{accepted} accepted, {wanted} wanted"),
    );
    table.pair("model", running(d));
    if let Some(active) = &d.active {
        table.pair("digest", &active.digest);
    }
    table.pair("state", state(d));
    table.pair("observations", d.observations);
    if let Some(since) = d.stale_since_unix_s {
        table.pair("no fresh catalog since", clock::show_s(since));
    }
    if let Some(trust) = &d.trust {
        trusts(&mut table, trust);
    }
    table
}

/// What a device trusts, what lies on its disk, and what it has refused.
fn trusts(table: &mut Table, trust: &drover_api::DeviceTrust) {
    table.pair("root", trust.root_version);
    table.pair("catalog", trust.catalog_version);
    table.pair("trusted time", clock::show_s(trust.time_floor_s));
    for bundle in &trust.installed {
        table.pair(
            "installed",
            format!(
                "{} (counter {}, epoch {}, {} bytes)",
                bundle.digest, bundle.counter, bundle.epoch, bundle.total_bytes
            ),
        );
    }
    let refused: Vec<String> = trust
        .refused
        .iter()
        .map(|r| format!("{} {}", r.code, r.count))
        .collect();
    let refused = match refused.is_empty() {
        true => "nothing".to_owned(),
        false => refused.join(", "),
    };
    table.pair("refused", refused);
}

fn name(name: &str) -> String {
    match name {
        "" => "-".to_owned(),
        name => name.to_owned(),
    }
}

fn certificate(device: &drover_api::Device) -> String {
    let end = device.certificate_expires_unix_s;
    end.map_or_else(|| "-".to_owned(), clock::show_s)
}

fn running(device: &drover_api::Device) -> String {
    match &device.active {
        Some(active) => format!("{}@{}", active.name, active.version),
        None => "-".to_owned(),
    }
}

fn state(device: &drover_api::Device) -> String {
    if device.revoked.is_some() {
        return "revoked".to_owned();
    }
    if device.quarantined.is_some() {
        return "quarantined".to_owned();
    }
    if device.transferred_to.is_some() {
        return "transferred".to_owned();
    }
    if !device.approved {
        return "waiting for approval".to_owned();
    }
    match &device.phase {
        Phase::Unknown => "unknown".to_owned(),
        Phase::Idle => "idle".to_owned(),
        Phase::Fetching { have, total, .. } => format!("fetching {have}/{total}"),
        Phase::Staged { .. } => "staged".to_owned(),
        Phase::Trial { .. } => "trial".to_owned(),
        Phase::Committed { .. } => "committed".to_owned(),
        Phase::Failed { step, detail, .. } => format!("failed at {step}: {detail}"),
    }
}
