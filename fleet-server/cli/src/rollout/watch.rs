//! `drover rollout status --watch`: one line whenever something changed, until the end.
//!
//! A server that does not answer for a while is waited for: whoever watches a rollout does
//! not want to lose it to a restart.

use std::time::Duration;

use drover_api::{ApiError, Client, Rollout, RolloutState};

use super::{device_status, release};
use crate::error::{CliError, Result};
use crate::output::{Output, word};

const INTERVAL: Duration = Duration::from_secs(1);
/// Answers that may be missing in a row.
const PATIENCE: u32 = 60;

pub(super) fn run(client: &Client, id: &str, out: &Output) -> Result<()> {
    let mut shown = String::new();
    let mut missed = 0;
    loop {
        match client.rollout(id) {
            Ok(rollout) => {
                missed = 0;
                let line = line(&rollout);
                if line != shown {
                    out.show_lines(&rollout, || line.clone())?;
                    shown = line;
                }
                match rollout.state {
                    RolloutState::Completed => return Ok(()),
                    RolloutState::Paused => return Err(paused(rollout)),
                    RolloutState::Waiting | RolloutState::Active => {}
                }
            }
            Err(error @ ApiError::Unreachable { .. }) => {
                missed += 1;
                if missed == 1 {
                    eprintln!("{error}; waiting for it");
                }
                if missed > PATIENCE {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(INTERVAL);
    }
}

fn paused(rollout: Rollout) -> CliError {
    CliError::Paused {
        id: rollout.id,
        reason: rollout.reason.unwrap_or_else(|| "no reason given".into()),
    }
}

fn line(r: &Rollout) -> String {
    let counts = r.counts;
    let mut line = format!(
        "{} {} {}: stage {}/{}, {} of {} devices committed, {} updating, {} failed",
        r.id,
        release(r),
        word(&r.state),
        r.stage,
        r.stages.len(),
        counts.committed,
        counts.total,
        counts.updating,
        counts.failed + counts.expired,
    );
    let busy = r.devices.iter().filter(|d| {
        use drover_api::DeviceStatus::{Fetching, Staged, Trial};
        matches!(d.status, Fetching { .. } | Staged | Trial)
    });
    for device in busy.take(4) {
        let name = match device.name.as_str() {
            "" => &device.device,
            name => name,
        };
        line.push_str(&format!("; {name} {}", device_status(&device.status)));
    }
    line
}
