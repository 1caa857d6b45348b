//! A server with its broker and any number of agents, on loopback, in one folder.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use drover_api::{Client, Rollout, RolloutState, TlsFiles};
use serde_json::Value;

use crate::agent::Agent;
use crate::poll::{Look, wait_for};
use crate::process::{CLOCK_VARIABLE, Process};

/// Where the repository lies.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The folder of the programs that `cargo build` made, beside the running one.
///
/// # Errors
/// When a program is missing, with the command that builds it.
pub fn programs() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // A test binary lies one folder deeper than a program.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .find(|folder| folder.join("drover").exists() && folder.join("drover-agent").exists());
    found
        .map(Path::to_owned)
        .context("drover and drover-agent are not built; run: cargo build --workspace --bins")
}

/// Which broker carries the fleet's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// The server's own.
    Embedded,
    /// A mosquitto process.
    Mosquitto,
}

/// A fleet on this machine.
#[derive(Debug)]
pub struct Fleet {
    folder: PathBuf,
    programs: PathBuf,
    http: String,
    /// Address of the REST interface, with its scheme.
    url: String,
    mqtt: String,
    server: Option<Process>,
    mosquitto: Option<Process>,
    broker: Broker,
    /// Whether the REST interface is served without TLS.
    plain_http: bool,
    clock_offset_secs: i64,
}

/// How a server that is ready introduces itself.
const READY: Duration = Duration::from_secs(30);

impl Fleet {
    /// Makes keys and starts the server, all below `folder`.
    ///
    /// # Errors
    /// When a program is missing or does not come up.
    pub fn start(folder: &Path, broker: Broker) -> anyhow::Result<Self> {
        Self::start_as(folder, "demo", broker, false)
    }

    /// A fleet of another name, for tests that need two.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_named(folder: &Path, name: &str) -> anyhow::Result<Self> {
        Self::start_as(folder, name, Broker::Embedded, false)
    }

    /// The same, with a REST interface that no clock keeps an operator from.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_plain(folder: &Path, broker: Broker) -> anyhow::Result<Self> {
        Self::start_as(folder, "demo", broker, true)
    }

    fn start_as(
        folder: &Path,
        name: &str,
        broker: Broker,
        plain_http: bool,
    ) -> anyhow::Result<Self> {
        let mut fleet = Self {
            folder: folder.to_owned(),
            programs: programs()?,
            http: "127.0.0.1:0".to_owned(),
            url: String::new(),
            mqtt: "127.0.0.1:0".to_owned(),
            server: None,
            mosquitto: None,
            broker,
            plain_http,
            clock_offset_secs: 0,
        };
        std::fs::create_dir_all(fleet.logs())?;
        fleet.drover([
            "keys",
            "init",
            "--fleet",
            name,
            "--out",
            &fleet.path("keys"),
            // The folder itself is thrown away afterwards.
            "--no-passphrase",
        ])?;
        if broker == Broker::Mosquitto {
            // Mosquitto cannot say which port it was given, so one that is free now is asked
            // for; nothing else on this machine binds it in between.
            fleet.mqtt = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        }
        fleet.start_server()?;
        if broker == Broker::Mosquitto {
            fleet.configure_mosquitto()?;
            fleet.start_mosquitto()?;
        }
        Ok(fleet)
    }

    /// Address of the REST interface.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A path below the fleet's folder, as text.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Starts the server, on the addresses it had before if it ran before.
    ///
    /// # Errors
    /// When it does not come up, with the end of its log.
    pub fn start_server(&mut self) -> anyhow::Result<()> {
        let mut args: Vec<String> = ["serve", "--json", "--data"].map(str::to_owned).into();
        args.extend([
            self.path("server"),
            "--root".to_owned(),
            self.path("keys/root.drover-root"),
            "--fleet-key".to_owned(),
            self.path("keys/fleet.key"),
            "--http".to_owned(),
            self.http.clone(),
        ]);
        if self.plain_http {
            args.push("--plain-http".to_owned());
        }
        match self.broker {
            Broker::Embedded => args.extend(["--mqtt".to_owned(), self.mqtt.clone()]),
            Broker::Mosquitto => args.extend(["--broker".to_owned(), self.mqtt.clone()]),
        }
        let program = self.programs.join("drover");
        let out = self.logs().join("server.out");
        let before = std::fs::read_to_string(&out).map_or(0, |text| text.lines().count());
        let mut server = Process::start_at(
            "server",
            &program,
            args,
            &self.logs(),
            self.clock_offset_secs,
        )?;
        let ready = server.wait_for_output("the server to be ready", READY, |output| {
            let line = output.lines().nth(before)?;
            serde_json::from_str::<Value>(line).ok()
        })?;
        let text = |key: &str| ready[key].as_str().map(str::to_owned);
        self.http = text("http").context("the server does not say where it listens")?;
        self.url = text("url").context("the server does not say its address")?;
        if self.broker == Broker::Embedded {
            self.mqtt = text("mqtt").context("the server does not say where its broker is")?;
        }
        self.server = Some(server);
        Ok(())
    }

    /// Permissions and certificates as the server wants them.
    fn configure_mosquitto(&self) -> anyhow::Result<()> {
        let folder = self.path("mosquitto");
        let port = self.mqtt.rsplit(':').next().unwrap_or_default();
        self.drover([
            "broker",
            "config",
            "mosquitto",
            "--output",
            &folder,
            "--name",
            "127.0.0.1",
            "--port",
            port,
        ])?;
        // Started by root, mosquitto would become a user that cannot read its key here.
        let config = self.folder.join("mosquitto/mosquitto.conf");
        let text = std::fs::read_to_string(&config)?;
        write(&config, format!("{text}user root\n").as_bytes())
    }

    fn start_mosquitto(&mut self) -> anyhow::Result<()> {
        let config = self.folder.join("mosquitto/mosquitto.conf");
        let found = [
            "/usr/sbin/mosquitto",
            "/usr/bin/mosquitto",
            "/usr/local/sbin/mosquitto",
        ];
        let program = found.map(PathBuf::from).into_iter().find(|p| p.exists());
        let program = program.context("mosquitto is missing; run: scripts/setup test")?;
        let args = [OsString::from("-c"), config.into_os_string()];
        let mosquitto = Process::start("mosquitto", &program, args, &self.logs())?;
        let address = self.mqtt.clone();
        wait_for("mosquitto to listen", READY, || {
            Ok(match std::net::TcpStream::connect(&address) {
                Ok(_) => Look::Ready(()),
                Err(error) => Look::NotYet(error.to_string()),
            })
        })?;
        self.mosquitto = Some(mosquitto);
        Ok(())
    }

    /// Takes the broker away: mosquitto is killed, the embedded one is stopped.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_broker(&mut self) -> anyhow::Result<()> {
        match self.broker {
            Broker::Embedded => self.drover(["broker", "stop"]).map(drop),
            Broker::Mosquitto => self.mosquitto.take().context("no broker runs")?.kill_9(),
        }
    }

    /// Brings the broker back on the same port.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_broker(&mut self) -> anyhow::Result<()> {
        match self.broker {
            Broker::Embedded => self.drover(["broker", "start"]).map(drop),
            Broker::Mosquitto => self.start_mosquitto(),
        }
    }

    /// SIGKILL to the server.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_server(&mut self) -> anyhow::Result<()> {
        self.server.take().context("no server runs")?.kill_9()
    }

    /// Asks the server to stop and waits for it.
    ///
    /// # Errors
    /// When it does not stop in time or not cleanly.
    pub fn stop_server(&mut self) -> anyhow::Result<()> {
        let status = self.server.take().context("no server runs")?.stop()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Lets the server's clock be off by so many seconds from its next start on.
    pub fn set_server_clock(&mut self, offset_secs: i64) {
        self.clock_offset_secs = offset_secs;
    }

    /// The REST interface, as the operator.
    ///
    /// # Errors
    /// When the operator's token cannot be read.
    pub fn client(&self) -> anyhow::Result<Client> {
        let token = std::fs::read_to_string(self.path("server/operator.token"))?;
        let files = TlsFiles {
            ca: Some(std::fs::read(self.path("server/ca.pem"))?),
            identity: None,
        };
        Ok(Client::with_tls(&self.url, token.trim(), &files)?)
    }

    fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(self.programs.join("drover"));
        command
            .args(args)
            .arg("--json")
            .env("DROVER_SERVER", &self.url)
            .env("DROVER_TOKEN_FILE", self.path("server/operator.token"));
        command
    }

    /// Runs `drover` as an operator does and reads its JSON; a list gives its elements.
    ///
    /// # Errors
    /// When it fails, with what it printed.
    pub fn drover<const N: usize>(&self, args: [&str; N]) -> anyhow::Result<Vec<Value>> {
        let output = self.command(args).output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "drover {args:?} failed: {}",
            message.trim()
        );
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Vec::new());
        }
        let value: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("drover {args:?} printed no JSON"))?;
        Ok(match value {
            Value::Array(values) => values,
            single => vec![single],
        })
    }

    /// Runs `drover` where it must refuse, and returns its reason.
    ///
    /// # Errors
    /// When it does not refuse.
    pub fn drover_refuses<const N: usize>(&self, args: [&str; N]) -> anyhow::Result<String> {
        let output = self.command(args).output()?;
        ensure!(
            output.status.code() == Some(1),
            "drover {args:?} did not refuse but ended with {}",
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Builds, signs and publishes the bundle of a spec; returns the path of the file.
    ///
    /// # Errors
    /// When a step fails.
    pub fn publish(&self, spec: &Path, name: &str) -> anyhow::Result<String> {
        let bundle = self.path(name);
        let spec = spec.display().to_string();
        self.drover(["bundle", "build", &spec, "-o", &bundle])?;
        self.drover([
            "bundle",
            "sign",
            &bundle,
            "--key",
            &self.path("keys/release-1.key"),
        ])?;
        let root = self.path("keys/root.drover-root");
        self.drover(["bundle", "verify", &bundle, "--root", &root])?;
        self.drover(["release", "publish", &bundle])?;
        Ok(bundle)
    }

    /// Starts a rollout over all devices, one first if `staged`, and returns its id.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn roll_out(&self, release: &str, staged: bool) -> anyhow::Result<String> {
        let created = if staged {
            let stages = ["--stage", "1", "--stage", "100%"];
            let [a, b, c, d] = stages;
            self.drover(["rollout", "create", "--release", release, a, b, c, d])?
        } else {
            self.drover(["rollout", "create", "--release", release])?
        };
        let id = created.first().and_then(|r| r["id"].as_str());
        Ok(id.context("no rollout id came")?.to_owned())
    }

    /// Waits until a rollout is no longer active.
    ///
    /// # Errors
    /// When it does not come to an end in time, with its last state.
    pub fn wait_for_rollout(&self, id: &str, timeout: Duration) -> anyhow::Result<Rollout> {
        let client = self.client()?;
        wait_for(&format!("rollout {id} to end"), timeout, || {
            Ok(match client.rollout(id) {
                Ok(r) if r.state != RolloutState::Active => Look::Ready(r),
                Ok(r) => Look::NotYet(format!("{:?}", r.devices)),
                Err(error) => Look::NotYet(error.to_string()),
            })
        })
    }

    /// Enrols a new agent.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn enrol(&self, name: &str, site: &str) -> anyhow::Result<Agent> {
        self.enrol_at(name, site, 0)
    }

    /// The same for a board whose wall clock is off by so many seconds.
    ///
    /// # Errors
    /// As for [`Self::enrol`].
    pub fn enrol_at(
        &self,
        name: &str,
        site: &str,
        clock_offset_secs: i64,
    ) -> anyhow::Result<Agent> {
        let label = format!("site={site}");
        let tokens = self.drover(["device", "token", "--label", &label])?;
        let token = tokens.first().and_then(|t| t["token"].as_str());
        let token = token.context("no token came")?;
        let data = self.folder.join(name);
        let output = Command::new(self.programs.join("drover-agent"))
            .args(["enroll", "--json", "--server"])
            .arg(&self.url)
            .args(["--token", token, "--name", name, "--data"])
            .arg(&data)
            .env(CLOCK_VARIABLE, clock_offset_secs.to_string())
            .output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {}", message.trim());
        let reply: Value = serde_json::from_slice(&output.stdout)?;
        let id = reply["device"].as_str().context("no device id came")?;
        let program = self.programs.join("drover-agent");
        let logs = self.logs();
        Ok(Agent::new(name, id, data, program, logs, clock_offset_secs))
    }

    /// What the server holds of each start of each agent.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn stored(&self, device: &str) -> anyhow::Result<Vec<Stored>> {
        let rows = self.drover(["data", "stats"])?;
        let number = |row: &Value, key: &str| {
            let value = row[key].as_u64();
            value.with_context(|| format!("data stats lacks {key}: {row}"))
        };
        rows.iter()
            .filter(|row| row["device"] == device)
            .map(|row| {
                Ok(Stored {
                    boot: number(row, "boot")?,
                    records: number(row, "records")?,
                    first_sequence: number(row, "first_sequence")?,
                    last_sequence: number(row, "last_sequence")?,
                    observations: number(row, "observations")?,
                    profiles: number(row, "profiles")?,
                    duplicates: number(row, "duplicates")?,
                })
            })
            .collect()
    }
}

/// What the server holds of one start of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Number of the start.
    pub boot: u64,
    /// Distinct records.
    pub records: u64,
    /// Lowest sequence.
    pub first_sequence: u64,
    /// Highest sequence.
    pub last_sequence: u64,
    /// Records that are observations.
    pub observations: u64,
    /// Records that are drift profiles.
    pub profiles: u64,
    /// Records that came again and were dropped.
    pub duplicates: u64,
}

impl Stored {
    /// Whether every sequence from 1 to the last one is there.
    pub fn is_gapless(&self) -> bool {
        self.first_sequence == 1 && self.records == self.last_sequence
    }
}

/// Writes a file anew.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    Ok(())
}
