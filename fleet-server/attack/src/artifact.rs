//! Bundles of the suite: honest ones, and every way to get one wrong.
//!
//! They are put together by hand, since the builder refuses to make what must be refused.

use drover_bundle::manifest::{
    Channel, Chunking, Decision, FileEntry, FileRole, InputSpec, Lineage, Manifest, Normalisation,
    OutputSpec, Requires, Scoring, TensorSpec, Tolerance, Window,
};
use drover_bundle::{Container, DType, GoldenCase, GoldenVectors, Tensor};
use drover_trust::{AssignedBundle, Domain, Envelope, Listed, SecretKey};
use sha2::{Digest as _, Sha256};

use crate::error::{Result, fail};
use crate::{clock, onnx};

/// Name of the model that every honest bundle carries.
pub(crate) const MODEL: &str = "pump";
/// Bytes of each chunk but the last.
const CHUNK_BYTES: u32 = 4096;

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) counter: u64,
    pub(crate) epoch: u64,
    /// The model answers `weight * x`; golden vectors say so whatever `model` is.
    pub(crate) weight: f32,
    pub(crate) model: Option<Vec<u8>>,
    pub(crate) arch: Vec<String>,
    pub(crate) memory_bytes: u64,
    /// Length of a file that does nothing, so that there are several chunks.
    pub(crate) ballast: usize,
}

impl Recipe {
    /// An honest bundle of version `counter`, whose answers are `counter * x`.
    pub(crate) fn honest(counter: u64) -> Self {
        Self {
            counter,
            epoch: 0,
            weight: counter as f32,
            model: None,
            arch: Vec::new(),
            memory_bytes: 1 << 20,
            ballast: 20_000,
        }
    }

    /// A bundle of the attacker: under the same name, with answers that give it away.
    pub(crate) fn evil(counter: u64) -> Self {
        Self {
            weight: EVIL,
            ..Self::honest(counter)
        }
    }

    /// Makes the bundle; nobody has signed it.
    pub(crate) fn make(self) -> Result<Artifact> {
        let model = self.model.unwrap_or_else(|| onnx::times(self.weight));
        let tensor = |v: f32| Tensor::from_f32(vec![1, 1], &[v]);
        let cases = [0.5f32, 3.0].iter().map(|&x| {
            Ok(GoldenCase {
                input: tensor(x)?,
                output: tensor(x * self.weight)?,
            })
        });
        let cases: std::result::Result<_, drover_bundle::TensorError> = cases.collect();
        let Ok(cases) = cases else {
            return fail("golden vectors of the suite are not tensors");
        };
        let golden = match (GoldenVectors { cases }).encode() {
            Ok(golden) => golden,
            Err(error) => return fail(error.to_string()),
        };
        // Bytes that nothing else contains, for whoever looks for them in the traffic.
        let ballast = (0..self.ballast).map(|i| marker(self.counter, i)).collect();
        let files = vec![
            ("model.onnx".to_owned(), FileRole::Model, model),
            ("golden.bin".to_owned(), FileRole::Golden, golden),
            ("ballast.bin".to_owned(), FileRole::Asset, ballast),
        ];
        let tensor = |name: &str| TensorSpec {
            name: name.into(),
            dtype: DType::F32,
            shape: vec![1, 1],
        };
        let (entries, chunking, payload) = pack(files, CHUNK_BYTES);
        let manifest = Manifest {
            name: MODEL.into(),
            version: format!("{}.0.0", self.counter),
            counter: self.counter,
            epoch: self.epoch,
            created_unix_s: clock::unix_s(),
            description: "a model of the attack suite".into(),
            files: entries,
            chunking,
            requires: Requires {
                engine: "tract".into(),
                arch: self.arch,
                memory_bytes: self.memory_bytes,
            },
            input: InputSpec {
                tensor: tensor("x"),
                channels: vec![Channel {
                    name: "a".into(),
                    unit: String::new(),
                }],
                window: Window { rows: 1, stride: 1 },
                normalisation: Normalisation::None,
                quantisation: None,
            },
            output: OutputSpec {
                tensor: tensor("y"),
                quantisation: None,
                scoring: Scoring::First,
                decision: Decision::None,
            },
            tolerance: Tolerance::RangeFraction(0.01),
            lineage: Lineage::default(),
            components: Vec::new(),
            numerics: None,
        };
        Ok(Artifact::of(manifest, payload, self.weight))
    }
}

/// What a model of the attacker answers for `x = 1`.
pub(crate) const EVIL: f32 = 666.0;

fn marker(counter: u64, index: usize) -> u8 {
    let seed = Sha256::digest([counter.to_le_bytes(), (index as u64 / 32).to_le_bytes()].concat());
    seed.get(index % 32).copied().unwrap_or(0)
}

fn pack(
    files: Vec<(String, FileRole, Vec<u8>)>,
    chunk_bytes: u32,
) -> (Vec<FileEntry>, Chunking, Vec<u8>) {
    let mut entries = Vec::new();
    let mut payload = Vec::new();
    for (name, role, bytes) in files {
        entries.push(FileEntry {
            name,
            role,
            size: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
        });
        payload.extend(bytes);
    }
    let chunking = Chunking {
        chunk_bytes,
        digests: digests(&payload, chunk_bytes),
    };
    (entries, chunking, payload)
}

fn digests(payload: &[u8], chunk_bytes: u32) -> Vec<[u8; 32]> {
    let chunks = payload.chunks(chunk_bytes.max(1) as usize);
    chunks.map(|c| Sha256::digest(c).into()).collect()
}

/// A bundle with its parts open to change.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) manifest: Manifest,
    pub(crate) payload: Vec<u8>,
    pub(crate) envelope: Envelope,
    /// What its model answers for `x = 1`.
    pub(crate) weight: f32,
}

impl Artifact {
    fn of(manifest: Manifest, payload: Vec<u8>, weight: f32) -> Self {
        // Without the rules of `Manifest::encode`: some bundles here break them.
        let bytes = postcard::to_extend(&manifest, vec![drover_bundle::manifest::VERSION]);
        Self {
            envelope: Envelope::unsigned(bytes.unwrap_or_default()),
            manifest,
            payload,
            weight,
        }
    }

    /// Another manifest over the same payload; signatures are gone.
    pub(crate) fn with_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Self {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        Self::of(manifest, self.payload.clone(), self.weight)
    }

    /// The same files with bytes behind the last of them, which its chunks vouch for;
    /// signatures are gone.
    pub(crate) fn with_tail(&self, tail: &[u8]) -> Self {
        let payload = [&self.payload, tail].concat();
        let mut manifest = self.manifest.clone();
        manifest.chunking.digests = digests(&payload, manifest.chunking.chunk_bytes);
        Self::of(manifest, payload, self.weight)
    }

    /// Where a file lies in the payload.
    pub(crate) fn range_of(&self, role: FileRole) -> Option<std::ops::Range<usize>> {
        let mut start = 0usize;
        for file in &self.manifest.files {
            let end = start + usize::try_from(file.size).ok()?;
            if file.role == role {
                return Some(start..end);
            }
            start = end;
        }
        None
    }

    /// Other bytes as the manifest; signatures are gone.
    pub(crate) fn with_manifest_bytes(&self, bytes: Vec<u8>) -> Self {
        Self {
            envelope: Envelope::unsigned(bytes),
            ..self.clone()
        }
    }

    /// Signed by these keys too.
    pub(crate) fn signed(mut self, keys: &[&SecretKey]) -> Self {
        for key in keys {
            self.envelope.sign(Domain::Manifest, key);
        }
        self
    }

    /// Identity of the bundle.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.envelope.unverified_payload()).into()
    }

    /// The container file that is published.
    pub(crate) fn container(&self) -> Result<Vec<u8>> {
        let container = Container {
            envelope: self.envelope.clone(),
            payload: self.payload.clone(),
        };
        container.encode().or_else(|e| fail(e.to_string()))
    }

    /// The chunks, in order.
    pub(crate) fn chunks(&self) -> Vec<Vec<u8>> {
        let size = self.manifest.chunking.chunk_bytes.max(1) as usize;
        self.payload.chunks(size).map(<[u8]>::to_vec).collect()
    }

    /// As an assignment names it.
    pub(crate) fn assigned(&self) -> AssignedBundle {
        AssignedBundle {
            name: self.manifest.name.clone(),
            digest: self.digest(),
            counter: self.manifest.counter,
            total_bytes: self.manifest.total_bytes(),
            epoch: self.manifest.epoch,
        }
    }

    /// As a catalog lists it.
    pub(crate) fn listed(&self) -> Listed {
        let AssignedBundle {
            name,
            digest,
            counter,
            total_bytes,
            epoch,
        } = self.assigned();
        Listed {
            name,
            version: self.manifest.version.clone(),
            digest,
            counter,
            epoch,
            total_bytes,
        }
    }
}
