//! `drover bundle inspect`: everything of a manifest, and what the files behind it hold.
//!
//! It shows, it does not judge: who signed is not checked, and a damaged payload is shown
//! as damaged.

mod text;

pub(super) use text::normalisation;
pub(crate) use text::{component, lineage};

use std::fmt;
use std::path::Path;

use drover_bundle::{
    BundleError, Component, Container, FileRole, GoldenVectors, InputSpec, Lineage, Manifest,
    OutputSpec, Requires, Tolerance, Validated, container,
};
use drover_sketch::Baseline;
use drover_trust::Envelope;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::{CliError, Result};
use crate::output::Output;

/// A SHA-256, shown and written to JSON in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest(pub(super) [u8; 32]);

impl Digest {
    /// The digest of the bundle whose manifest `envelope` carries.
    pub(super) fn of(envelope: &Envelope) -> Self {
        Self(Sha256::digest(envelope.unverified_payload()).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Names a bundle in the answers of the commands that work on one.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    file: &'a Path,
    name: &'a str,
    version: &'a str,
    counter: u64,
    digest: Digest,
    total_bytes: u64,
}

impl<'a> Summary<'a> {
    pub(super) fn new(file: &'a Path, manifest: &'a Manifest, digest: Digest) -> Self {
        Self {
            file,
            name: &manifest.name,
            version: &manifest.version,
            counter: manifest.counter,
            digest,
            total_bytes: manifest.total_bytes(),
        }
    }
}

/// All there is to show.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    version: &'a str,
    counter: u64,
    epoch: u64,
    created_unix_s: u64,
    description: &'a str,
    digest: Digest,
    total_bytes: u64,
    /// Keys whose signatures are there, valid or not.
    signatures: Vec<String>,
    /// Why the files are not what the manifest says.
    damage: Option<String>,
    files: Vec<FileView<'a>>,
    chunking: ChunkingView,
    requires: &'a Requires,
    input: &'a InputSpec,
    output: &'a OutputSpec,
    tolerance: Tolerance,
    lineage: &'a Lineage,
    components: &'a [Component],
    /// Absent when the model is as it came.
    numerics: Option<NumericsView<'a>>,
    /// Absent when the golden file does not parse.
    golden_cases: Option<usize>,
    /// Absent when there is no baseline or it does not parse.
    baseline: Option<Vec<FeatureView>>,
}

#[derive(Serialize)]
struct FileView<'a> {
    name: &'a str,
    role: &'static str,
    size: u64,
    sha256: Digest,
}

#[derive(Serialize)]
struct ChunkingView {
    chunk_bytes: u32,
    digests: Vec<Digest>,
}

#[derive(Serialize)]
struct NumericsView<'a> {
    numerics: &'static str,
    source_sha256: Digest,
    compiler: &'a str,
    reference: &'static str,
    cases: u32,
    max_abs: f32,
    mean_abs: f32,
    range: f32,
    step: Option<f32>,
    max_steps: Option<f32>,
    mean_steps: Option<f32>,
    argmax: f32,
}

impl<'a> NumericsView<'a> {
    fn new(validated: &'a Validated) -> Self {
        Self {
            numerics: validated.numerics.name(),
            source_sha256: Digest(validated.source_sha256),
            compiler: &validated.compiler,
            reference: validated.reference.name(),
            cases: validated.cases,
            max_abs: validated.max_abs,
            mean_abs: validated.mean_abs,
            range: validated.range,
            step: validated.step,
            max_steps: validated.max_steps(),
            mean_steps: validated.mean_steps(),
            argmax: validated.argmax,
        }
    }
}

#[derive(Serialize)]
struct FeatureView {
    name: String,
    bins: usize,
    values: u64,
    stride: u32,
    min: f32,
    max: f32,
    mean: f32,
    std: f32,
}

pub(super) fn run(path: &Path, out: &Output) -> Result<()> {
    let (_, container) = super::read(path)?;
    let refused = |source| CliError::Bundle {
        path: path.to_owned(),
        source,
    };
    let manifest = Manifest::decode(container.envelope.unverified_payload());
    let manifest = manifest.map_err(|e| refused(BundleError::Manifest(e)))?;
    let view = view(&container, &manifest);
    out.show(&view, || text::table(&view))
}

fn view<'a>(container: &Container, manifest: &'a Manifest) -> View<'a> {
    let file = |role| container::file(manifest, &container.payload, role);
    let golden = file(FileRole::Golden).and_then(|b| GoldenVectors::decode(b).ok());
    let baseline = file(FileRole::Baseline).and_then(|b| Baseline::decode(b).ok());
    let files = manifest.files.iter().map(|f| FileView {
        name: &f.name,
        role: role_name(f.role),
        size: f.size,
        sha256: Digest(f.sha256),
    });
    let signatures = container.envelope.signatures().iter();
    View {
        name: &manifest.name,
        version: &manifest.version,
        counter: manifest.counter,
        epoch: manifest.epoch,
        created_unix_s: manifest.created_unix_s,
        description: &manifest.description,
        digest: Digest::of(&container.envelope),
        total_bytes: manifest.total_bytes(),
        signatures: signatures.map(|s| s.key.to_string()).collect(),
        damage: container.open_unsigned().err().map(|e| e.to_string()),
        files: files.collect(),
        chunking: ChunkingView {
            chunk_bytes: manifest.chunking.chunk_bytes,
            digests: manifest
                .chunking
                .digests
                .iter()
                .map(|d| Digest(*d))
                .collect(),
        },
        requires: &manifest.requires,
        input: &manifest.input,
        output: &manifest.output,
        tolerance: manifest.tolerance,
        lineage: &manifest.lineage,
        components: &manifest.components,
        numerics: manifest.numerics.as_ref().map(NumericsView::new),
        golden_cases: golden.map(|g| g.cases.len()),
        baseline: baseline.map(|b| features(&b)),
    }
}

fn features(baseline: &Baseline) -> Vec<FeatureView> {
    let feature = |f: &drover_sketch::FeatureBaseline| FeatureView {
        name: f.name().to_owned(),
        bins: f.counts().len(),
        values: f.n_ref(),
        stride: f.stride(),
        min: f.min(),
        max: f.max(),
        mean: f.mean(),
        std: f.std(),
    };
    baseline.features().iter().map(feature).collect()
}

pub(super) fn role_name(role: FileRole) -> &'static str {
    match role {
        FileRole::Model => "model",
        FileRole::Golden => "golden",
        FileRole::Baseline => "baseline",
        FileRole::Asset => "asset",
    }
}
