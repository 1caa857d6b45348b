//! The local socket with real connections: who gets what, and that nobody holds up anybody.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drover_agent::AgentError;
use drover_agent::local::{Client, Desk, RowSink, Server};
use drover_agent::source::{Columns, Feed, Row};
use drover_agent::status::Status;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc};

struct Served {
    results: broadcast::Sender<Arc<str>>,
    rows: mpsc::Receiver<Feed>,
}

fn serve(path: &Path, backlog: usize) -> Served {
    let (results, _) = broadcast::channel(backlog);
    let (sender, rows) = mpsc::channel(8);
    let desk = Desk {
        results: results.clone(),
        status: Box::new(|| Status {
            agent_version: "9.9.9".into(),
            ..Status::default()
        }),
        rows: RowSink::Runner {
            rows: sender,
            channels: Box::new(|| Some(["flow".to_owned(), "pressure".to_owned()].into())),
        },
    };
    tokio::spawn(Server::bind(path).unwrap().serve(Arc::new(desk)));
    Served { results, rows }
}

struct Application {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Application {
    async fn connect(path: &Path) -> Self {
        let (read, write) = UnixStream::connect(path).await.unwrap().into_split();
        Self {
            lines: BufReader::new(read).lines(),
            write,
        }
    }

    async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.write.write_all(line.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line());
        let line = line.await.expect("an answer in time").unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.say(line).await;
        self.hear().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_get_results_and_slow_ones_are_told_their_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let served = serve(&path, 4);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    let mut application = Application::connect(&path).await;
    application.say("{\"op\":\"subscribe\"}").await;
    // An answer to a later request proves that the subscription is in force.
    assert_eq!(
        application.ask("{\"op\":\"status\"}").await["type"],
        "status"
    );
    // Far more than the sockets' buffers hold, in one go.
    let filler = "x".repeat(100_000);
    for number in 0..200 {
        let line = json!({"type": "observation", "number": number, "filler": filler});
        served.results.send(format!("{line}\n").into()).unwrap();
    }
    let (mut got, mut lost) = (0, 0);
    while got + lost < 200 {
        let answer = application.hear().await;
        match answer["type"].as_str() {
            Some("observation") => {
                assert_eq!(answer["number"], got + lost, "the order is kept");
                got += 1;
            }
            Some("dropped") => lost += answer["count"].as_u64().unwrap(),
            _ => panic!("{answer}"),
        }
    }
    assert!(lost > 0 && got >= 4, "{got} got, {lost} lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_and_bad_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let mut served = serve(&path, 4);
    let mut application = Application::connect(&path).await;
    let status = application.ask("{\"op\":\"status\"}").await;
    assert_eq!(status["agent_version"], "9.9.9");

    for bad in [
        "{\"op\":\"dance\"}",
        "no json",
        "{\"op\":\"push\",\"row\":[1]}",
        "{\"op\":\"push\",\"row\":\"1\"}",
        "{\"op\":\"push\",\"row\":{\"flow\":1}}",
    ] {
        let answer = application.ask(bad).await;
        assert_eq!(answer["type"], "error", "{bad}: {answer}");
        assert!(answer["message"].as_str().unwrap().len() > 10);
    }
    let answer = application.ask("{\"op\":\"dance\"}").await;
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("dance") && message.contains("subscribe"),
        "{message}"
    );

    let pushed = json!({"type": "pushed"});
    assert_eq!(
        application.ask("{\"op\":\"push\",\"row\":[1,null]}").await,
        pushed
    );
    assert_eq!(
        application
            .ask("{\"row\":{\"pressure\":2,\"flow\":1}}")
            .await,
        pushed
    );
    let mut row = || match served.rows.try_recv() {
        Ok(Feed::Row(Row {
            columns, values, ..
        })) => (columns, values),
        other => panic!("{other:?}"),
    };
    let names: Columns = ["flow".to_owned(), "pressure".to_owned()].into();
    let (columns, values) = row();
    assert_eq!(columns, names);
    assert!(values[0] == 1.0 && values[1].is_nan());
    assert_eq!(row(), (names, vec![1.0, 2.0]));

    let long = format!("{{\"op\":\"{}\"}}", "x".repeat(70_000));
    let answer = application.ask(&long).await;
    assert!(answer["message"].as_str().unwrap().contains("longer than"));
    assert_eq!(
        application.ask("{\"op\":\"status\"}").await["type"],
        "status"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_left_over_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    // As a killed agent leaves it: bound once, and nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(Client::connect(&path).is_none());
    let _served = serve(&path, 4);
    let error = Server::bind(&path).err().unwrap();
    assert!(matches!(error, AgentError::AlreadyRunning { .. }));
    assert!(error.to_string().contains("another drover-agent runs here"));
    let asked = path.clone();
    let status = tokio::task::spawn_blocking(move || Client::connect(&asked).unwrap().status());
    assert_eq!(status.await.unwrap().unwrap().agent_version, "9.9.9");

    let missing = folder.path().join("no/such/agent.sock");
    let message = Server::bind(&missing).err().unwrap().to_string();
    assert!(message.contains("no/such/agent.sock"), "{message}");
}
