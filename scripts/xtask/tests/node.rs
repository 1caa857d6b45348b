//! A microcontroller under QEMU feeds a model on the agent over a serial line, for a minute,
//! while either side is killed and started again.
//!
//! `DROVER_NODE_ELF` names the firmware; `scripts/test` builds it and sets the variable.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::fleet::{programs, repository};
use xtask::poll::{Look, wait_for};
use xtask::process::Process;

const MINUTE: Duration = Duration::from_secs(60);

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn board(&self, file: &str) -> std::path::PathBuf {
        repository().join("firmware/boards/mps2-an386").join(file)
    }

    fn node(&self) -> Process {
        let args = [self.path("uart.sock"), self.path("qmp.sock")];
        let logs = self.folder.path();
        Process::start("node", &self.board("run-qemu"), args, logs).unwrap()
    }

    fn agent(&self) -> Process {
        let spec = repository().join("scripts/models/node/temperature-1.0.0.toml");
        let args = [
            "run".to_owned(),
            "--data".to_owned(),
            self.path("data"),
            "--spec".to_owned(),
            spec.display().to_string(),
            "--source".to_owned(),
            format!("node:{}", self.path("uart.sock")),
            "--local-socket".to_owned(),
            self.path("agent.sock"),
        ];
        let program = programs().unwrap().join("drover-agent");
        Process::start("agent", &program, args, self.folder.path()).unwrap()
    }

    fn set_temperature(&self, degrees: f32) {
        let run = || {
            let output = Command::new(self.board("set-temperature"))
                .arg(self.path("qmp.sock"))
                .arg(degrees.to_string())
                .output()?;
            Ok(if output.status.success() {
                Look::Ready(())
            } else {
                Look::NotYet(String::from_utf8_lossy(&output.stderr).into_owned())
            })
        };
        wait_for("QEMU to take a temperature", MINUTE, run).unwrap();
    }

    /// Reads the agent's results until one lies within a degree of `degrees`; returns how many
    /// came and the one that did.
    fn observe(&self, degrees: f64) -> (u64, Value) {
        let socket = self.folder.path().join("agent.sock");
        let mut count = 0;
        let mut last = String::from("nothing");
        let start = Instant::now();
        while start.elapsed() < MINUTE {
            let Some(mut lines) = subscribe(&socket) else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            while let Some(Ok(line)) = lines.next() {
                let value: Value = serde_json::from_str(&line).unwrap();
                if value["type"] != "observation" {
                    continue;
                }
                count += 1;
                last = line;
                let score = value["score"].as_f64().unwrap();
                if (score - degrees).abs() < 1.0 {
                    return (count, value);
                }
                if start.elapsed() > MINUTE {
                    break;
                }
            }
        }
        panic!("no observation near {degrees} degrees in a minute; the last one: {last}");
    }

    /// How many observations come within `time`.
    fn count(&self, time: Duration) -> u64 {
        let socket = self.folder.path().join("agent.sock");
        let start = Instant::now();
        let lines = subscribe(&socket).unwrap();
        let lines = lines.map_while(Result::ok);
        let in_time = lines.take_while(|_| start.elapsed() < time);
        in_time.filter(|l| l.contains("\"observation\"")).count() as u64
    }
}

fn subscribe(socket: &Path) -> Option<impl Iterator<Item = std::io::Result<String>> + use<>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    writeln!(stream, r#"{{"op":"subscribe"}}"#).ok()?;
    Some(BufReader::new(stream).lines())
}

#[test]
fn a_node_feeds_a_model_for_a_minute() {
    if std::env::var_os("DROVER_NODE_ELF").is_none() {
        println!("skipped: DROVER_NODE_ELF is not set, scripts/test sets it");
        return;
    }
    let lab = Lab {
        folder: tempfile::tempdir().unwrap(),
    };
    let node = lab.node();
    lab.set_temperature(25.0);
    let agent = lab.agent();

    let (_, seen) = lab.observe(25.0);
    assert_eq!(seen["verdict"], "normal");
    lab.set_temperature(70.0);
    let (_, seen) = lab.observe(70.0);
    println!("70 degrees set, {} seen", seen["score"]);

    // The node dies; a new one takes its place on the same line.
    node.kill_9().unwrap();
    let _node = lab.node();
    lab.set_temperature(30.0);
    lab.observe(30.0);

    // The agent dies; the node goes on and is found again.
    agent.kill_9().unwrap();
    lab.set_temperature(50.0);
    let _agent = lab.agent();
    lab.observe(50.0);

    // A minute of 10 readings a second, each of which completes a window.
    let count = lab.count(MINUTE);
    println!("{count} observations in a minute");
    assert!(
        (540..=660).contains(&count),
        "{count} observations in a minute"
    );
}
