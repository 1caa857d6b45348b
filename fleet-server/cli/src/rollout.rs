//! `drover rollout`: starts rollouts and follows them.

mod watch;

use clap::{Args, Subcommand};
use drover_api::{CreateRollout, DeviceStatus, Policy, RolloutState, Selector, Stage, Strategy};

use crate::args::Global;
use crate::error::Result;
use crate::output::{Output, labels, word};
use crate::table::Table;
use crate::{clock, link, parse};

#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Start a rollout
    Create(Create),
    /// Show a rollout with its stages and devices
    Status {
        /// Identity of the rollout
        id: String,
        /// Go on until it is completed or paused; paused is a failure
        #[arg(long)]
        watch: bool,
    },
    /// Let a rollout begin that somebody else created
    Approve {
        /// Identity of the rollout
        id: String,
    },
    /// List rollouts, newest first
    List,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Release to roll out: NAME@VERSION, NAME for the newest one, or a digest
    #[arg(long, value_name = "RELEASE")]
    release: String,
    /// Only devices with this label; every one given must match
    #[arg(long = "select", value_name = "NAME=VALUE", value_parser = parse::label)]
    select: Vec<(String, String)>,
    /// Only this device, by identity or name; may be repeated
    #[arg(long = "device", value_name = "DEVICE")]
    devices: Vec<String>,
    /// Size of the next stage, in devices or percent of them; all at once if none is given
    #[arg(long = "stage", value_name = "N|N%", value_parser = parse::stage)]
    stages: Vec<Stage>,
    /// Pause when more than this share of the devices failed [default: 10%]
    #[arg(long, value_name = "N%", value_parser = parse::percent)]
    max_failed: Option<u8>,
    /// How long a device may take, such as 15m or 2h, before it counts as expired
    /// [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = parse::duration_secs)]
    deadline: Option<u64>,
    /// Let it wait until somebody else approves it
    #[arg(long)]
    approval: bool,
}

impl From<Create> for CreateRollout {
    fn from(args: Create) -> Self {
        let default = Policy::default();
        Self {
            release: args.release,
            selector: Selector {
                labels: args.select.into_iter().collect(),
                devices: args.devices,
            },
            strategy: match args.stages.is_empty() {
                true => Strategy::AllAtOnce,
                false => Strategy::Staged {
                    stages: args.stages,
                },
            },
            policy: Policy {
                max_failed_share: args
                    .max_failed
                    .map_or(default.max_failed_share, |p| f64::from(p) / 100.0),
                deadline_secs: args.deadline.unwrap_or(default.deadline_secs),
                ..default
            },
            approval: args.approval,
        }
    }
}

pub(crate) fn run(command: Rollout, global: &Global, out: &Output) -> Result<()> {
    let client = link::client(global)?;
    match command {
        Rollout::Create(args) => {
            let rollout = client.create_rollout(&args.into())?;
            out.show_lines(&rollout, || begun(&rollout))
        }
        Rollout::Approve { id } => {
            let rollout = client.approve_rollout(&id)?;
            out.show_lines(&rollout, || begun(&rollout))
        }
        Rollout::Status { id, watch: false } => {
            let rollout = client.rollout(&id)?;
            out.show_all(&rollout, || status(&rollout))
        }
        Rollout::Status { id, watch: true } => watch::run(&client, &id, out),
        Rollout::List => {
            let rollouts = client.rollouts()?;
            out.show(&rollouts, || list(&rollouts))
        }
    }
}

/// What became of a rollout that was created or approved just now.
fn begun(rollout: &drover_api::Rollout) -> String {
    let (id, release, devices) = (&rollout.id, release(rollout), rollout.counts.total);
    match rollout.state {
        RolloutState::Waiting => format!(
            "rollout {id} of {release} to {devices} devices waits: somebody else lets it begin \
             with `drover rollout approve {id}`"
        ),
        _ => format!(
            "rollout {id} of {release} to {devices} devices began; follow it with `drover \
             rollout status {id} --watch`"
        ),
    }
}

fn release(rollout: &drover_api::Rollout) -> String {
    format!("{}@{}", rollout.release.name, rollout.release.version)
}

fn list(rollouts: &[drover_api::Rollout]) -> Table {
    let header = [
        "ID",
        "RELEASE",
        "STATE",
        "STAGE",
        "COMMITTED",
        "FAILED",
        "CREATED",
    ];
    let mut table = Table::new(&header, "no rollouts; create one");
    for r in rollouts {
        table.row([
            r.id.clone(),
            release(r),
            word(&r.state),
            format!("{}/{}", r.stage, r.stages.len()),
            format!("{}/{}", r.counts.committed, r.counts.total),
            r.counts.failed.to_string(),
            clock::show_s(r.created_unix_ms / 1000),
        ]);
    }
    table
}

fn status(r: &drover_api::Rollout) -> Vec<Table> {
    let mut summary = Table::pairs();
    summary.pair("rollout", &r.id);
    summary.pair("release", release(r));
    summary.pair("state", word(&r.state));
    if let Some(reason) = &r.reason {
        summary.pair("reason", reason);
    }
    summary.pair("selected", labels(&r.selector.labels));
    if !r.selector.devices.is_empty() {
        summary.pair("devices", r.selector.devices.join(", "));
    }
    let (sent, bundle) = (r.sent_bytes, r.bundle_bytes);
    summary.pair("sent", format!("{sent} bytes of a bundle of {bundle}"));
    summary.pair("created", clock::show_s(r.created_unix_ms / 1000));
    if !r.created_by.is_empty() {
        summary.pair("created by", &r.created_by);
    }
    if let Some(by) = &r.approved_by {
        summary.pair("approved by", by);
    }
    summary.pair("completed", clock::show_ms(r.completed_unix_ms));

    let header = [
        "STAGE",
        "STATE",
        "DEVICES",
        "UPDATING",
        "COMMITTED",
        "FAILED",
        "EXPIRED",
    ];
    let mut stages = Table::new(&header, "no stages");
    for s in &r.stages {
        let state = match (s.passed, s.started) {
            (true, _) => "passed",
            (false, true) => "started",
            (false, false) => "waiting",
        };
        stages.row([
            s.number.to_string(),
            state.to_owned(),
            s.counts.total.to_string(),
            s.counts.updating.to_string(),
            s.counts.committed.to_string(),
            s.counts.failed.to_string(),
            s.counts.expired.to_string(),
        ]);
    }

    let header = ["DEVICE", "NAME", "STAGE", "STATUS", "SINCE"];
    let mut devices = Table::new(&header, "no device is selected");
    for d in &r.devices {
        devices.row([
            d.device.clone(),
            d.name.clone(),
            d.stage.to_string(),
            device_status(&d.status),
            clock::show_s(d.changed_unix_ms / 1000),
        ]);
    }
    vec![summary, stages, devices]
}

fn device_status(status: &DeviceStatus) -> String {
    match status {
        DeviceStatus::Pending => "pending".to_owned(),
        DeviceStatus::Assigned => "assigned".to_owned(),
        DeviceStatus::Fetching { have, total } => format!("fetching {have}/{total}"),
        DeviceStatus::Staged => "staged".to_owned(),
        DeviceStatus::Trial => "trial".to_owned(),
        DeviceStatus::Committed => "committed".to_owned(),
        DeviceStatus::Failed { step, detail, .. } => format!("failed at {step}: {detail}"),
        DeviceStatus::Expired => "expired".to_owned(),
        DeviceStatus::Superseded => "superseded".to_owned(),
    }
}
