//! The honest server and its broker, and the conversation with a device.

use drover_agent_core::Event;
use drover_trust::{AssignedBundle, Envelope, Root};
use drover_wire::message::{Digest, Down, Phase, RootChain, Up};

use super::device::{Cut, Device};
use super::fixture::{
    Bundle, CATALOG_KEY, DAY_S, FLEET_KEY, assignment, assignment_bytes, catalog, catalog_bytes,
    device_id, down, root_envelope, root_metadata,
};

/// An honest server and broker.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) bundles: Vec<Bundle>,
    /// What the catalog lists.
    pub(crate) listed: Vec<AssignedBundle>,
    /// Counts the changes of the catalog's content.
    pub(crate) catalog_version: u64,
    pub(crate) assignment: Option<Vec<u8>>,
    pub(crate) now_s: u64,
    pub(crate) fleet_key: u8,
    pub(crate) catalog_key: u8,
    /// What the newest root says.
    pub(crate) root: Root,
    /// Successors of root 1.
    pub(crate) roots: Vec<Envelope>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bundles: Vec::new(),
            listed: Vec::new(),
            catalog_version: 1,
            assignment: None,
            now_s: 2000,
            fleet_key: FLEET_KEY,
            catalog_key: CATALOG_KEY,
            root: root_metadata(),
            roots: Vec::new(),
        }
    }
}

/// Something on its way to the device.
#[derive(Clone, Debug)]
pub(crate) enum Mail {
    Message(Vec<u8>),
    Roots(Vec<u8>),
    Chunk(Digest, u32, Vec<u8>),
}

impl Server {
    /// Publishes a bundle and assigns it.
    pub(crate) fn assign(&mut self, sequence: u64, bundle: &Bundle) {
        self.bundles.push(bundle.clone());
        self.list(bundle.assigned());
        let mut assignment = assignment(sequence, vec![bundle.assigned()]);
        assignment.expires_unix_s = self.now_s + 7 * DAY_S;
        self.assignment = Some(assignment_bytes(&assignment, self.fleet_key));
    }

    /// Lists a bundle in place of one with the same name and counter.
    pub(crate) fn list(&mut self, bundle: AssignedBundle) {
        if self.listed.contains(&bundle) {
            return;
        }
        let same = |b: &AssignedBundle| b.name == bundle.name && b.counter == bundle.counter;
        self.listed.retain(|b| !same(b));
        self.listed.push(bundle);
        self.catalog_version += 1;
    }

    /// The catalog of today.
    pub(crate) fn catalog(&self) -> Vec<u8> {
        let today = self.now_s / DAY_S;
        let version = self.catalog_version * 1_000_000 + today;
        let catalog = catalog(version, today * DAY_S, &self.listed);
        catalog_bytes(&catalog, self.catalog_key)
    }

    /// Desired state with these bytes as the assignment.
    pub(crate) fn desired(&self, assignment: Vec<u8>) -> Down {
        Down::Desired {
            assignment,
            catalog: self.catalog(),
        }
    }

    pub(crate) fn message(&self, message: Down) -> Mail {
        let id = device_id();
        Mail::Message(down(message, id.as_str(), self.now_s, self.fleet_key))
    }

    /// A new root follows the newest.
    pub(crate) fn rotate(&mut self, signers: &[u8], alter: impl FnOnce(&mut Root)) {
        self.root.version += 1;
        self.root.created_unix_s = self.now_s;
        alter(&mut self.root);
        self.roots.push(root_envelope(&self.root, signers));
    }

    /// Every root that follows root 1.
    pub(crate) fn chain(&self) -> Vec<u8> {
        let roots = self.roots.iter().map(|r| r.encode().unwrap()).collect();
        RootChain { roots }.encode().unwrap()
    }

    pub(crate) fn answer(&self, up: &Up) -> Vec<Mail> {
        let find = |digest: &Digest| self.bundles.iter().find(|b| b.digest == *digest);
        match up {
            Up::Trust(report) if report.root_version <= self.roots.len() as u64 => {
                vec![Mail::Roots(self.chain())]
            }
            Up::Hello(_) => {
                let desired = self.assignment.clone().map(|a| self.desired(a));
                desired.map(|d| self.message(d)).into_iter().collect()
            }
            Up::WantManifest { digest } => {
                let digest = *digest;
                vec![self.message(match find(&digest) {
                    Some(bundle) => Down::Manifest {
                        digest,
                        envelope: bundle.envelope.clone(),
                    },
                    None => Down::Unknown { digest },
                })]
            }
            Up::WantChunks { digest, missing } => {
                let Some(bundle) = find(digest) else {
                    return vec![self.message(Down::Unknown { digest: *digest })];
                };
                let chunk = |i| Mail::Chunk(*digest, i, bundle.chunk(i));
                missing.iter().map(chunk).collect()
            }
            Up::Trust(_) | Up::State(_) | Up::Batch(_) => vec![],
        }
    }
}

pub(crate) fn deliver(device: &mut Device, mail: Mail) -> Result<(), Cut> {
    match mail {
        Mail::Message(bytes) => device.message(&bytes),
        Mail::Roots(bytes) => device.on(Event::Roots { bytes }),
        Mail::Chunk(digest, index, bytes) => device.on(Event::Chunk {
            digest,
            index,
            bytes,
        }),
    }
}

/// Connects if need be and lets both talk until nothing more happens.
pub(crate) fn settle(device: &mut Device, server: &Server) -> Result<(), Cut> {
    if !device.connected {
        device.on(Event::Connected)?;
    }
    for _ in 0..200 {
        while let Some(up) = device.up.pop_front() {
            for mail in server.answer(&up) {
                deliver(device, mail)?;
            }
        }
        if !device.wait()? && device.up.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

/// A device that runs `bundle`, and its server.
pub(crate) fn committed(bundle: &Bundle) -> (Device, Server) {
    let mut device = Device::new();
    let mut server = Server::default();
    device.signed.insert(bundle.digest);
    server.assign(1, bundle);
    settle(&mut device, &server).unwrap();
    assert_eq!(
        device.phase(),
        Phase::Committed {
            digest: bundle.digest
        }
    );
    (device, server)
}

/// Lets the device connect anew and run what the server assigns.
pub(crate) fn updates(device: &mut Device, server: &mut Server, sequence: u64, bundle: &Bundle) {
    device.signed.insert(bundle.digest);
    server.assign(sequence, bundle);
    reconnect(device, server);
    assert_eq!(device.running, Some(bundle.digest), "{:?}", device.phase());
}

/// Lets the device connect anew.
pub(crate) fn reconnect(device: &mut Device, server: &Server) {
    device.on(Event::Disconnected).unwrap();
    settle(device, server).unwrap();
}

/// Says something that the honest server could say.
pub(crate) fn tell(device: &mut Device, server: &Server, message: Down) {
    deliver(device, server.message(message)).unwrap();
}

/// Roots as they come on their topic.
pub(crate) fn roots(roots: &[Envelope]) -> Event {
    let roots = roots.iter().map(|r| r.encode().unwrap()).collect();
    let bytes = RootChain { roots }.encode().unwrap();
    Event::Roots { bytes }
}
