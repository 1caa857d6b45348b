//! Bundles: container, manifest, golden vectors, tensors, and the spec they are built from.

use std::path::Path;
use std::sync::OnceLock;

use arbitrary::Unstructured;
use drover_bundle::{
    Container, DType, FileRole, GoldenVectors, Manifest, Spec, Tensor, Tolerance, container,
};
use drover_trust::{Domain, Envelope};

use crate::bound::{Bound, POSTCARD, bounded, linear};
use crate::draw::draw;
use crate::parser::{self, Parser, drawn_seeds, noise};
use crate::trust::key;
use crate::wire::survives;

/// All parsers of `drover-bundle`.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "bundle Container",
        bound: Bound {
            claim: 96,
            factor: 4,
            constant: 1024,
        },
        limit: 1 << 20,
        read: read_container,
        seeds: || vec![sample_container()],
    },
    Parser {
        name: "bundle Manifest",
        bound: POSTCARD,
        limit: drover_bundle::manifest::MAX_BYTES,
        read: read_manifest,
        seeds: || {
            let newest = sample_manifest().encode().expect("it is acceptable");
            vec![newest, format_1_manifest(), compiled_manifest()]
        },
    },
    Parser {
        name: "bundle GoldenVectors",
        bound: POSTCARD,
        limit: drover_bundle::golden::MAX_BYTES,
        read: |parser, bytes| {
            let decode = |bytes: &[u8]| GoldenVectors::decode(bytes).ok();
            let vectors = parser.round_trip(bytes, decode, |v| v.encode().ok());
            vectors
                .inspect(|v| compare(v, Tolerance::Steps(0)))
                .is_some()
        },
        seeds: || vec![sample_golden()],
    },
    Parser {
        name: "bundle Spec",
        bound: linear(512, 256 * 1024),
        limit: 64 * 1024,
        read: |parser, bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else {
                return false;
            };
            let spec = bounded(parser, bytes.len(), || {
                Spec::parse(text, Path::new("folder"))
            });
            if let Err(error) = &spec {
                assert!(!error.to_string().is_empty());
            }
            spec.is_ok()
        },
        seeds: || SPECS.map(|text| text.as_bytes().to_vec()).to_vec(),
    },
];

/// Specs that are built on every run of the demo.
const SPECS: [&str; 2] = [
    include_str!("../../../scripts/models/pump/pump-1.0.0.toml"),
    include_str!("../../../scripts/models/pump/pump-1.1.0.toml"),
];

fn sample_manifest() -> Manifest {
    let (manifest, _) = sample();
    manifest.clone()
}

fn sample_golden() -> Vec<u8> {
    let value = Tensor::from_f32(vec![1, 4], &[0.5, -1.0, 2.0, 0.0]).expect("four values");
    let case = drover_bundle::GoldenCase {
        input: value.clone(),
        output: value,
    };
    let vectors = GoldenVectors { cases: vec![case] };
    vectors.encode().expect("it is consistent")
}

/// A manifest that breaks no rule, with its files.
fn sample() -> &'static (Manifest, Vec<u8>) {
    static SAMPLE: OnceLock<(Manifest, Vec<u8>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        // Everything zero or empty; what must not be is set below.
        let mut manifest: Manifest = draw(&mut Unstructured::new(&[])).expect("all are plain");
        let (files, chunking, payload) = container::pack(vec![
            ("model.onnx".into(), FileRole::Model, noise(1, 5000)),
            ("golden.bin".into(), FileRole::Golden, sample_golden()),
        ]);
        (manifest.files, manifest.chunking) = (files, chunking);
        manifest.name = "pump".into();
        manifest.version = "1.0.0".into();
        manifest.counter = 1;
        manifest.requires.engine = "tract".into();
        manifest.requires.memory_bytes = 1 << 20;
        manifest.input.channels = ["a", "b"]
            .map(|name| drover_bundle::Channel {
                name: name.into(),
                unit: String::new(),
            })
            .to_vec();
        manifest.input.window = drover_bundle::Window { rows: 2, stride: 1 };
        for tensor in [&mut manifest.input.tensor, &mut manifest.output.tensor] {
            tensor.name = "x".into();
            tensor.dtype = DType::F32;
            tensor.shape = vec![1, 4];
        }
        manifest.tolerance = Tolerance::RangeFraction(0.05);
        manifest.check().expect("the sample is acceptable");
        (manifest, payload)
    })
}

fn sample_container() -> Vec<u8> {
    let (manifest, payload) = sample();
    let bytes = manifest.encode().expect("it is acceptable");
    let container = Container {
        envelope: Envelope::signed(bytes, Domain::Manifest, key(2)),
        payload: payload.clone(),
    };
    container.encode().expect("it is small")
}

/// The sample in format 3, as it is when its model was compiled.
fn compiled_manifest() -> Vec<u8> {
    let numerics = drover_bundle::Validated {
        numerics: drover_bundle::Numerics::Float,
        source_sha256: [7; 32],
        compiler: "drover".into(),
        reference: drover_bundle::ReferenceKind::Ort,
        cases: 1,
        max_abs: 0.5,
        mean_abs: 0.25,
        range: 2.0,
        step: Some(0.5),
        argmax: 1.0,
    };
    let manifest = Manifest {
        numerics: Some(numerics),
        ..sample_manifest()
    };
    manifest.encode().expect("it is acceptable")
}

/// The sample in format 1, which ended before the lineage and is read for ever.
fn format_1_manifest() -> Vec<u8> {
    let newest = sample_manifest().encode().expect("it is acceptable");
    let cut = (1..newest.len()).rev().find_map(|len| {
        let older = [&[1], &newest[1..len]].concat();
        Manifest::decode(&older).is_ok().then_some(older)
    });
    cut.expect("format 2 begins as format 1 does")
}

fn read_manifest(parser: &Parser, bytes: &[u8]) -> bool {
    let decode = |bytes: &[u8]| Manifest::decode(bytes).ok();
    let manifest = if bytes.first() == Some(&1) {
        let manifest = bounded(parser, bytes.len(), || decode(bytes));
        // It is written in the newest format, which may be too long for the longest of these.
        let written = manifest.as_ref().and_then(|m| m.encode().ok());
        if let Some(written) = written {
            assert_eq!(
                decode(&written).and_then(|m| m.encode().ok()),
                Some(written)
            );
        }
        manifest
    } else {
        parser.round_trip(bytes, decode, |m| m.encode().ok())
    };
    manifest.inspect(rules_hold).is_some()
}

fn read_container(parser: &Parser, bytes: &[u8]) -> bool {
    let decode = |bytes: &[u8]| Container::decode(bytes).ok();
    let Some(read) = parser.round_trip(bytes, decode, |c| c.encode().ok()) else {
        return false;
    };
    let Ok(manifest) = read.open_unsigned() else {
        return false;
    };
    rules_hold(&manifest);
    // What was verified is exactly what lies there.
    let total: usize = container::files(&manifest, &read.payload)
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert_eq!(total, read.payload.len());
    assert_eq!(
        container::files(&manifest, &read.payload).count(),
        manifest.files.len()
    );
    true
}

/// What everybody who holds a decoded manifest relies on.
fn rules_hold(manifest: &Manifest) {
    use drover_bundle::manifest::{MAX_FILES, MAX_TOTAL_BYTES, is_file_name, is_model_name};
    assert!(is_model_name(&manifest.name));
    assert!(manifest.files.len() <= MAX_FILES && manifest.total_bytes() <= MAX_TOTAL_BYTES);
    for file in &manifest.files {
        assert!(is_file_name(&file.name) && !file.name.contains(['/', '\\', '\0']));
        assert!(file.name != "." && file.name != "..");
    }
    let chunk = u64::from(manifest.chunking.chunk_bytes);
    let chunks = manifest.total_bytes().div_ceil(chunk.max(1));
    assert_eq!(chunks, manifest.chunking.digests.len() as u64);
    let rows = u64::from(manifest.input.window.rows);
    let elements: u64 = manifest
        .input
        .tensor
        .shape
        .iter()
        .map(|&axis| u64::from(axis))
        .product();
    assert_eq!(rows * manifest.input.channels.len() as u64, elements);
}

fn compare(vectors: &GoldenVectors, tolerance: Tolerance) {
    let outputs: Vec<Tensor> = vectors.cases.iter().map(|c| c.output.clone()).collect();
    // NaN never matches itself; everything else must not panic.
    let _ = vectors.compare(&outputs, tolerance, true);
    let _ = vectors.compare(&[], tolerance, false);
}

/// Seeds of [`raw`].
pub fn raw_seeds() -> Vec<Vec<u8>> {
    parser::seeds(PARSERS)
}

/// Raw bytes for every parser.
pub fn raw(bytes: &[u8]) {
    parser::dispatch(PARSERS, bytes);
}

/// Drawn manifests, tensors and damaged payloads.
pub fn structured(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    match u.int_in_range(0..=4).unwrap_or(0) {
        0 => manifest_with_drawn_parts(u),
        1 => survives::<Manifest>(u, |m| m.encode().ok(), |b| Manifest::decode(b).ok()),
        2 => tensors(u),
        3 => packed_files_come_back(u),
        _ => damage_is_noticed(u),
    }
}

/// An acceptable manifest, some parts of which are replaced by drawn ones.
fn manifest_with_drawn_parts(u: &mut Unstructured<'_>) {
    let mut manifest = sample_manifest();
    for _ in 0..u.int_in_range(1..=3).unwrap_or(1) {
        let Some(drawn) = draw::<Manifest>(u) else {
            return;
        };
        match u.int_in_range(0..=10).unwrap_or(0) {
            0 => manifest.files = drawn.files,
            1 => manifest.chunking = drawn.chunking,
            2 => manifest.input = drawn.input,
            3 => manifest.output = drawn.output,
            4 => manifest.requires = drawn.requires,
            5 => manifest.input.window = drawn.input.window,
            6 => manifest.input.normalisation = drawn.input.normalisation,
            7 => manifest.output.scoring = drawn.output.scoring,
            8 => manifest.output.decision = drawn.output.decision,
            9 => manifest.numerics = drawn.numerics,
            _ => {
                (manifest.name, manifest.tolerance) = (drawn.name, drawn.tolerance);
            }
        }
    }
    if let Ok(bytes) = manifest.encode() {
        let read = Manifest::decode(&bytes).expect("an encoded manifest is acceptable");
        assert_eq!(read.encode().ok(), Some(bytes));
        rules_hold(&read);
    }
}

fn tensors(u: &mut Unstructured<'_>) {
    let dtype = draw::<DType>(u).unwrap_or(DType::F32);
    let shape: Vec<usize> = u.arbitrary().unwrap_or_default();
    let bytes: Vec<u8> = u.arbitrary().unwrap_or_default();
    let len = bytes.len();
    let fits = shape
        .iter()
        .try_fold(dtype.size(), |n, &axis| n.checked_mul(axis))
        == Some(len);
    let tensor = Tensor::from_bytes(dtype, shape.clone(), bytes);
    assert_eq!(tensor.is_ok(), fits);
    if let Ok(tensor) = tensor {
        assert!(tensor.is_consistent());
        assert_eq!(tensor.to_f32().len(), tensor.len());
        assert!(tensor.reshaped(vec![len / dtype.size()]).is_ok());
    }
    let Some(vectors) = draw::<GoldenVectors>(u) else {
        return;
    };
    if let Ok(bytes) = vectors.encode() {
        assert!(GoldenVectors::decode(&bytes).is_ok());
        let tolerance = draw(u).unwrap_or(Tolerance::Steps(1));
        compare(&vectors, tolerance);
    }
}

fn packed_files_come_back(u: &mut Unstructured<'_>) {
    let contents: Vec<Vec<u8>> = u.arbitrary().unwrap_or_default();
    let named: Vec<_> = (0..)
        .zip(&contents)
        .map(|(n, bytes)| (format!("f{n}"), FileRole::Asset, bytes.clone()))
        .collect();
    let mut manifest = sample_manifest();
    let payload;
    (manifest.files, manifest.chunking, payload) = container::pack(named);
    let read: Vec<&[u8]> = container::files(&manifest, &payload)
        .map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(read, contents);
}

/// Whatever is done to a signed container, it is refused or unchanged in what was signed.
fn damage_is_noticed(u: &mut Unstructured<'_>) {
    let mut bytes = sample_container();
    let good = bytes.clone();
    for _ in 0..u.int_in_range(1..=4).unwrap_or(1) {
        let at = u.choose_index(bytes.len().max(1)).unwrap_or(0);
        match u.int_in_range(0..=3).unwrap_or(0) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), u.arbitrary().unwrap_or(0)),
            2 if at < bytes.len() => bytes[at] ^= u.arbitrary::<u8>().unwrap_or(1),
            _ => bytes.extend(u.bytes(at.min(u.len()).min(64)).unwrap_or_default()),
        }
    }
    let root = crate::trust::trusted();
    let Ok(read) = Container::decode(&bytes) else {
        return;
    };
    if let Ok(verified) = read.verify(root) {
        let (manifest, payload) = sample();
        assert_eq!(verified.manifest(), manifest);
        assert_eq!(&read.payload, payload);
        // Only unverified signatures beside the valid one may differ.
        assert!(bytes == good || bytes.len() >= good.len() - 1);
    }
}

/// Seeds of [`structured`].
pub fn structured_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = (1..40).map(|n| noise(n, 1200)).collect();
    seeds.extend(drawn_seeds::<Manifest>(|m| m.encode().ok()));
    seeds
}
