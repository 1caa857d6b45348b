//! Prepares the sandbox once, and gives each row a copy of it.
//!
//! The first server and device run until the device has committed an honest model; then both
//! stop in good order and their folders are the template. A row's folder is a copy, so that
//! rows cannot disturb each other and each starts within a second. Ports stay: the addresses
//! in the device's enrolment hold for every copy.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_trust::{Catalog, Envelope};
use drover_wire::message::Down;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::artifact::{Artifact, Recipe};
use crate::attacker::{catalog_of, down_of};
use crate::broker::Broker;
use crate::clock::{Look, wait};
use crate::device::Device;
use crate::error::{Result, fail, io};
use crate::keys::{FLEET, Keys};
use crate::lab::{Lab, SOON};
use crate::server::{Server, Setup, Uses};

/// Switches checks off in test builds.
const SWITCH: &str = "DROVER_DISABLE_CHECK";
/// Folder of the template, and name of every row's device.
const TEMPLATE: &str = "template";
const DEVICE: &str = "device";

/// A prepared sandbox.
pub(crate) struct Suite {
    drover: PathBuf,
    agent: PathBuf,
    folder: PathBuf,
    runtime: Runtime,
    broker: Broker,
    keys: Keys,
    root: Envelope,
    http: SocketAddr,
    device: String,
    catalog: Catalog,
    first: Artifact,
}

impl Suite {
    /// Makes keys, starts server and device, and lets the device commit a first model.
    pub(crate) fn prepare(drover: &Path, agent: &Path, folder: &Path) -> Result<Self> {
        let folder_of_template = folder.join(TEMPLATE);
        make(&folder_of_template)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = io(|| "start threads".into(), runtime)?;
        let keys = Keys::draw()?;
        let root = keys.first_root()?;
        let (listener, addr) = Broker::bind()?;
        let setup = Setup {
            program: drover.to_owned(),
            folder: folder_of_template.clone(),
            http: ([127, 0, 0, 1], 0).into(),
            uses: Uses::Broker(addr),
            more: String::new(),
            // The time before the attacks was honest, also in a test build whose checks are
            // switched off by a variable.
            env: vec![(SWITCH.into(), String::new())],
        };
        setup.hand_over(&keys, &root)?;
        let mut server = Server::start(setup)?;
        let data = server.setup().data();
        let broker = Broker::open(&runtime, listener, &data, FLEET)?;
        connected(&broker)?;
        let http = server.addr().parse();
        let Ok(http) = http else {
            return fail(format!("the server listens at {:?}", server.addr()));
        };
        let token = server.token()?;
        let mut device = Device::enrol(agent, &folder_of_template, DEVICE, &server.url(), &token)?;
        device.set_env(SWITCH, "");
        device.start()?;
        let first = Recipe::honest(1).make()?.signed(&keys.release_signers());
        server.publish(&first)?;
        server.roll_out(&first, &device.id)?;
        let served = device.serves_within(first.weight, Duration::from_secs(30));
        let settled = served.and_then(|()| {
            device.wait_status("the first model to be committed", SOON, |status| {
                let update = status.pointer("/fleet/update").and_then(Value::as_str);
                (update == Some("committed")).then_some(())
            })
        });
        settled.or_else(|error| {
            let (device, server) = (device.log(), server.log());
            fail(format!(
                "{error}; the device says: {device}; the server says: {server}"
            ))
        })?;
        let catalog = broker.wait_for(
            "a catalog of the server",
            SOON,
            0,
            |message| match down_of(message)?.message {
                Down::Desired { catalog, .. } => Some(catalog),
                _ => None,
            },
        )?;
        device.stop()?;
        server.stop()?;
        Ok(Self {
            drover: drover.to_owned(),
            agent: agent.to_owned(),
            folder: folder.to_owned(),
            runtime,
            broker,
            keys,
            root,
            http,
            device: device.id,
            catalog: catalog_of(&catalog)?,
            first,
        })
    }

    /// The runtime that the suite's own clients share with the broker.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// A row's world, with server and device running.
    pub(crate) fn lab(&self, row: &str) -> Result<Lab> {
        let mut lab = self.lab_at_rest(row, |_| ())?;
        lab.device.start()?;
        lab.device.serves_within(lab.weight, SOON)?;
        self.ready(&lab)?;
        Ok(lab)
    }

    /// A row's world with its server as `change` wants it, and a device that does not run.
    pub(crate) fn lab_at_rest(&self, row: &str, change: impl FnOnce(&mut Setup)) -> Result<Lab> {
        let folder = self.folder.join(row);
        make(&folder)?;
        let template = self.folder.join(TEMPLATE);
        for name in ["server", DEVICE] {
            copy(&template.join(name), &folder.join(name))?;
        }
        self.broker.reset();
        let mut setup = Setup {
            program: self.drover.clone(),
            folder: folder.clone(),
            http: self.http,
            uses: Uses::Broker(self.broker.addr()),
            more: String::new(),
            env: Vec::new(),
        };
        change(&mut setup);
        setup.hand_over(&self.keys, &self.root)?;
        let uses = setup.uses;
        let server = Server::start(setup)?;
        if matches!(uses, Uses::Broker(_)) {
            connected(&self.broker)?;
        }
        let device = Device::at(&self.agent, &folder, DEVICE, self.device.clone());
        Ok(Lab {
            folder,
            agent: self.agent.clone(),
            keys: self.keys.clone(),
            first_root: self.root.clone(),
            root_version: 1,
            broker: self.broker.clone(),
            server,
            device,
            first: self.first.clone(),
            catalog: self.catalog.clone(),
            weight: 1.0,
            next_counter: 2,
            ahead_s: 0,
            epoch: 0,
            ordered: Cell::new(0),
            forged: RefCell::new(None),
        })
    }

    /// Waits until the device hears its own topic.
    pub(crate) fn ready(&self, lab: &Lab) -> Result<()> {
        wait("the device to connect", SOON, || {
            Ok(if lab.broker.is_heard(&lab.down_topic()) {
                Look::Ready(())
            } else {
                Look::NotYet(lab.device.log())
            })
        })
    }

    /// Removes what a row left.
    pub(crate) fn clear(&self, row: &str) {
        // The sandbox as a whole goes later, if it can.
        let _ = std::fs::remove_dir_all(self.folder.join(row));
    }
}

fn connected(broker: &Broker) -> Result<()> {
    wait("the server to use the attacker's broker", SOON, || {
        Ok(if broker.is_heard("drover/v1/d/x/up") {
            Look::Ready(())
        } else {
            Look::NotYet("it does not listen to devices".into())
        })
    })
}

fn make(folder: &Path) -> Result<()> {
    io(
        || format!("make {}", folder.display()),
        std::fs::create_dir_all(folder),
    )
}

/// Copies a folder; sockets stay behind.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let act = || -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        std::fs::set_permissions(to, from.metadata()?.permissions())?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                copy(&entry.path(), &target).map_err(|e| std::io::Error::other(e.to_string()))?;
            } else if kind.is_file() {
                std::fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    };
    io(|| format!("copy {}", from.display()), act())
}
