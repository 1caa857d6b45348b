//! A board without sensors of its own: an application pushes rows into the running binary and
//! reads what the model says of them, as `examples/watch.py` does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(path: &Path, agent: &mut Agent) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "no socket; last: {error}"),
        }
        let ended = agent.0.try_wait().unwrap();
        assert!(ended.is_none(), "the agent has ended: {ended:?}");
        std::thread::yield_now();
    }
}

#[test]
fn an_application_pushes_rows_and_reads_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models/pump");
    let child = Command::new(env!("CARGO_BIN_EXE_drover-agent"))
        .args(["run", "--source", "socket", "--spec"])
        .arg(models.join("pump-1.0.0.toml"))
        .arg("--local-socket")
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut agent = Agent(child);
    let stream = connect(&path, &mut agent);
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut hear = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let say = |value: &Value| writeln!(&stream, "{value}").unwrap();

    say(&json!({"op": "subscribe"}));
    let rows = std::fs::read_to_string(models.join("baseline.csv")).unwrap();
    let header: Vec<&str> = rows.lines().next().unwrap().split(',').collect();
    for (number, line) in rows.lines().skip(1).take(17).enumerate() {
        let values: Vec<f32> = line.split(',').map(|v| v.parse().unwrap()).collect();
        // Lists and objects mean the same.
        let row = if number % 2 == 0 {
            json!(values)
        } else {
            let named = header
                .iter()
                .zip(values)
                .map(|(n, v)| ((*n).to_owned(), json!(v)));
            Value::Object(named.collect())
        };
        say(&json!({"op": "push", "row": row}));
    }
    let mut results = Vec::new();
    let mut pushed = 0;
    while results.len() < 2 || pushed < 17 {
        let answer = hear();
        match answer["type"].as_str() {
            Some("pushed") => pushed += 1,
            _ => results.push(answer),
        }
    }
    for (window, result) in results.iter().enumerate() {
        assert_eq!(result["type"], "observation", "{result}");
        assert_eq!(result["model"], "pump-anomaly");
        assert_eq!(result["window"], window);
        assert_eq!(result["verdict"], "normal", "{result}");
    }
    say(&json!({"op": "status"}));
    let status = hear();
    assert_eq!(status["source"]["rows"], 17);
    assert_eq!(status["mode"], "local");
    assert!(status["health"]["agent_rss_bytes"].as_u64().unwrap() > 1_000_000);

    let pid = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(agent.0.wait().unwrap().success());
    assert!(!path.exists(), "the socket stays behind");
}
