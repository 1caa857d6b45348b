//! What devices say, in the words of the REST interface.

use drover_api::{Phase, Running, Severity};
use drover_wire::message::{self, FailureCode, Step};

use crate::store::NewEvent;

/// A bundle that runs.
pub(crate) fn running(running: &message::Running) -> Running {
    Running {
        name: running.name.clone(),
        version: running.version.clone(),
        digest: hex(&running.digest),
        counter: running.counter,
    }
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
            code: code_name(*code).into(),
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
            let severity = match code {
                FailureCode::SignatureInvalid | FailureCode::Mismatch | FailureCode::Rollback => {
                    Severity::Security
                }
                _ => Severity::Warning,
            };
            let bundle = digest.as_ref().map_or("an instruction".into(), short);
            let (code, detail) = (code_name(*code), plain(detail));
            new(
                severity,
                "refused",
                format!("{bundle} refused ({code}): {detail}"),
            )
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

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Accept => "accept",
        Step::Fetch => "fetch",
        Step::Load => "load",
        Step::Trial => "trial",
    }
}

fn code_name(code: FailureCode) -> &'static str {
    match code {
        FailureCode::SignatureInvalid => "signature-invalid",
        FailureCode::Mismatch => "mismatch",
        FailureCode::Rollback => "rollback",
        FailureCode::Incompatible => "incompatible",
        FailureCode::LoadFailed => "load-failed",
        FailureCode::GoldenMismatch => "golden-mismatch",
        FailureCode::TrialFailed => "trial-failed",
        FailureCode::Quarantined => "quarantined",
        FailureCode::StorageFull => "storage-full",
        FailureCode::Expired => "expired",
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
