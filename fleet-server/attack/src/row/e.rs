//! E: content that hurts whoever reads, loads or stores it.

use std::path::{Path, PathBuf};

use drover_trust::{Domain, Envelope};
use drover_wire::message::{Down, FailureCode};

use super::Row;
use crate::artifact::{EVIL, Recipe};
use crate::attacker::Serving;
use crate::clock::hold;
use crate::error::{Result, ensure, io};
use crate::lab::{Lab, QUIET, SOON};
use crate::onnx;
use crate::suite::Suite;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "E1",
        attack: "endless data: metadata, messages and bundles over every limit, a full disk",
        defence: "hard caps before anything is parsed, signed lengths, a reserve on the disk",
        play: e1,
    },
    Row {
        id: "E2",
        attack: "signed models that claim huge tensors, nest deeply, expand, or read other files",
        defence: "verified before parsed, bounded before loaded, tried in a capped process first",
        play: e2,
    },
    Row {
        id: "E3",
        attack: "file names that climb, that are absolute, foreign, or hold zero bytes",
        defence: "names are names, never paths; folders are named by digest",
        play: e3,
    },
    Row {
        id: "E4",
        attack: "a model swapped on the disk after it was verified",
        defence: "hashes are compared again at each load, of the very bytes that are loaded",
        play: e4,
    },
];

/// Version byte and postcard, without the limits of the real encoders.
fn unlimited<T: serde::Serialize>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version]).unwrap_or_default()
}

fn e1(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("E1")?;
    let first = lab.first.clone();
    let keys = lab.keys.clone();
    let order = lab.order(&[&first])?;
    let mut long = order.assignment.clone();
    long.rollout = "x".repeat(drover_trust::assignment::MAX_BYTES + 1);
    let assignment = unlimited(drover_trust::assignment::VERSION, &long);
    let assignment = Envelope::signed(assignment, Domain::Assignment, &keys.fleet).encode()?;
    let catalog = order.signed_catalog()?;
    lab.withstands(
        "an assignment over 16 KiB",
        FailureCode::SignatureInvalid,
        |lab| {
            lab.say(Down::Desired {
                assignment,
                catalog,
            })
        },
    )?;
    let mut order = lab.order(&[&first])?;
    *lab.forged.borrow_mut() = None;
    let listed = first.listed();
    order.catalog.version += 1;
    order.catalog.releases = (1..=900)
        .map(|counter| drover_trust::Listed {
            counter,
            version: "v".repeat(60),
            ..listed.clone()
        })
        .collect();
    let payload = unlimited(drover_trust::catalog::VERSION, &order.catalog);
    ensure(payload.len() > drover_trust::catalog::MAX_BYTES, || {
        format!("a catalog of {} bytes is within its limit", payload.len())
    })?;
    let catalog = Envelope::signed(payload, Domain::Catalog, &keys.catalog).encode()?;
    let fleet = Envelope::signed(order.assignment.encode()?, Domain::Assignment, &keys.fleet);
    let assignment = fleet.encode()?;
    lab.withstands(
        "a catalog over 64 KiB",
        FailureCode::SignatureInvalid,
        |lab| {
            lab.say(Down::Desired {
                assignment,
                catalog,
            })
        },
    )?;
    let manifest = Recipe::evil(lab.next_counter)
        .make()?
        .with_manifest(|m| m.description = "x".repeat(140_000))
        .signed(&keys.release_signers());
    lab.serve(Serving::new(&lab.keys, &lab.device.id, &manifest)?);
    lab.withstands_after_order(
        "a manifest over 128 KiB",
        FailureCode::Incompatible,
        |lab| lab.give(&lab.order(&[&manifest])?),
    )?;
    lab.broker.clear_rule();
    // A packet over the limit costs the connection, and nothing else.
    let memory = lab.device.resident_bytes();
    lab.broker.inject(&lab.down_topic(), vec![0; 900 * 1024]);
    lab.still_serves()?;
    suite.ready(&lab)?;
    let grown = lab.device.resident_bytes().saturating_sub(memory);
    ensure(grown < 32 << 20, || {
        format!("the agent's memory grew by {grown} bytes")
    })?;
    full_disk(suite, &mut lab)?;
    lab.recovers()
}

/// A disk whose reserve is reached: the update waits, inference goes on.
fn full_disk(suite: &Suite, lab: &mut Lab) -> Result<()> {
    lab.device.stop()?;
    lab.device
        .set(&format!("store.min_free_bytes={}", 1u64 << 50));
    lab.device.start()?;
    lab.device.serves_within(lab.weight, SOON)?;
    suite.ready(lab)?;
    let next = lab.publish_next()?;
    let before = lab.device.stored()?;
    let refused = lab.refusals(FailureCode::StorageFull);
    lab.roll_out(&next)?;
    lab.raised(FailureCode::StorageFull, refused)?;
    lab.device
        .wait_status("an update that waits for room", SOON, |status| {
            let update = status.pointer("/fleet/update")?.as_str()?;
            update.starts_with("fetching").then_some(())
        })?;
    let running = lab.weight;
    hold(QUIET * 2, || lab.device.serves_within(running, SOON))?;
    lab.still_serves()?;
    before.check_kept(&lab.device.stored()?)?;
    lab.device.stop()?;
    lab.device.reset_settings();
    lab.device.start()?;
    lab.commits(&next)
}

fn e2(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab_at_rest("E2", |_| ())?;
    lab.device.set("update.model_memory_bytes=67108864");
    lab.device.start()?;
    lab.device.serves_within(lab.weight, SOON)?;
    suite.ready(&lab)?;
    let outside = lab.folder.join("outside.bin");
    crate::server::write(&outside, &EVIL.to_le_bytes())?;
    let models = [
        ("a tensor that claims 2^40 elements", onnx::huge_tensor()),
        ("a graph that expands to 256 GiB", onnx::expanding_tensor()),
        // More than any address space holds, and half a gigabyte that this machine has.
        (
            "a constant that no memory holds",
            onnx::constant_of_shape(1 << 23, 1 << 23),
        ),
        (
            "a constant larger than a model may be",
            onnx::constant_of_shape(1 << 10, 1 << 17),
        ),
        (
            "weights in a file outside, by its absolute path",
            onnx::external_data(&outside.display().to_string()),
        ),
        (
            "weights in a file outside, by climbing",
            onnx::external_data("../../outside.bin"),
        ),
        ("graphs nested 1500 deep", onnx::deep_nesting(1500)),
    ];
    for (what, model) in models {
        let mut recipe = Recipe::evil(lab.next_counter);
        lab.next_counter += 1;
        recipe.model = Some(model);
        recipe.ballast = 100;
        let hostile = recipe.make()?.signed(&lab.keys.release_signers());
        let memory = lab.device.peak_bytes();
        lab.serve(Serving::new(&lab.keys, &lab.device.id, &hostile)?);
        lab.withstands_after_order(what, FailureCode::LoadFailed, |lab| {
            lab.give(&lab.order(&[&hostile])?)
        })?;
        lab.broker.clear_rule();
        let grown = lab.device.peak_bytes().saturating_sub(memory);
        ensure(grown < 64 << 20, || {
            format!("{what}: the agent's memory grew by {grown} bytes")
        })?;
    }
    lab.recovers()
}

fn e3(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("E3")?;
    let absolute = lab.folder.join("absolute").display().to_string();
    for name in [
        "../climbed",
        "../../../climbed",
        absolute.as_str(),
        "zero\0byte",
        "..\\climbed",
        "C:climbed",
        ".hidden",
        "a/b",
        "",
    ] {
        let artifact = Recipe::evil(lab.next_counter).make()?;
        lab.next_counter += 1;
        let artifact = artifact
            .with_manifest(|m| {
                if let Some(file) = m.files.last_mut() {
                    file.name = name.to_owned();
                }
            })
            .signed(&lab.keys.release_signers());
        lab.serve(Serving::new(&lab.keys, &lab.device.id, &artifact)?);
        let what = format!("a file called {name:?}");
        lab.withstands_after_order(&what, FailureCode::Incompatible, |lab| {
            lab.give(&lab.order(&[&artifact])?)
        })?;
        lab.broker.clear_rule();
    }
    let mut found = Vec::new();
    search(&lab.folder, &mut found);
    ensure(found.is_empty(), || format!("files got out: {found:?}"))?;
    lab.recovers()
}

/// Files that only a path out of its folder could have made.
fn search(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains("climbed") || name == "absolute" {
            found.push(path.clone());
        }
        if path.is_dir() {
            search(&path, found);
        }
    }
}

/// A file as the agent's store writes it: mark and version, checksum, length, content. The
/// checksum finds damage; whoever can write the disk can compute it.
fn as_stored(place: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&[1]);
    checksum.update(place.as_bytes());
    checksum.update(&[0]);
    checksum.update(content);
    let length = u32::try_from(content.len()).unwrap_or_default();
    Ok([
        &[0xd5, 0x4a, 1][..],
        &checksum.finalize().to_le_bytes(),
        &length.to_le_bytes(),
        content,
    ]
    .concat())
}

fn e4(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("E4")?;
    let name = data_encoding::HEXLOWER.encode(&lab.first.digest());
    let place = format!("bundles/{name}/model.onnx");
    let path = lab.device.data().join(&place);
    let honest = io(|| format!("read {}", path.display()), std::fs::read(&path))?;
    ensure(
        honest == as_stored(&place, &onnx::times(lab.first.weight))?,
        || "the agent's store has another form than this row knows".into(),
    )?;
    let swapped = as_stored(&place, &onnx::times(EVIL))?;
    let golden = format!("bundles/{name}/golden.bin");
    // While it runs: what was loaded serves on.
    crate::server::write(&path, &swapped)?;
    lab.still_serves()?;
    // At the next start the swapped model is noticed, refused and fetched anew. Its golden
    // vectors are swapped as well, or they would stop it by themselves.
    let evil = Recipe::evil(1).make()?;
    let vectors = evil
        .range_of(drover_bundle::FileRole::Golden)
        .and_then(|range| evil.payload.get(range));
    let vectors = as_stored(&golden, vectors.unwrap_or_default())?;
    crate::server::write(&lab.device.data().join(&golden), &vectors)?;
    lab.device.kill()?;
    lab.device.start()?;
    lab.still_serves_or_nothing()?;
    lab.device.serves_within(lab.first.weight, SOON * 2)?;
    lab.still_serves()?;
    lab.recovers()
}
