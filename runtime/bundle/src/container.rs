//! The container: one `.drover` file that holds a signed manifest and the files it names.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `DROVER`, 0, format version 1 |
//! | 4 | length of the envelope, u32 little-endian |
//! | n | encoded envelope (`drover-trust`) around the manifest |
//! | rest | the files, concatenated in the manifest's order: the payload |
//!
//! The payload is what travels in chunks. A container is only a frame: its content is not
//! to be used before [`VerifiedManifest::check_payload`] has passed.

use drover_trust::mutation::{Check, is_disabled};
use drover_trust::{Domain, Envelope, Role, TrustError, TrustedRoot};
use sha2::{Digest as _, Sha256};

use crate::manifest::{Chunking, FileEntry, FileRole, Manifest, ManifestError};

const MAGIC: [u8; 8] = *b"DROVER\0\x01";

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not a container, or cut short.
    #[error("not a drover bundle: {0}")]
    Frame(&'static str),
    /// The signatures do not reach the release role's threshold.
    #[error("the bundle's signatures are not acceptable")]
    Signature(#[source] TrustError),
    /// Not the bundle whose digest the device holds.
    #[error("the bundle is not the one that was committed (SHA-256 mismatch)")]
    Committed,
    /// The manifest is not acceptable.
    #[error("the bundle's manifest is not acceptable")]
    Manifest(#[source] ManifestError),
    /// The payload is longer or shorter than the manifest says.
    #[error("the bundle's files have {got} bytes, the manifest names {wanted}")]
    Length {
        /// Bytes there are.
        got: u64,
        /// Bytes the manifest names.
        wanted: u64,
    },
    /// A file differs from what was signed.
    #[error("file {name} differs from what was signed (SHA-256 mismatch)")]
    File {
        /// Name in the manifest.
        name: String,
    },
    /// A chunk differs from what was signed.
    #[error("chunk {index} differs from what was signed (SHA-256 mismatch)")]
    Chunk {
        /// Position in the payload.
        index: u32,
    },
}

/// A container as it lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The manifest with its signatures.
    pub envelope: Envelope,
    /// The files, concatenated.
    pub payload: Vec<u8>,
}

impl Container {
    /// Bytes of the file.
    ///
    /// # Errors
    /// [`BundleError::Frame`] when the envelope is over its limit.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        const TOO_LARGE: BundleError = BundleError::Frame("its envelope is too large");
        let envelope = self.envelope.encode().map_err(|_| TOO_LARGE)?;
        let len = u32::try_from(envelope.len()).map_err(|_| TOO_LARGE)?;
        let mut out = Vec::with_capacity(12 + envelope.len() + self.payload.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&envelope);
        out.extend_from_slice(&self.payload);
        Ok(out)
    }

    /// Reads the frame; nothing is verified yet.
    ///
    /// # Errors
    /// [`BundleError::Frame`] when it is not a container.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| {
            let known = bytes.starts_with(&MAGIC[..7]);
            BundleError::Frame(if known {
                "its format version is unknown to this build"
            } else {
                "it does not start with the mark of one"
            })
        })?;
        let cut_short = BundleError::Frame("it is cut short");
        let Some((len, rest)) = rest.split_first_chunk::<4>() else {
            return Err(cut_short);
        };
        let len = u32::from_le_bytes(*len) as usize;
        let Some((envelope, payload)) = rest.split_at_checked(len) else {
            return Err(cut_short);
        };
        let envelope = Envelope::decode(envelope)
            .map_err(|_| BundleError::Frame("its signature block does not parse"))?;
        Ok(Self {
            envelope,
            payload: payload.to_vec(),
        })
    }

    /// Verifies signatures, manifest and files: every byte is hashed once, because the files
    /// are all that the payload holds. Whether it can travel is
    /// [`VerifiedManifest::check_chunks`]'s to say.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, root: &TrustedRoot) -> Result<VerifiedManifest, BundleError> {
        let verified = VerifiedManifest::open(&self.envelope, root)?;
        verified.check_payload(&self.payload)?;
        Ok(verified)
    }

    /// The manifest and intact files of a bundle that nobody needs to have signed: for
    /// development on one machine, never for a device in a fleet.
    ///
    /// # Errors
    /// Manifest and integrity errors as of [`Self::verify`].
    pub fn open_unsigned(&self) -> Result<Manifest, BundleError> {
        let bytes = self.envelope.unverified_payload();
        let manifest = Manifest::decode(bytes).map_err(BundleError::Manifest)?;
        check_payload(&manifest, &self.payload)?;
        check_chunks(&manifest, &self.payload)?;
        Ok(manifest)
    }
}

/// A manifest that the release role has signed, now or when the device committed it. Only
/// [`Self::open`] and [`Self::committed`] make one, so whoever holds it need not ask again.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    digest: [u8; 32],
}

impl VerifiedManifest {
    /// Verifies the release role's signatures, then parses.
    ///
    /// # Errors
    /// [`BundleError::Signature`] or [`BundleError::Manifest`].
    pub fn open(envelope: &Envelope, root: &TrustedRoot) -> Result<Self, BundleError> {
        let payload = root
            .verify(Role::Release, Domain::Manifest, envelope)
            .map_err(BundleError::Signature)?;
        Ok(Self {
            manifest: Manifest::decode(payload).map_err(BundleError::Manifest)?,
            digest: sha256(payload),
        })
    }

    /// Opens what the device has committed before, by the digest in its durable state alone.
    ///
    /// The signatures were verified before the commit and are not asked again: a release key
    /// that expires or is revoked later must not stop a device that works. The digest binds
    /// the bytes as firmly as a signature did, as long as nobody but the device writes its
    /// durable state. For anything that came over a network use [`Self::open`].
    ///
    /// # Errors
    /// [`BundleError::Frame`] when the bytes are no envelope, [`BundleError::Committed`] when
    /// they are another bundle's, [`BundleError::Manifest`].
    pub fn committed(envelope: &[u8], digest: &[u8; 32]) -> Result<Self, BundleError> {
        let envelope = Envelope::decode(envelope)
            .map_err(|_| BundleError::Frame("its signature block does not parse"))?;
        let payload = envelope.unverified_payload();
        if sha256(payload) != *digest {
            return Err(BundleError::Committed);
        }
        Ok(Self {
            manifest: Manifest::decode(payload).map_err(BundleError::Manifest)?,
            digest: *digest,
        })
    }

    /// What was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the signed bytes: the identity of the bundle.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether `bytes` are the chunk at `index`.
    ///
    /// # Errors
    /// [`BundleError::Chunk`] when they are not, or when there is no such chunk.
    pub fn check_chunk(&self, index: u32, bytes: &[u8]) -> Result<(), BundleError> {
        let wanted = self.manifest.chunking.digests.get(index as usize);
        if wanted.is_some_and(|w| *w == sha256(bytes) || is_disabled(Check::ChunkDigest)) {
            Ok(())
        } else {
            Err(BundleError::Chunk { index })
        }
    }

    /// Whether `payload` holds exactly the signed files.
    ///
    /// # Errors
    /// [`BundleError::Length`] or [`BundleError::File`].
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), BundleError> {
        check_payload(&self.manifest, payload)
    }

    /// Whether the chunks of `payload`, whose files are intact, have the digests by which
    /// devices judge them: otherwise the bundle is what was signed and can never be fetched.
    /// For whoever hands chunks out.
    ///
    /// # Errors
    /// [`BundleError::Chunk`].
    pub fn check_chunks(&self, payload: &[u8]) -> Result<(), BundleError> {
        check_chunks(&self.manifest, payload)
    }
}

fn check_payload(manifest: &Manifest, payload: &[u8]) -> Result<(), BundleError> {
    let wanted = manifest.total_bytes();
    let surplus_is_let_in = is_disabled(Check::ExactFiles) && payload.len() as u64 > wanted;
    if payload.len() as u64 != wanted && !surplus_is_let_in {
        return Err(BundleError::Length {
            got: payload.len() as u64,
            wanted,
        });
    }
    for (entry, bytes) in files(manifest, payload) {
        if sha256(bytes) != entry.sha256 && !is_disabled(Check::FileHash) {
            return Err(BundleError::File {
                name: entry.name.clone(),
            });
        }
    }
    Ok(())
}

fn check_chunks(manifest: &Manifest, payload: &[u8]) -> Result<(), BundleError> {
    let chunk_bytes = manifest.chunking.chunk_bytes.max(1) as usize;
    for ((index, chunk), digest) in (0..)
        .zip(payload.chunks(chunk_bytes))
        .zip(&manifest.chunking.digests)
    {
        if sha256(chunk) != *digest {
            return Err(BundleError::Chunk { index });
        }
    }
    Ok(())
}

/// The files of a payload, in the manifest's order; a payload that is too short yields
/// fewer.
pub fn files<'a>(
    manifest: &'a Manifest,
    payload: &'a [u8],
) -> impl Iterator<Item = (&'a FileEntry, &'a [u8])> {
    let mut rest = payload;
    manifest.files.iter().map_while(move |entry| {
        let (file, after) = rest.split_at_checked(usize::try_from(entry.size).ok()?)?;
        rest = after;
        Some((entry, file))
    })
}

/// The first file of `role` in a payload.
pub fn file<'a>(manifest: &'a Manifest, payload: &'a [u8], role: FileRole) -> Option<&'a [u8]> {
    files(manifest, payload)
        .find(|(entry, _)| entry.role == role)
        .map(|(_, bytes)| bytes)
}

/// Lists files for a manifest and cuts them into chunks: what a builder needs.
///
/// Chunks are a power of two between 4 KiB and 128 KiB, so that a bundle has about 64 of
/// them: small enough to resume on a slow link, few enough for a small manifest.
pub fn pack(files: Vec<(String, FileRole, Vec<u8>)>) -> (Vec<FileEntry>, Chunking, Vec<u8>) {
    let mut entries = Vec::with_capacity(files.len());
    let mut payload = Vec::new();
    for (name, role, bytes) in files {
        entries.push(FileEntry {
            name,
            role,
            size: bytes.len() as u64,
            sha256: sha256(&bytes),
        });
        payload.extend_from_slice(&bytes);
    }
    let ideal = (payload.len() / 64).next_power_of_two();
    let chunk_bytes = ideal.clamp(4096, drover_wire::limits::MAX_CHUNK_BYTES);
    let chunking = Chunking {
        chunk_bytes: u32::try_from(chunk_bytes).unwrap_or(4096),
        digests: payload.chunks(chunk_bytes).map(sha256).collect(),
    };
    (entries, chunking, payload)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use drover_trust::{RoleKeys, Root, SecretKey};

    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    fn root() -> TrustedRoot {
        let role = |role, threshold, keys: &[u8]| RoleKeys {
            role,
            threshold,
            keys: keys.iter().map(|&n| key(n).public()).collect(),
        };
        let root = Root {
            version: 1,
            fleet: "test".into(),
            created_unix_s: 0,
            expires_unix_s: u64::MAX,
            epoch: 0,
            roles: vec![
                role(Role::Root, 1, &[1]),
                role(Role::Release, 2, &[2, 3]),
                role(Role::Fleet, 1, &[4]),
            ],
        };
        let envelope = Envelope::signed(root.encode().unwrap(), Domain::Root, &key(1));
        TrustedRoot::self_signed(envelope).unwrap()
    }

    fn container(signers: &[u8]) -> Container {
        let (files, chunking, payload) = pack(vec![
            ("model.onnx".into(), FileRole::Model, vec![7; 9000]),
            ("golden.bin".into(), FileRole::Golden, vec![8; 100]),
        ]);
        let manifest = Manifest {
            files,
            chunking,
            ..crate::manifest::tests::sample()
        };
        let mut envelope = Envelope::unsigned(manifest.encode().unwrap());
        for &n in signers {
            envelope.sign(Domain::Manifest, &key(n));
        }
        Container { envelope, payload }
    }

    #[test]
    fn a_signed_container_verifies_after_a_round_trip() {
        let bytes = container(&[2, 3]).encode().unwrap();
        let read = Container::decode(&bytes).unwrap();
        let verified = read.verify(&root()).unwrap();
        assert_eq!(verified.manifest().chunking.digests.len(), 3);
        verified.check_chunks(&read.payload).unwrap();
        verified.check_chunk(2, &read.payload[8192..]).unwrap();
        assert!(verified.check_chunk(1, &read.payload[8192..]).is_err());
        assert!(verified.check_chunk(3, b"").is_err());
        let model = file(verified.manifest(), &read.payload, FileRole::Model);
        assert_eq!(model, Some(&[7; 9000][..]));
    }

    #[test]
    fn too_few_signatures_are_refused() {
        let error = container(&[2, 4]).verify(&root()).unwrap_err();
        assert!(matches!(error, BundleError::Signature(_)), "{error}");
        assert!(container(&[2]).open_unsigned().is_ok());
    }

    #[test]
    fn what_was_committed_opens_by_its_digest_and_nothing_else_does() {
        // The keys that signed it are revoked: only the digest speaks for it.
        let committed = container(&[8, 9]);
        assert!(committed.verify(&root()).is_err());
        let digest = sha256(committed.envelope.unverified_payload());
        let bytes = committed.envelope.encode().unwrap();
        let opened = VerifiedManifest::committed(&bytes, &digest).unwrap();
        assert_eq!(opened.digest(), &digest);
        opened.check_payload(&committed.payload).unwrap();

        // Another bundle with good signatures is still another bundle.
        let mut other = committed.open_unsigned().unwrap();
        other.counter += 1;
        let mut envelope = Envelope::unsigned(other.encode().unwrap());
        envelope.sign(Domain::Manifest, &key(2));
        envelope.sign(Domain::Manifest, &key(3));
        let swapped = VerifiedManifest::committed(&envelope.encode().unwrap(), &digest);
        assert!(matches!(swapped, Err(BundleError::Committed)));
        let cut = VerifiedManifest::committed(&bytes[..bytes.len() - 1], &digest);
        assert!(matches!(cut, Err(BundleError::Frame(_))));
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let bytes = container(&[2, 3]).encode().unwrap();
        // Every byte of the frame and the manifest, and a sample of the payload.
        let head = bytes.len() - container(&[]).payload.len();
        for at in (0..head).chain((head..bytes.len()).step_by(97)) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let accepted = Container::decode(&bad).is_ok_and(|c| c.verify(&root()).is_ok());
            assert!(!accepted, "byte {at} may be flipped");
        }
    }

    #[test]
    fn truncated_and_foreign_files_are_named() {
        let bytes = container(&[2, 3]).encode().unwrap();
        let message = |bytes: &[u8]| Container::decode(bytes).unwrap_err().to_string();
        assert!(message(b"PK\x03\x04").contains("not a drover bundle"));
        assert!(message(&bytes[..20]).contains("cut short"));
        let short = Container::decode(&bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(
            short.verify(&root()),
            Err(BundleError::Length { .. })
        ));
    }
}
