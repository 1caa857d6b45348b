//! Models from files, without a server: a bundle, the spec of one, or a bare ONNX graph.
//!
//! This is for development and for boards that stand alone. In a fleet models come from the
//! store, verified; nothing here takes part in that.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use drover_bundle::manifest::MAX_TOTAL_BYTES;
use drover_bundle::{Container, FileRole, Manifest, Spec, container};
use drover_runtime::{BoxError, Engine as _, LoadOptions, Model, TractEngine, build};
use drover_trust::{Envelope, TrustedRoot};
use drover_wire::message::Digest;
use sha2::Digest as _;

use crate::AgentError;
use crate::runner::Bundle;

/// Frame, manifest and signatures of a bundle beside its files, generously.
const FRAME_MAX: u64 = 1 << 20;
/// A root file holds a few keys and signatures.
const ROOT_MAX: u64 = 1 << 20;

/// Whether `path` is named like a bare ONNX graph.
pub(crate) fn is_onnx(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Opens a bundle. Signatures are checked where `root` names the keys to trust; integrity
/// always is.
pub(crate) fn open_bundle(path: &Path, root: Option<&Path>) -> Result<Bundle, AgentError> {
    let refuse = |source: BoxError| AgentError::Model {
        path: path.to_owned(),
        source,
    };
    let bytes = read(path, MAX_TOTAL_BYTES + FRAME_MAX)?;
    let container = Container::decode(&bytes).map_err(|error| refuse(error.into()))?;
    let manifest = match root {
        Some(root) => {
            let verified = container.verify(&trusted_root(root)?);
            verified.map(|verified| verified.manifest().clone())
        }
        None => container.open_unsigned(),
    };
    let manifest = manifest.map_err(|error| refuse(error.into()))?;
    let digest = sha2::Sha256::digest(container.envelope.unverified_payload()).into();
    Ok(of_payload(manifest, digest, &container.payload))
}

/// Builds in memory what `drover bundle build` would make of the spec at `path`, with the model
/// as it came: an agent does not carry the compiler.
pub(crate) fn open_spec(path: &Path) -> Result<Bundle, AgentError> {
    let refuse = |source: BoxError| AgentError::Model {
        path: path.to_owned(),
        source,
    };
    let spec = Spec::read(path).map_err(|error| refuse(error.into()))?;
    let built = build::build(&spec, 0).map_err(|error| refuse(error.into()))?;
    Ok(of_payload(
        built.manifest,
        Digest::default(),
        &built.payload,
    ))
}

/// Loads a bare graph, of which nothing but its bytes is known.
pub(crate) fn open_onnx(path: &Path) -> Result<Box<dyn Model>, AgentError> {
    let bytes = read(path, MAX_TOTAL_BYTES)?;
    TractEngine
        .load(&bytes, &LoadOptions::default())
        .map_err(|error| AgentError::Model {
            path: path.to_owned(),
            source: error.into(),
        })
}

fn of_payload(manifest: Manifest, digest: Digest, payload: &[u8]) -> Bundle {
    let file = |role| container::file(&manifest, payload, role).map(<[u8]>::to_vec);
    Bundle {
        model: file(FileRole::Model).unwrap_or_default(),
        golden: file(FileRole::Golden).unwrap_or_default(),
        baseline: file(FileRole::Baseline),
        manifest,
        digest,
    }
}

fn trusted_root(path: &Path) -> Result<TrustedRoot, AgentError> {
    let bytes = read(path, ROOT_MAX)?;
    Envelope::decode(&bytes)
        .and_then(TrustedRoot::self_signed)
        .map_err(|error| AgentError::Model {
            path: path.to_owned(),
            source: error.into(),
        })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, AgentError> {
    let failed = || AgentError::file("read", path);
    let file = File::open(path).map_err(failed())?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed())?;
    if bytes.len() as u64 > limit {
        let error = std::io::Error::other(format!("it is larger than {limit} bytes"));
        return Err(failed()(error));
    }
    Ok(bytes)
}
