//! F5: people on our side who do too much, by intent or by mistake.

use std::process::Command;

use serde_json::{Value, json};

use crate::clock::hold;
use crate::error::{Result, ensure, fail, io};
use crate::http::Caller;
use crate::impostor::Impostor;
use crate::lab::{Lab, QUIET};
use crate::suite::Suite;

/// A password that no guess finds.
const PASSWORD: &str = "correct horse battery staple 7";

pub(super) fn f5(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab_at_rest("F5", |setup| {
        setup.more = "max_unstaged_share = 0.5\nfree_unstaged_devices = 1\n".into();
    })?;
    lab.device.start()?;
    suite.ready(&lab)?;
    let (alice, bob) = (account(&lab, "alice")?, account(&lab, "bob")?);
    let next = lab.publish_next()?;
    let release = format!("{}@{}", next.manifest.name, next.manifest.version);
    // Nobody approves the own rollout.
    let request = json!({
        "release": release,
        "selector": {"devices": [lab.device.id]},
        "approval": true,
    });
    let rollout = alice.post("/v1/rollouts", &request)?;
    let rollout = rollout.accepted("a rollout that waits for approval")?;
    let id = rollout
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let approve = format!("/v1/rollouts/{id}/approve");
    let own = alice.post(&approve, &json!({}))?;
    ensure((400..500).contains(&own.status), || {
        format!("the creator of a rollout approved it: {}", own.text())
    })?;
    let before = lab.weight;
    hold(QUIET, || lab.device.serves_within(before, crate::lab::SOON))?;
    bob.post(&approve, &json!({}))?
        .accepted("a second person's approval")?;
    lab.commits(&next)?;
    // Nobody reaches the whole fleet at once. Four more devices make it one.
    for _ in 0..4 {
        Impostor::enrol(&lab.server)?;
    }
    let later = lab.publish_next()?;
    let release = format!("{}@{}", later.manifest.name, later.manifest.version);
    let everybody = json!({"release": release, "selector": {}});
    let answer = alice.post("/v1/rollouts", &everybody)?;
    ensure((400..500).contains(&answer.status), || {
        format!(
            "a rollout to the whole fleet at once began: {}",
            answer.text()
        )
    })?;
    audit(&lab)?;
    lab.recovers()
}

/// An account that may roll out, with a token of its own.
fn account(lab: &Lab, name: &str) -> Result<Caller> {
    let add = json!({"name": name, "role": "releaser", "password": PASSWORD});
    let added = lab.server.operator().post("/v1/operators", &add)?;
    added.accepted("an account")?;
    let login = json!({"name": name, "password": PASSWORD});
    let answer = lab.server.stranger().post("/v1/login", &login)?;
    let answer = answer.accepted("a login")?;
    match answer.get("token").and_then(Value::as_str) {
        Some(token) => Ok(Caller::new(&lab.server.url(), Some(token))),
        None => fail(format!("a login gave no token: {answer}")),
    }
}

/// A copy of the audit log holds without the server; one that was edited does not.
fn audit(lab: &Lab) -> Result<()> {
    let setup = lab.server.setup();
    let drover = |args: &[&str]| {
        let output = Command::new(&setup.program)
            .args(["--server", &lab.server.url(), "--token-file"])
            .arg(setup.data().join("operator.token"))
            .args(args)
            .output();
        io(|| format!("start {}", setup.program.display()), output)
    };
    let path = lab.folder.join("audit.jsonl");
    let (copy, root) = (path.display().to_string(), lab.folder.join("root"));
    let root = root.display().to_string();
    let exported = drover(&["audit", "export", &copy])?;
    ensure(exported.status.success(), || {
        format!(
            "no copy of the log: {}",
            String::from_utf8_lossy(&exported.stderr)
        )
    })?;
    let verified = drover(&["audit", "verify", &copy, "--root", &root])?;
    ensure(verified.status.success(), || {
        format!(
            "an honest copy does not hold: {}",
            String::from_utf8_lossy(&verified.stderr)
        )
    })?;
    let text = io(|| format!("read {copy}"), std::fs::read_to_string(&path))?;
    ensure(text.contains("alice"), || "the log does not say who".into())?;
    let lines: Vec<&str> = text.lines().collect();
    let without_second: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != 1)
        .map(|(_, line)| *line)
        .collect();
    for (what, forged) in [
        ("another name", text.replace("alice", "carol")),
        ("an entry less", without_second.join("\n") + "\n"),
    ] {
        crate::server::write(&path, forged.as_bytes())?;
        let verified = drover(&["audit", "verify", &copy, "--root", &root])?;
        ensure(!verified.status.success(), || {
            format!("a copy of the log with {what} is taken for whole")
        })?;
    }
    Ok(())
}
