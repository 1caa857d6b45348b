//! Keys, roots, bundles and signed instructions of a fleet of one device.

use drover_bundle::DType;
use drover_bundle::{
    Channel, Decision, FileRole, InputSpec, Manifest, Normalisation, OutputSpec, Requires, Scoring,
    TensorSpec, Tolerance, Window, container,
};
pub(crate) use drover_trust::fixture::key;
use drover_trust::fixture::{Keys, role_keys, signed_root};
use drover_trust::{
    AssignedBundle, Assignment, Catalog, DeviceId, Domain, Envelope, Listed, Role, Root,
    TrustedRoot,
};
use drover_wire::message::{Addressed, Digest, Down};

pub(crate) const MODEL: &str = "pump";
pub(crate) const ROOT_KEY: u8 = 1;
pub(crate) const RELEASE_KEYS: [u8; 2] = [2, 5];
pub(crate) const CATALOG_KEY: u8 = 3;
pub(crate) const FLEET_KEY: u8 = 4;
pub(crate) const DEVICE_KEY: u8 = 30;
/// When root 1 was made, in seconds since 1970.
pub(crate) const CREATED_S: u64 = 1000;
pub(crate) const DAY_S: u64 = 86_400;

/// What root 1 says: two release keys, one key of each other role.
pub(crate) fn root_metadata() -> Root {
    let mut root = Keys::new("test").root_metadata(1);
    root.created_unix_s = CREATED_S;
    root.expires_unix_s = 5000 * DAY_S;
    set_role(&mut root, Role::Release, 2, &RELEASE_KEYS);
    root
}

/// Names other keys for a role.
pub(crate) fn set_role(root: &mut Root, role: Role, threshold: u8, keys: &[u8]) {
    let keys = keys.iter().map(|&n| key(n).public()).collect();
    let entry = root.roles.iter_mut().find(|r| r.role == role).unwrap();
    *entry = role_keys(role, threshold, keys);
}

/// Root metadata signed by these keys.
pub(crate) fn root_envelope(root: &Root, signers: &[u8]) -> Envelope {
    let keys: Vec<_> = signers.iter().map(|&n| key(n)).collect();
    signed_root(root, &keys.iter().collect::<Vec<_>>())
}

pub(crate) fn trusted_root() -> TrustedRoot {
    let envelope = root_envelope(&root_metadata(), &[ROOT_KEY]);
    TrustedRoot::self_signed(envelope).unwrap()
}

pub(crate) fn device_id() -> DeviceId {
    DeviceId::of(&key(DEVICE_KEY).public())
}

/// A bundle as the server has it.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) manifest: Manifest,
    pub(crate) digest: Digest,
    pub(crate) envelope: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Bundle {
    pub(crate) fn new(counter: u64, signers: &[u8]) -> Self {
        Self::altered(counter, signers, |_| {})
    }

    /// With a model of this many bytes.
    pub(crate) fn sized(counter: u64, signers: &[u8], model_bytes: u32) -> Self {
        Self::build(counter, signers, model_bytes, |_| {})
    }

    pub(crate) fn altered(counter: u64, signers: &[u8], alter: impl FnOnce(&mut Manifest)) -> Self {
        Self::build(counter, signers, 40, alter)
    }

    fn build(
        counter: u64,
        signers: &[u8],
        model_bytes: u32,
        alter: impl FnOnce(&mut Manifest),
    ) -> Self {
        let (files, mut chunking, payload) = container::pack(vec![
            (
                "model.onnx".into(),
                FileRole::Model,
                (0..model_bytes).map(|n| n as u8 ^ counter as u8).collect(),
            ),
            ("golden.bin".into(), FileRole::Golden, vec![8; 10]),
        ]);
        chunking.chunk_bytes = 10;
        let sha = |bytes: &[u8]| {
            let (entries, _, _) =
                container::pack(vec![("x".into(), FileRole::Asset, bytes.to_vec())]);
            entries[0].sha256
        };
        chunking.digests = payload.chunks(10).map(sha).collect();
        let tensor = |name: &str| TensorSpec {
            name: name.into(),
            dtype: DType::F32,
            shape: vec![1, 2],
        };
        let mut manifest = Manifest {
            name: MODEL.into(),
            version: format!("{counter}.0.0"),
            counter,
            epoch: 1,
            lineage: Default::default(),
            components: Vec::new(),
            numerics: None,
            created_unix_s: 1000,
            description: String::new(),
            files,
            chunking,
            requires: Requires {
                engine: "tract".into(),
                arch: vec![],
                memory_bytes: 1000,
            },
            input: InputSpec {
                tensor: tensor("x"),
                channels: vec![Channel {
                    name: "a".into(),
                    unit: String::new(),
                }],
                window: Window { rows: 2, stride: 1 },
                normalisation: Normalisation::None,
                quantisation: None,
            },
            output: OutputSpec {
                tensor: tensor("y"),
                quantisation: None,
                scoring: Scoring::First,
                decision: Decision::None,
            },
            tolerance: Tolerance::RangeFraction(0.05),
        };
        alter(&mut manifest);
        let bytes = manifest.encode().unwrap();
        let digest = sha(&bytes);
        let mut envelope = Envelope::unsigned(bytes);
        for &n in signers {
            envelope.sign(Domain::Manifest, &key(n));
        }
        Self {
            manifest,
            digest,
            envelope: envelope.encode().unwrap(),
            payload,
        }
    }

    pub(crate) fn assigned(&self) -> AssignedBundle {
        AssignedBundle {
            name: self.manifest.name.clone(),
            digest: self.digest,
            counter: self.manifest.counter,
            total_bytes: self.manifest.total_bytes(),
            epoch: self.manifest.epoch,
        }
    }

    pub(crate) fn chunk(&self, index: u32) -> Vec<u8> {
        let chunks: Vec<&[u8]> = self.payload.chunks(10).collect();
        chunks[index as usize].to_vec()
    }
}

pub(crate) fn assignment(sequence: u64, bundles: Vec<AssignedBundle>) -> Assignment {
    Assignment {
        fleet: "test".into(),
        device: device_id(),
        sequence,
        nonce: [sequence as u8; 16],
        rollout: "r".into(),
        bundles,
        issued_unix_s: 2000,
        expires_unix_s: 9000,
        catalog_version: 1,
    }
}

pub(crate) fn assignment_bytes(assignment: &Assignment, signer: u8) -> Vec<u8> {
    let payload = assignment.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Assignment, &key(signer));
    envelope.encode().unwrap()
}

/// A catalog that lists these bundles.
pub(crate) fn catalog(version: u64, issued_unix_s: u64, bundles: &[AssignedBundle]) -> Catalog {
    let listed = |b: &AssignedBundle| Listed {
        name: b.name.clone(),
        version: format!("{}.0.0", b.counter),
        digest: b.digest,
        counter: b.counter,
        epoch: b.epoch,
        total_bytes: b.total_bytes,
    };
    Catalog {
        fleet: "test".into(),
        version,
        issued_unix_s,
        expires_unix_s: issued_unix_s.saturating_add(7 * DAY_S),
        releases: bundles.iter().map(listed).collect(),
    }
}

pub(crate) fn catalog_bytes(catalog: &Catalog, signer: u8) -> Vec<u8> {
    let payload = catalog.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Catalog, &key(signer));
    envelope.encode().unwrap()
}

/// Bytes of a message to a device.
pub(crate) fn down(message: Down, to: &str, sent_unix_s: u64, signer: u8) -> Vec<u8> {
    let addressed = Addressed {
        device: to.into(),
        sent_unix_s,
        message,
    };
    let payload = addressed.encode().unwrap();
    let envelope = Envelope::signed(payload, Domain::Down, &key(signer));
    envelope.encode().unwrap()
}
