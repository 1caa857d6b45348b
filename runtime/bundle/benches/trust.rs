//! What verification costs: a manifest in microseconds, and a whole bundle beside a bare
//! SHA-256 of the same bytes.
//!
//! One line of JSON per figure on standard output. `--quick` takes fewer rounds and a smaller
//! bundle. Bundle and bare hash alternate, so that a change of clock speed meets both.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use drover_bundle::{
    Channel, Chunking, Container, DType, Decision, FileRole, InputSpec, Lineage, Manifest,
    Normalisation, OutputSpec, Requires, Scoring, TensorSpec, Tolerance, VerifiedManifest, Window,
    container,
};
use drover_trust::fixture::{Keys, key, role_keys, signed_root};
use drover_trust::{Domain, Envelope, Role, TrustedRoot};
use sha2::{Digest as _, Sha256};

/// Manifests of one round.
const MANIFESTS: u32 = 200;
/// Keys of the release role, and how many of them must sign.
const HOLDERS: [u8; 3] = [11, 12, 13];
const THRESHOLD: u8 = 2;

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, bytes) = if quick { (5, 16 << 20) } else { (21, 64 << 20) };
    let root = root()?;
    let bundle = bundle(bytes)?;

    let mut manifests = Vec::new();
    for round in 0..=rounds {
        let started = Instant::now();
        for _ in 0..MANIFESTS {
            black_box(VerifiedManifest::open(black_box(&bundle.envelope), &root)?);
        }
        let each = started.elapsed().as_secs_f64() / f64::from(MANIFESTS);
        // The first round warms caches and is not counted.
        if round > 0 {
            manifests.push(each * 1e6);
        }
    }
    print("manifest_verify_us", "us", None, "lower", manifests)?;

    let (mut ratios, mut rates, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let started = Instant::now();
        black_box(black_box(&bundle).verify(&root)?);
        let verified = started.elapsed().as_secs_f64();
        let started = Instant::now();
        black_box(Sha256::digest(black_box(&bundle.payload)));
        let hashed = started.elapsed().as_secs_f64();
        if round > 0 {
            let megabytes = bundle.payload.len() as f64 / 1e6;
            ratios.push(hashed / verified);
            rates.push(megabytes / verified);
            bare.push(megabytes / hashed);
        }
    }
    print(
        "bundle_verify_ratio_to_sha256",
        "ratio",
        Some(0.9),
        "higher",
        ratios,
    )?;
    print("bundle_verify_mb_per_s", "MB/s", None, "higher", rates)?;
    print("sha256_mb_per_s", "MB/s", None, "higher", bare)
}

/// A root whose release role needs two of three.
fn root() -> anyhow::Result<TrustedRoot> {
    let keys = Keys::new("bench");
    let mut metadata = keys.root_metadata(1);
    let release = metadata.roles.iter_mut().find(|r| r.role == Role::Release);
    let holders = HOLDERS.map(|n| key(n).public()).to_vec();
    *release.context("every root names the release role")? =
        role_keys(Role::Release, THRESHOLD, holders);
    let envelope = signed_root(&metadata, &[&keys.root]);
    Ok(TrustedRoot::self_signed(envelope)?)
}

/// A signed bundle with a payload of about `bytes`.
fn bundle(bytes: usize) -> anyhow::Result<Container> {
    let golden = vec![3; 40_000];
    let baseline = vec![5; 20_000];
    let model = (0..bytes).map(|i| (i * 31 % 251) as u8).collect();
    let file = |name: &str, role, bytes: Vec<u8>| (name.to_owned(), role, bytes);
    let (files, chunking, payload) = container::pack(vec![
        file("model.onnx", FileRole::Model, model),
        file("golden.bin", FileRole::Golden, golden),
        file("baseline.bin", FileRole::Baseline, baseline),
    ]);
    let mut manifest = manifest();
    (manifest.files, manifest.chunking) = (files, chunking);
    ensure!(manifest.check().is_ok(), "the bench's manifest is refused");
    let mut envelope = Envelope::unsigned(manifest.encode()?);
    for holder in HOLDERS.iter().take(usize::from(THRESHOLD)) {
        envelope.sign(Domain::Manifest, &key(*holder));
    }
    Ok(Container { envelope, payload })
}

fn manifest() -> Manifest {
    let tensor = |name: &str| TensorSpec {
        name: name.into(),
        dtype: DType::F32,
        shape: vec![1, 16, 8],
    };
    let channels = (0..8).map(|n| Channel {
        name: format!("channel_{n}"),
        unit: "bar".into(),
    });
    Manifest {
        name: "bench".into(),
        version: "1.0.0".into(),
        counter: 1,
        epoch: 0,
        created_unix_s: 1_700_000_000,
        description: "what a bundle of a sensor model says".into(),
        files: Vec::new(),
        chunking: Chunking {
            chunk_bytes: 0,
            digests: Vec::new(),
        },
        requires: Requires {
            engine: "tract".into(),
            arch: Vec::new(),
            memory_bytes: 64 << 20,
        },
        input: InputSpec {
            tensor: tensor("input"),
            channels: channels.collect(),
            window: Window {
                rows: 16,
                stride: 1,
            },
            normalisation: Normalisation::None,
            quantisation: None,
        },
        output: OutputSpec {
            tensor: tensor("output"),
            quantisation: None,
            scoring: Scoring::ReconstructionMse,
            decision: Decision::None,
        },
        tolerance: Tolerance::RangeFraction(0.05),
        lineage: Lineage::default(),
        components: Vec::new(),
        numerics: None,
    }
}

/// One figure: the median, and the spread as (max - min) / median.
fn print(
    figure: &str,
    unit: &str,
    goal: Option<f64>,
    better: &str,
    mut values: Vec<f64>,
) -> anyhow::Result<()> {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).context("nothing measured")?;
    let range = values.last().zip(values.first()).map(|(l, f)| l - f);
    let line = serde_json::json!({
        "bench": "trust",
        "figure": figure,
        "value": median,
        "unit": unit,
        "goal": goal,
        "better": better,
        "n": values.len(),
        "spread": range.unwrap_or(0.0) / median,
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
