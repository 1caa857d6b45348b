//! What an attacker makes of stolen keys: messages, orders and catalogs that are signed as
//! they should be and say what they should not.

use drover_trust::{
    AssignedBundle, Assignment, Catalog, DeviceId, Domain, Envelope, Listed, SecretKey,
};
use drover_wire::chunk::Chunk;
use drover_wire::message::{Addressed, Down, Numbered, Up};
use drover_wire::topic;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::broker::{Message, Verdict};
use crate::clock;
use crate::error::{Result, fail};
use crate::keys::{FLEET, Keys, random};

/// An instruction under construction: an assignment with its catalog.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) assignment: Assignment,
    pub(crate) catalog: Catalog,
    /// Key that signs the assignment: the stolen one, or another.
    pub(crate) fleet: SecretKey,
    /// Key that signs the catalog.
    pub(crate) catalog_key: SecretKey,
}

impl Order {
    /// Runs `artifacts` on `device`, with a catalog that follows `base` and lists them.
    pub(crate) fn new(
        keys: &Keys,
        device: &str,
        sequence: u64,
        base: &Catalog,
        artifacts: &[&Artifact],
    ) -> Result<Self> {
        let now = clock::unix_s();
        let catalog = listing(base, artifacts, now);
        Ok(Self {
            assignment: Assignment {
                fleet: FLEET.into(),
                device: DeviceId::parse(device)?,
                sequence,
                nonce: random()?,
                rollout: "attack".into(),
                bundles: artifacts.iter().map(|a| a.assigned()).collect(),
                issued_unix_s: now,
                expires_unix_s: now + 86_400,
                catalog_version: catalog.version,
            },
            catalog,
            fleet: keys.fleet.clone(),
            catalog_key: keys.catalog.clone(),
        })
    }

    /// The one bundle that it names, to change what is claimed of it.
    pub(crate) fn bundle(&mut self) -> Option<&mut AssignedBundle> {
        self.assignment.bundles.first_mut()
    }

    /// The message to the device.
    pub(crate) fn message(&self) -> Result<Down> {
        let assignment =
            Envelope::signed(self.assignment.encode()?, Domain::Assignment, &self.fleet);
        Ok(Down::Desired {
            assignment: assignment.encode()?,
            catalog: self.signed_catalog()?,
        })
    }

    /// The catalog alone.
    pub(crate) fn signed_catalog(&self) -> Result<Vec<u8>> {
        let payload = self.catalog.encode()?;
        Ok(Envelope::signed(payload, Domain::Catalog, &self.catalog_key).encode()?)
    }
}

/// A catalog that lists `artifacts`: `base` itself if it does, otherwise a successor.
fn listing(base: &Catalog, artifacts: &[&Artifact], now: u64) -> Catalog {
    let mut catalog = base.clone();
    for artifact in artifacts {
        let listed = artifact.listed();
        let is_same = |r: &Listed| r.name == listed.name && r.counter == listed.counter;
        catalog.releases.retain(|r| !is_same(r));
        catalog.releases.push(listed);
    }
    if catalog != *base {
        catalog.version += 1;
        catalog.issued_unix_s = now;
        catalog.expires_unix_s = now + 86_400;
    }
    catalog
}

/// A message to `device`, addressed and signed with `key` as the fleet's server does.
pub(crate) fn addressed(key: &SecretKey, device: &str, message: Down) -> Result<Vec<u8>> {
    addressed_at(key, device, message, clock::unix_s())
}

/// [`addressed`] with any time as the server's.
pub(crate) fn addressed_at(
    key: &SecretKey,
    device: &str,
    message: Down,
    sent_unix_s: u64,
) -> Result<Vec<u8>> {
    let addressed = Addressed {
        device: device.into(),
        sent_unix_s,
        message,
    };
    Ok(Envelope::signed(addressed.encode()?, Domain::Down, key).encode()?)
}

/// What a device says in a message that was seen.
pub(crate) fn up_of(message: &Message) -> Option<Numbered> {
    topic::device_of_up(&message.topic)?;
    let envelope = Envelope::decode(&message.payload).ok()?;
    Numbered::decode(envelope.unverified_payload()).ok()
}

/// What the server says in a message that was seen.
pub(crate) fn down_of(message: &Message) -> Option<Addressed> {
    message.topic.strip_suffix("/down")?;
    let envelope = Envelope::decode(&message.payload).ok()?;
    Addressed::decode(envelope.unverified_payload()).ok()
}

/// The catalog in an encoded envelope.
pub(crate) fn catalog_of(envelope: &[u8]) -> Result<Catalog> {
    let envelope = Envelope::decode(envelope)?;
    let bytes = envelope.unverified_payload().get(1..).unwrap_or_default();
    postcard::from_bytes(bytes).or_else(|_| fail("the server's catalog does not parse"))
}

/// How the attacker serves a bundle of its own.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) device: String,
    pub(crate) key: SecretKey,
    pub(crate) digest: [u8; 32],
    /// Encoded envelope that answers a request for the manifest; none for silence.
    pub(crate) manifest: Option<Vec<u8>>,
    /// Encoded chunks; none for silence.
    pub(crate) chunks: Vec<Option<Vec<u8>>>,
}

impl Serving {
    /// Serves `artifact` to `device` as its assignment names it.
    pub(crate) fn new(keys: &Keys, device: &str, artifact: &Artifact) -> Result<Self> {
        Ok(Self {
            device: device.into(),
            key: keys.fleet.clone(),
            digest: artifact.digest(),
            manifest: Some(artifact.envelope.encode()?),
            chunks: artifact.chunks().into_iter().map(Some).collect(),
        })
    }

    /// The rule for the broker: answers what the device asks of this bundle, lets the rest
    /// pass.
    pub(crate) fn answer(&self, message: &Message) -> Verdict {
        let Some(numbered) = up_of(message) else {
            return Verdict::Pass;
        };
        let bundle = topic::bundle(&self.digest);
        match numbered.message {
            Up::WantManifest { digest } if digest == self.digest => {
                let down = self.manifest.as_ref().and_then(|envelope| {
                    let envelope = envelope.clone();
                    addressed(&self.key, &self.device, Down::Manifest { digest, envelope }).ok()
                });
                let topic = topic::down(&self.device);
                Verdict::Instead(down.into_iter().map(|d| (topic.clone(), d)).collect())
            }
            Up::WantChunks { digest, missing } if digest == self.digest => {
                let chunk = |index: u32| {
                    let bytes = self.chunks.get(index as usize)?.as_deref()?;
                    Some((bundle.clone(), Chunk { index, bytes }.encode()))
                };
                Verdict::Instead(missing.iter().filter_map(chunk).collect())
            }
            _ => Verdict::Pass,
        }
    }
}

/// An envelope's bytes with its parts open to change, as `Envelope` itself never lets them be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RawEnvelope {
    pub(crate) payload: Vec<u8>,
    pub(crate) signatures: Vec<RawSignature>,
}

/// One signature: key, R and S.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RawSignature {
    pub(crate) key: [u8; 32],
    pub(crate) r: [u8; 32],
    pub(crate) s: [u8; 32],
}

impl RawEnvelope {
    /// Takes an envelope apart.
    pub(crate) fn of(envelope: &Envelope) -> Result<Self> {
        let bytes = envelope.encode()?;
        postcard::from_bytes(&bytes).or_else(|_| fail("an envelope does not come apart"))
    }

    /// Its encoded form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

/// Signs a payload as `role` never would: with any key and for any domain.
pub(crate) fn mis_signed(artifact: &Artifact, domain: Domain, key: &SecretKey) -> Envelope {
    let payload = artifact.envelope.unverified_payload().to_vec();
    Envelope::signed(payload, domain, key)
}
