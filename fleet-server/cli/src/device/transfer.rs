//! `drover device transfer`: signs a voucher that moves a device to another fleet.
//!
//! Made and signed where the root keys are, offline; the server is only asked to hand it over.

use std::path::PathBuf;

use clap::Args;
use drover_trust::{DeviceId, Domain, Envelope, Role, TrustedRoot, Voucher};
use serde::Serialize;

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::{clock, file, keys, link, parse};

#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// Identity of the device
    device: String,
    /// Newest root metadata of the fleet that gives the device away
    #[arg(long, value_name = "FILE", env = "DROVER_ROOT")]
    root: PathBuf,
    /// A root of the fleet that takes it
    #[arg(long, value_name = "FILE")]
    to_root: PathBuf,
    /// Address of the server that takes it
    #[arg(long = "to-server", value_name = "URL")]
    to_server: String,
    /// Claim token of the fleet that takes it, best made with `drover device token --for-device`
    #[arg(
        long,
        value_name = "TOKEN",
        env = "DROVER_CLAIM",
        hide_env_values = true
    )]
    claim: String,
    /// A root key of the fleet that gives it away; repeat it to reach the threshold
    #[arg(long = "root-key", value_name = "FILE", required = true)]
    root_keys: Vec<PathBuf>,
    /// How long the device may take it up
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse::duration_secs)]
    ttl: u64,
    /// Where to write the voucher; DEVICE.voucher otherwise, unless it is sent
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Hand it to the server, which gives it to the device
    #[arg(long)]
    send: bool,
}

#[derive(Serialize)]
struct Made {
    device: String,
    from_fleet: String,
    to_fleet: String,
    expires_unix_s: u64,
    file: Option<PathBuf>,
    sent: bool,
}

pub(super) fn run(args: &Transfer, global: &Global, out: &Output) -> Result<()> {
    let usage = |why: String| CliError::Usage(why);
    let device = DeviceId::parse(&args.device).map_err(|_| {
        usage(format!(
            "{:?} is not a device identity; `drover device list` shows them",
            args.device
        ))
    })?;
    if !args.to_server.starts_with("http://") && !args.to_server.starts_with("https://") {
        return Err(usage(format!(
            "--to-server {:?} is no address; write https://host:port",
            args.to_server
        )));
    }
    let root = keys::read_root(&args.root)?;
    let to_root = keys::read_root(&args.to_root)?;
    if root.root().fleet == to_root.root().fleet {
        return Err(usage(format!(
            "both roots are of fleet {:?}; a transfer is between two fleets",
            root.root().fleet
        )));
    }
    let now = clock::unix_s();
    let voucher = Voucher {
        from_fleet: root.root().fleet.clone(),
        device: device.clone(),
        to_fleet: to_root.root().fleet.clone(),
        to_root: TrustedRoot::pin_of(to_root.envelope()),
        server: args.to_server.clone(),
        claim: args.claim.clone(),
        issued_unix_s: now,
        expires_unix_s: now.saturating_add(args.ttl),
    };
    let mut envelope = Envelope::unsigned(voucher.encode().map_err(CliError::Voucher)?);
    for path in &args.root_keys {
        let (role, key) = keys::read_key(path)?;
        if role != Role::Root {
            return Err(CliError::KeyRole {
                path: path.clone(),
                got: role,
                wanted: Role::Root,
            });
        }
        envelope.sign(Domain::Voucher, &key);
    }
    // As the device will see it: too few or foreign keys are found now.
    Voucher::open(&envelope, &root, &device, now).map_err(CliError::Voucher)?;
    let bytes = envelope.encode().map_err(CliError::Voucher)?;
    let path = match (&args.out, args.send) {
        (Some(path), _) => Some(path.clone()),
        (None, true) => None,
        (None, false) => Some(PathBuf::from(format!("{device}.voucher"))),
    };
    if let Some(path) = &path {
        // It holds the claim token.
        file::create(path, &bytes, true)?;
    }
    if args.send {
        link::client(global)?.transfer_device(device.as_str(), &bytes)?;
    }
    let made = Made {
        device: device.to_string(),
        from_fleet: voucher.from_fleet,
        to_fleet: voucher.to_fleet,
        expires_unix_s: voucher.expires_unix_s,
        file: path,
        sent: args.send,
    };
    out.show_lines(&made, || {
        let place = match (&made.file, made.sent) {
            (Some(file), true) => format!("sent, and in {}", file.display()),
            (Some(file), false) => format!(
                "in {}; hand it over with `drover device transfer --send`",
                file.display()
            ),
            (None, _) => "sent".to_owned(),
        };
        format!(
            "voucher moves {} from fleet {} to {} until {}: {place}",
            made.device,
            made.from_fleet,
            made.to_fleet,
            clock::show_s(made.expires_unix_s)
        )
    })
}
