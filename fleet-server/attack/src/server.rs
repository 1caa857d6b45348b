//! The fleet's real server: `drover serve` as a child, and its operator.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_trust::{Envelope, Role, SecretKey, keyfile};
use serde_json::{Value, json};

use crate::artifact::Artifact;
use crate::clock::{Look, wait};
use crate::error::{Result, fail, io};
use crate::http::Caller;
use crate::keys::Keys;
use crate::process::Process;

/// Longest wait for the server to get ready.
const READY: Duration = Duration::from_secs(30);

/// Which broker the server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    /// Somebody else's, at this address: the attacker's.
    Broker(SocketAddr),
    /// Its own, behind its own TLS front.
    Own,
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The `drover` program.
    pub(crate) program: PathBuf,
    /// Folder of the row; the server's data lie in `server` below it.
    pub(crate) folder: PathBuf,
    /// Where REST is served; port 0 takes a free one.
    pub(crate) http: SocketAddr,
    pub(crate) uses: Uses,
    /// More lines of its configuration.
    pub(crate) more: String,
    /// More of its environment.
    pub(crate) env: Vec<(String, String)>,
}

/// The running server.
#[derive(Debug)]
pub(crate) struct Server {
    setup: Setup,
    process: Option<Process>,
    http: String,
    mqtt: String,
    token: String,
}

impl Setup {
    /// Folder of everything that the server keeps.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("server")
    }

    /// Leaves keys and root where the server reads them.
    pub(crate) fn hand_over(&self, keys: &Keys, root: &Envelope) -> Result<()> {
        let secret = |role, key: &SecretKey| keyfile::format(role, key).into_bytes();
        self.write("root", &root.encode()?)?;
        self.write("fleet.key", &secret(Role::Fleet, &keys.fleet))?;
        self.write("catalog.key", &secret(Role::Catalog, &keys.catalog))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write(&self.folder.join(name), bytes)
    }

    fn configuration(&self) -> String {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let broker = match self.uses {
            Uses::Broker(addr) => format!(
                "[broker]\nkind = \"external\"\nhost = \"{}\"\nport = {}\n",
                addr.ip(),
                addr.port()
            ),
            Uses::Own => "[broker]\nkind = \"embedded\"\n".to_owned(),
        };
        format!(
            "data_dir = {:?}\nroot = {:?}\nfleet_key = {:?}\ncatalog_key = {:?}\n\
             http_listen = \"{}\"\nplain_http = true\nmqtt_listen = \"127.0.0.1:0\"\n\
             chunk_gap_ms = 1\ncoalesce_ms = 20\nchunk_repeat_ms = 200\n\
             plan_interval_ms = 30\n{}\n{broker}",
            path("server"),
            path("root"),
            path("fleet.key"),
            path("catalog.key"),
            self.http,
            self.more,
        )
    }
}

/// Writes a file for its owner alone.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let act = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        // Made with 0600 by the crate; key files that others can read are refused.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|e| e.error).map(drop)
    };
    io(|| format!("write {}", path.display()), act())
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(setup: Setup) -> Result<Self> {
        let config = setup.folder.join("server.toml");
        write(&config, setup.configuration().as_bytes())?;
        let mut server = Self {
            setup,
            process: None,
            http: String::new(),
            mqtt: String::new(),
            token: String::new(),
        };
        server.run()?;
        Ok(server)
    }

    fn run(&mut self) -> Result<()> {
        let config = self.setup.folder.join("server.toml");
        let args = [
            "serve".into(),
            "--json".into(),
            "--config".into(),
            config.into_os_string(),
        ];
        let Setup {
            program,
            env,
            folder,
            ..
        } = &self.setup;
        // Only the last start's line says where it listens.
        let _ = std::fs::remove_file(folder.join("server.out"));
        let mut process = Process::start("server", program, args, env, folder)?;
        let ready = wait("the server to be ready", READY, || {
            process.check_running()?;
            let output = process.output();
            let line = output.lines().next();
            Ok(
                match line.and_then(|l| serde_json::from_str::<Value>(l).ok()) {
                    Some(ready) => Look::Ready(ready),
                    None => Look::NotYet(process.tail()),
                },
            )
        })?;
        let text = |key: &str| ready.get(key).and_then(Value::as_str).map(str::to_owned);
        self.http = text("http").unwrap_or_default();
        self.mqtt = text("mqtt").unwrap_or_default();
        let token = self.setup.data().join("operator.token");
        let token_text = std::fs::read_to_string(&token);
        self.token = io(|| format!("read {}", token.display()), token_text)?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::stop)
    }

    /// Starts it anew, with other settings and keys if they were changed.
    pub(crate) fn restart(&mut self, change: impl FnOnce(&mut Setup)) -> Result<()> {
        self.stop()?;
        if let Ok(addr) = self.addr().parse() {
            self.setup.http = addr;
        }
        change(&mut self.setup);
        let config = self.setup.folder.join("server.toml");
        write(&config, self.setup.configuration().as_bytes())?;
        self.run()
    }

    /// What it was started with.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Address of REST, `host:port`.
    pub(crate) fn addr(&self) -> &str {
        let http = &self.http;
        http.strip_prefix("http://").unwrap_or(http)
    }

    /// Address of REST.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Port of the embedded broker's TLS front.
    pub(crate) fn mqtt_port(&self) -> Result<u16> {
        let port = self.mqtt.rsplit(':').next().and_then(|p| p.parse().ok());
        port.map_or_else(|| fail(format!("no port in {:?}", self.mqtt)), Ok)
    }

    /// The first operator, who may do everything.
    pub(crate) fn operator(&self) -> Caller {
        Caller::new(&self.url(), Some(&self.token))
    }

    /// Somebody without any credentials.
    pub(crate) fn stranger(&self) -> Caller {
        Caller::new(&self.url(), None)
    }

    /// Claim tokens.
    pub(crate) fn tokens(&self, request: &Value) -> Result<Vec<String>> {
        let answer = self.operator().post("/v1/tokens", request)?;
        let answer = answer.accepted("a request for claim tokens")?;
        let items = answer.get("items").and_then(Value::as_array);
        let token = |t: &Value| t.get("token").and_then(Value::as_str).map(str::to_owned);
        Ok(items.into_iter().flatten().filter_map(token).collect())
    }

    /// One claim token that lets a device in at once.
    pub(crate) fn token(&self) -> Result<String> {
        let tokens = self.tokens(&json!({"count": 1, "ttl_secs": 600}))?;
        let token = tokens.into_iter().next();
        token.map_or_else(|| fail("the server made no claim token"), Ok)
    }

    /// Publishes a bundle; it is in the catalog from then on.
    pub(crate) fn publish(&self, artifact: &Artifact) -> Result<()> {
        let answer = self
            .operator()
            .post_bytes("/v1/releases", &artifact.container()?)?;
        answer.accepted("an honest release").map(drop)
    }

    /// Rolls a published bundle out to one device; gives the rollout's id.
    pub(crate) fn roll_out(&self, artifact: &Artifact, device: &str) -> Result<String> {
        let manifest = &artifact.manifest;
        let request = json!({
            "release": format!("{}@{}", manifest.name, manifest.version),
            "selector": {"devices": [device]},
        });
        let answer = self.operator().post("/v1/rollouts", &request)?;
        let answer = answer.accepted("an honest rollout")?;
        let id = answer.get("id").and_then(Value::as_str);
        id.map_or_else(
            || fail(format!("no rollout: {answer}")),
            |id| Ok(id.to_owned()),
        )
    }

    /// One device, as an operator sees it.
    pub(crate) fn device(&self, device: &str) -> Result<Value> {
        let answer = self.operator().get(&format!("/v1/devices/{device}"))?;
        answer.accepted("a look at a device")
    }

    /// Waits for an event of this kind about a device, or about none.
    pub(crate) fn wait_event(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let operator = self.operator();
        wait(what, patience, || {
            let events = operator.list("/v1/events?limit=200")?;
            Ok(match events.iter().find(|e| wanted(e)) {
                Some(event) => Look::Ready(event.clone()),
                None => {
                    let kinds = events.iter().take(12).map(|e| e.to_string());
                    Look::NotYet(kinds.collect::<Vec<_>>().join(" "))
                }
            })
        })
    }

    /// How its process is found.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }
}
