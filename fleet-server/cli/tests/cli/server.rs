//! `drover serve` as a process, and the commands that ask it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::drover::{Run, drover, keys};

/// A server on free ports; killed when dropped.
pub(crate) struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    log: PathBuf,
    http: String,
    pub(crate) url: String,
    token_file: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where a test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve_args(folder: &Path) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    let args = [
        "serve",
        "--data",
        &at("data"),
        "--root",
        &at("keys/root.drover-root"),
        "--fleet-key",
        &at("keys/fleet.key"),
        "--http",
        "127.0.0.1:0",
        "--mqtt",
        "127.0.0.1:0",
    ];
    args.map(str::to_owned).into()
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// Starts with more flags.
    pub(crate) fn start_with(folder: &Path, flags: &[&str]) -> Self {
        let log = folder.join("server.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_drover"))
            .args(serve_args(folder))
            .args(flags)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready = serde_json::from_str::<Value>(&line);
        let said = || std::fs::read_to_string(&log).unwrap();
        assert!(ready.is_ok(), "{line:?}; {}", said());
        let ready = ready.unwrap();
        assert!(ready["mqtt"].as_str().unwrap().starts_with("127.0.0.1:"));
        Self {
            child,
            out,
            log,
            http: ready["http"].as_str().unwrap().to_owned(),
            url: ready["url"].as_str().unwrap().to_owned(),
            token_file: ready["token_file"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn ask<const N: usize>(&self, args: [&str; N]) -> Run {
        let flags = ["--server", &self.url, "--token-file", &self.token_file];
        drover(args.into_iter().chain(flags))
    }

    pub(crate) fn json<const N: usize>(&self, args: [&str; N]) -> Value {
        let flags = [
            "--json",
            "--server",
            &self.url,
            "--token-file",
            &self.token_file,
        ];
        serde_json::from_str(&drover(args.into_iter().chain(flags)).ok()).unwrap()
    }

    /// SIGTERM, then the exit code and what else it printed.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

fn publish(server: &Server, folder: &Path) {
    let at = |name: &str| folder.join(name).display().to_string();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let spec = manifest.join("../../scripts/models/pump/pump-1.0.0.toml");
    let bundle = at("pump.drover");
    drover([
        "bundle",
        "build",
        &spec.display().to_string(),
        "-o",
        &bundle,
    ])
    .ok();
    let message = server.ask(["release", "publish", &bundle]).refused();
    assert!(message.contains("drover bundle sign"), "{message}");
    for key in ["keys/release-1.key", "keys/release-2.key"] {
        drover(["bundle", "sign", &bundle, "--key", &at(key)]).ok();
    }
    let said = server.ask(["release", "publish", &bundle]).ok();
    assert!(said.contains("published pump-anomaly 1.0.0"), "{said}");

    let mut bytes = std::fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let message = server.ask(["release", "publish", &bundle]).refused();
    assert!(
        message.contains("differs from what was signed"),
        "{message}"
    );
}

#[test]
fn a_server_is_asked_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    let server = Server::start(folder.path());

    let tokens = server.ask(["device", "token", "--count", "2", "--label", "site=oslo"]);
    assert_eq!(tokens.ok().lines().count(), 2);
    let tokens = server.json(["device", "token", "--ttl", "2h", "--manual-approval"]);
    assert!(tokens[0]["token"].as_str().unwrap().contains('.'));

    assert_eq!(
        server.ask(["device", "list"]).ok(),
        "",
        "bare rows in pipes"
    );
    assert_eq!(server.json(["device", "list"]), serde_json::json!([]));
    let message = server.ask(["device", "show", "nobody"]).refused();
    assert!(message.contains("nobody"), "{message}");

    publish(&server, folder.path());
    let releases = server.ask(["release", "list"]).ok();
    assert!(
        releases.starts_with("pump-anomaly\t1.0.0\t1\t0\t"),
        "{releases}"
    );
    let shown = server.ask(["release", "show", "pump-anomaly@1.0.0"]).ok();
    assert!(shown.contains("security epoch\t0\n"), "{shown}");
    let component = "component onnxruntime\t1.32.0, pkg:pypi/onnxruntime@1.32.0\n";
    assert!(shown.contains(component), "{shown}");
    assert!(
        shown.contains("training run\ttrain.py, seed 1\n"),
        "{shown}"
    );

    let affected = server.json(["affected", "--component", "torch<2.9.1"]);
    assert_eq!(affected, serde_json::json!([]));
    let message = server.ask(["affected", "--component", "torch<"]).refused();
    assert!(message.contains("names no component"), "{message}");

    let created = server.json([
        "rollout",
        "create",
        "--release",
        "pump-anomaly@1.0.0",
        "--select",
        "site=oslo",
        "--stage",
        "1",
        "--stage",
        "100%",
        "--max-failed",
        "20%",
        "--deadline",
        "1h",
    ]);
    assert_eq!(created["policy"]["max_failed_share"], 0.2);
    assert_eq!(created["policy"]["deadline_secs"], 3600);
    assert_eq!(created["selector"]["labels"]["site"], "oslo");
    let id = created["id"].as_str().unwrap();
    assert!(
        server
            .ask(["rollout", "status", id])
            .ok()
            .contains("pump-anomaly@1.0.0")
    );
    assert!(server.ask(["rollout", "list"]).ok().starts_with(id));
    // Nobody matches, so there is nothing left to wait for.
    let watched = server.ask(["rollout", "status", id, "--watch"]).ok();
    assert!(watched.contains("completed: stage"), "{watched}");
    let message = server
        .ask(["rollout", "create", "--release", "no@1"])
        .refused();
    assert!(message.contains("no@1"), "{message}");

    assert_eq!(server.json(["broker", "status"])["running"], true);
    assert_eq!(server.json(["broker", "stop"])["running"], false);
    assert_eq!(server.json(["broker", "start"])["running"], true);
    assert_eq!(server.json(["drift", "status"]), serde_json::json!([]));
    assert_eq!(server.json(["data", "stats"]), serde_json::json!([]));
    assert!(server.json(["event", "list"]).is_array());

    let conf = folder.path().join("mosquitto");
    let said = server.ask([
        "broker",
        "config",
        "mosquitto",
        "-o",
        &conf.display().to_string(),
    ]);
    assert!(said.ok().contains("wrote 6 files"));
    let text = std::fs::read_to_string(conf.join("mosquitto.conf")).unwrap();
    assert!(text.contains("require_certificate true"), "{text}");
    assert!(text.contains(&format!("crlfile {}/crl.pem", conf.display())));
    let list = conf.join("crl.pem").display().to_string();
    server.ask(["broker", "crl", "-o", &list]).ok();
    let key = std::fs::metadata(conf.join("server.key")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );
    let message = server
        .ask(["device", "revoke", "nobody", "--reason", "x"])
        .refused();
    assert!(message.contains("nobody"), "{message}");
    let rule = [
        "device",
        "token",
        "--approve-if",
        "arch=aarch64,label.site=oslo",
    ];
    assert_eq!(server.ask(rule).ok().lines().count(), 1);
    let rule = ["device", "token", "--approve-if", "colour=red"];
    let refused = server.ask(rule);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("label.site=oslo"), "{}", refused.err);

    let log = server.log.clone();
    let (code, rest) = server.stop();
    assert_eq!(
        (code, rest.as_str()),
        (Some(0), ""),
        "{}",
        std::fs::read_to_string(log).unwrap()
    );
}

#[test]
fn what_a_person_has_to_mend_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    let server = Server::start(folder.path());
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut args = serve_args(folder.path());
        change(&mut args);
        drover(args).refused()
    };
    assert!(with(&|_| {}).contains("in use by another server"));
    let other = folder.path().join("other").display().to_string();
    let message = with(&|args| {
        args[2].clone_from(&other);
        args[8].clone_from(&server.http);
    });
    assert!(message.contains("the port is in use"), "{message}");
    let message = with(&|args| {
        args[2].clone_from(&other);
        args[6] = args[6].replace("fleet.key", "release-1.key");
    });
    assert!(message.contains("release-1.key"), "{message}");
    let message = with(&|args| args[4].clone_from(&other));
    assert!(message.contains("other"), "{message}");

    let wrong = folder.path().join("wrong.token");
    std::fs::write(&wrong, "wrong\n").unwrap();
    let url = server.url.clone();
    let wrong = wrong.display().to_string();
    drover(["device", "list", "--server", &url, "--token-file", &wrong]).refused();
    let message = drover(["device", "list", "--server", &url]).refused();
    assert!(message.contains("--token-file"), "{message}");
    let token = server.token_file.clone();
    // Away from the token, the server's authority is nobody that this machine trusts.
    let elsewhere = folder.path().join("copy.token");
    std::fs::copy(&token, &elsewhere).unwrap();
    let elsewhere = elsewhere.display().to_string();
    let run = drover([
        "device",
        "list",
        "--server",
        &url,
        "--token-file",
        &elsewhere,
    ]);
    assert!(run.refused().contains("--ca"));
    server.stop();
    let run = drover(["device", "list", "--server", &url, "--token-file", &token]);
    assert!(run.refused().contains("is the server running"));
}

#[test]
fn flags_overrule_the_file_and_typos_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    let path = file.display().to_string();
    std::fs::write(
        &file,
        "http_listen = \"127.0.0.1:1\"\nmqtt_listen = \"127.0.0.1:2\"\n",
    )
    .unwrap();
    let print = [
        "serve",
        "--config",
        &path,
        "--print-config",
        "--http",
        "127.0.0.1:3",
    ];
    let shown = drover(print).ok();
    assert!(shown.contains("http_listen = \"127.0.0.1:3\""), "{shown}");
    assert!(shown.contains("mqtt_listen = \"127.0.0.1:2\""), "{shown}");

    std::fs::write(&file, "\nhttp_listn = \"127.0.0.1:1\"\n").unwrap();
    let message = drover(["serve", "--config", &path]).refused();
    assert!(
        message.contains("http_listn") && message.contains("line 2"),
        "{message}"
    );
}

#[test]
fn the_readme_shows_the_defaults() {
    let shown = drover(["serve", "--print-config"]).ok();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    assert!(
        readme.contains(&format!("```toml\n{shown}```\n")),
        "README.md lacks:\n{shown}"
    );
}
