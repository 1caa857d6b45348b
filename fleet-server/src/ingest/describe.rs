//! What devices say, in the words of the REST interface.

use drover_api::{DeviceTrust, InstalledBundle, Phase, RefusedCount, Running, Severity};
use drover_wire::message::{self, FailureCode, Step, TrustReport};

use crate::clock;
use crate::store::NewEvent;

/// Entries of a device's lists that are kept.
const MAX_LISTED: usize = 64;

/// A bundle that runs.
pub(crate) fn running(running: &message::Running) -> Running {
    Running {
        name: running.name.clone(),
        version: running.version.clone(),
        digest: hex(&running.digest),
        counter: running.counter,
    }
}

/// What a device trusts.
pub(crate) fn trust(report: &TrustReport) -> DeviceTrust {
    let installed = report.installed.iter().map(|i| InstalledBundle {
        digest: hex(&i.digest),
        counter: i.counter,
        epoch: i.epoch,
        total_bytes: i.total_bytes,
    });
    let refused = report.refused.iter().map(|(code, count)| RefusedCount {
        code: code.name().into(),
        count: *count,
    });
    DeviceTrust {
        received_unix_ms: clock::unix_ms(),
        root_version: report.root_version,
        catalog_version: report.catalog_version,
        catalog_unix_s: report.catalog_unix_s,
        time_floor_s: report.time_floor_s,
        installed: installed.take(MAX_LISTED).collect(),
        refused: refused.take(MAX_LISTED).collect(),
    }
}

/// Which attack indicators have grown, if any.
pub(crate) fn attacks(before: Option<&DeviceTrust>, now: &DeviceTrust) -> Option<String> {
    let counted = |code: &str| {
        let mut known = before.into_iter().flat_map(|b| &b.refused);
        known.find(|r| r.code == code).map_or(0, |r| r.count)
    };
    let grown: Vec<String> = now
        .refused
        .iter()
        .filter(|r| r.count > counted(&r.code))
        .map(|r| format!("{} {} (+{})", r.code, r.count, r.count - counted(&r.code)))
        .collect();
    (!grown.is_empty()).then(|| format!("the device has refused: {}", grown.join(", ")))
}

/// A step of the update life cycle.
pub(crate) fn phase(phase: &message::Phase) -> Phase {
    match phase {
        message::Phase::Idle => Phase::Idle,
        &message::Phase::Fetching {
            digest,
            have,
            total,
        } => Phase::Fetching {
            digest: hex(&digest),
            have,
            total,
        },
        message::Phase::Staged { digest } => Phase::Staged {
            digest: hex(digest),
        },
        message::Phase::Trial { digest } => Phase::Trial {
            digest: hex(digest),
        },
        message::Phase::Committed { digest } => Phase::Committed {
            digest: hex(digest),
        },
        message::Phase::Failed {
            digest,
            step,
            code,
            detail,
        } => Phase::Failed {
            digest: hex(digest),
            step: step_name(*step).into(),
            code: code.name().into(),
            detail: plain(detail),
        },
    }
}

/// An event that a device recorded.
pub(crate) fn event(device: &str, event: &message::Event) -> NewEvent {
    use message::Event;
    let new = |severity, kind, detail| NewEvent::of(device, severity, kind, detail);
    let name = |r: &message::Running| format!("{} {}", plain(&r.name), plain(&r.version));
    match event {
        Event::Started { agent_version } => new(
            Severity::Info,
            "started",
            format!("agent {} started", plain(agent_version)),
        ),
        Event::Activated(bundle) => new(
            Severity::Info,
            "activated",
            format!("{} is active ({})", name(bundle), short(&bundle.digest)),
        ),
        Event::RolledBack { from, to, detail } => {
            let to = to.as_ref().map_or("no model".into(), name);
            let detail = plain(detail);
            new(
                Severity::Warning,
                "rolled-back",
                format!("{} given up for {to}: {detail}", short(from)),
            )
        }
        Event::Refused {
            digest,
            code,
            detail,
        } => {
            let bundle = digest.as_ref().map_or("an instruction".into(), short);
            let detail = format!("{bundle} refused: {}", plain(detail));
            new(severity_of(*code), code.name(), detail)
        }
        Event::Evicted { records } => new(
            Severity::Warning,
            "evicted",
            format!("{records} records given up because the disk quota was reached"),
        ),
        Event::Salvaged { lost } => new(
            Severity::Warning,
            "salvaged",
            format!("{lost} stored records were damaged and are lost"),
        ),
        Event::Source { detail } => new(Severity::Info, "source", plain(detail)),
    }
}

/// A drift profile that this server cannot read.
pub(crate) fn unreadable_profile(device: &str) -> NewEvent {
    let detail = "a drift profile could not be read and was dropped".to_owned();
    NewEvent::of(device, Severity::Warning, "profile-unreadable", detail)
}

/// What a refusal says of the fleet: that somebody tried something, or that something does not
/// fit.
pub(crate) fn severity_of(code: FailureCode) -> Severity {
    match code {
        FailureCode::SignatureInvalid
        | FailureCode::Mismatch
        | FailureCode::Rollback
        | FailureCode::Expired
        | FailureCode::Frozen
        | FailureCode::Revoked
        | FailureCode::Slow
        | FailureCode::WrongRecipient
        | FailureCode::Unlisted
        | FailureCode::Incomplete
        | FailureCode::RootInvalid => Severity::Security,
        FailureCode::Incompatible
        | FailureCode::LoadFailed
        | FailureCode::GoldenMismatch
        | FailureCode::TrialFailed
        | FailureCode::Quarantined
        | FailureCode::StorageFull => Severity::Warning,
    }
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Accept => "accept",
        Step::Fetch => "fetch",
        Step::Load => "load",
        Step::Trial => "trial",
    }
}

/// Text of a device, fit for a terminal: no control characters, not endless.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(500).collect()
}

fn hex(digest: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(digest)
}

fn short(digest: &[u8; 32]) -> String {
    hex(digest).chars().take(12).collect()
}
