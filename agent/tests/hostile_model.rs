//! Models that are signed and hostile all the same: each costs its own process, at most.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with the tests of trials, which need more")]
mod common;
#[path = "../../runtime/tests/engine/onnx.rs"]
#[expect(
    dead_code,
    reason = "written for the engine's tests, not all is needed here"
)]
mod onnx;

use std::path::PathBuf;
use std::time::Instant;

use common::{Heard, Manner, WINDOW, manifest, row, slot, stage};
use drover_agent::config;
use drover_agent::ota::{BundleFiles, ModelHost};
use drover_agent::runner::{Checker, Host, Shared};
use drover_bundle::{
    FileRole, GoldenCase, GoldenVectors, Manifest, Tensor, VerifiedManifest, container,
};
use drover_trust::{Domain, Envelope};
use drover_wire::message::FailureCode;
use onnx::{Axis, FLOAT, Message, graph, model, node, relu, value};
use sha2::Digest as _;

/// What a model may take here, in bytes.
const MEMORY: u64 = 256 << 20;

fn checker() -> Checker {
    Checker::new(PathBuf::from(env!("CARGO_BIN_EXE_drover-agent")), MEMORY)
}

/// The manifest of a model from three values to three.
fn relu_manifest() -> Manifest {
    let mut manifest = manifest("2.0.0", &["a"]);
    let golden = golden(1.0).encode().unwrap();
    let (files, chunking, _) = container::pack(vec![
        ("model.onnx".into(), FileRole::Model, relu(X)),
        ("golden.bin".into(), FileRole::Golden, golden),
    ]);
    (manifest.files, manifest.chunking) = (files, chunking);
    manifest.output.tensor.shape = manifest.input.tensor.shape.clone();
    manifest
}

const X: &[Axis] = &[Axis::Size(1), Axis::Size(WINDOW as u64)];

fn golden(factor: f32) -> GoldenVectors {
    let tensor =
        |x: f32| Tensor::from_f32(vec![1, WINDOW as usize], &[x; WINDOW as usize]).unwrap();
    GoldenVectors {
        cases: vec![GoldenCase {
            input: tensor(1.0),
            output: tensor(factor),
        }],
    }
}

/// A number.
fn scalar(name: &str, number: f32) -> Message {
    let tensor = Message::default().int(2, FLOAT);
    tensor.bytes(8, name).bytes(9, number.to_le_bytes())
}

/// A constant of `elements` floats, made while the graph is analysed.
fn vast(elements: f32) -> Vec<u8> {
    let nodes = [
        node("Range", &["zero", "end", "one"], "vast"),
        node("ReduceSum", &["vast"], "sum"),
        node("Add", &["x", "sum"], "y"),
    ];
    let graph = graph(&[value("x", FLOAT, X)], &[value("y", FLOAT, X)], &nodes);
    let numbers = [
        scalar("zero", 0.0),
        scalar("end", elements),
        scalar("one", 1.0),
    ];
    model(&numbers.iter().fold(graph, |graph, n| graph.nested(5, n)))
}

/// A graph inside a graph inside a graph.
fn deep(levels: usize) -> Vec<u8> {
    let mut inner = graph(&[], &[value("y", FLOAT, X)], &[node("Relu", &["x"], "y")]);
    for _ in 0..levels {
        let branch = |name: &str| {
            Message::default()
                .bytes(1, name)
                .nested(6, &inner)
                .int(20, 5)
        };
        let choice = node("If", &["x"], "y").nested(5, &branch("then_branch"));
        inner = graph(&[], &[value("y", FLOAT, X)], &[choice]);
    }
    model(&inner.nested(11, &value("x", FLOAT, X)))
}

/// A tensor whose data are said to lie in another file.
fn elsewhere(path: &str) -> Vec<u8> {
    let entry = Message::default().bytes(1, "location").bytes(2, path);
    let tensor = Message::default()
        .int(1, 3)
        .int(2, FLOAT)
        .bytes(8, "weights")
        .nested(13, &entry)
        .int(14, 1);
    let graph = graph(
        &[value("x", FLOAT, X)],
        &[value("y", FLOAT, X)],
        &[node("Add", &["x", "weights"], "y")],
    );
    model(&graph.nested(5, &tensor))
}

#[test]
fn an_honest_model_passes_and_a_wrong_one_is_named() {
    let check = |golden: &GoldenVectors| checker().check(&relu_manifest(), &relu(X), golden);
    check(&golden(1.0)).unwrap();
    let wrong = check(&golden(2.0)).unwrap_err();
    assert_eq!(wrong.code, FailureCode::GoldenMismatch, "{wrong}");
}

#[test]
fn hostile_models_end_their_own_process_only() {
    // 4 TB at once, and 1 GB, which any machine would give.
    for (what, model, why) in [
        ("4 TB", vast(1e12), "failed to allocate"),
        ("1 GB", vast(2.5e8), "failed to allocate"),
        ("deep", deep(5000), "recursion limit"),
        (
            "elsewhere",
            elsewhere("../../etc/passwd"),
            "keeps its data in another file",
        ),
        (
            "axes",
            relu(&[Axis::Size(1), Axis::Size(1 << 40), Axis::Size(1 << 40)]),
            "over the limit",
        ),
    ] {
        let failure = checker()
            .check(&relu_manifest(), &model, &golden(1.0))
            .expect_err(what);
        assert_eq!(failure.code, FailureCode::LoadFailed, "{what}: {failure}");
        assert!(failure.detail.contains(why), "{what}: {failure}");
    }
}

#[test]
fn what_runs_serves_on_while_a_candidate_is_refused() {
    let heard = Heard::default();
    let mut stage = stage(&heard, &config::Runner::default());
    stage.run(slot("1.0.0", 1, Manner::Well, None), Instant::now());
    let shared = Shared::new(stage);
    let host = Host::new(shared.clone()).with_checker(checker());

    let manifest = relu_manifest();
    let payload = manifest.encode().unwrap();
    let digest: [u8; 32] = sha2::Sha256::digest(&payload).into();
    let key = drover_trust::fixture::key(2);
    let envelope = Envelope::signed(payload, Domain::Manifest, &key)
        .encode()
        .unwrap();
    let failure = host
        .load_candidate(BundleFiles {
            manifest: VerifiedManifest::committed(&envelope, &digest).unwrap(),
            model: vast(1e12),
            golden: golden(1.0),
            baseline: None,
        })
        .unwrap_err();
    assert_eq!(failure.code, FailureCode::LoadFailed, "{failure}");
    for value in 0..5 {
        shared
            .lock()
            .feed(row(f32::from(value as u8)), Instant::now())
            .unwrap();
    }
    assert_eq!(heard.observations().len(), 3);
    assert!(shared.lock().snapshot().candidate.is_none());
}

#[test]
fn a_checker_that_is_not_there_refuses() {
    let checker = Checker::new(PathBuf::from("/nonexistent"), MEMORY);
    let failure = checker
        .check(&relu_manifest(), &relu(X), &golden(1.0))
        .unwrap_err();
    assert!(failure.detail.contains("cannot be made"), "{failure}");
}
