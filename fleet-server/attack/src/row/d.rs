//! D: parts that are good alone and do not belong together, or not here.

use std::time::Duration;

use drover_trust::DeviceId;
use drover_wire::chunk::Chunk;
use drover_wire::message::{FailureCode, Up};
use drover_wire::topic;

use super::Row;
use crate::artifact::{Artifact, EVIL, Recipe};
use crate::attacker::{Serving, addressed, up_of};
use crate::clock::hold;
use crate::error::{Result, ensure, fail};
use crate::lab::{Lab, QUIET, SOON};
use crate::onnx;
use crate::suite::Suite;
use drover_bundle::FileRole;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "D1",
        attack: "mix and match: files of two releases, each signed alone",
        defence: "one signed manifest binds every file by its hash, the catalog binds the manifest",
        play: d1,
    },
    Row {
        id: "D2",
        attack: "one part of a bundle is withheld, and the agent is killed meanwhile",
        defence: "nothing is staged before everything is here; what is here stays",
        play: d2,
    },
    Row {
        id: "D3",
        attack: "extra chunks, extra bytes, extra files on the disk and in a container",
        defence: "a bundle is exactly the files of its manifest; there are no archives and no links",
        play: d3,
    },
    Row {
        id: "D4",
        attack: "another device's orders; a bundle for another architecture or for more memory",
        defence: "recipient in every message and assignment; compatibility before the download",
        play: d4,
    },
    Row {
        id: "D5",
        attack: "another device's \"nothing to run\"",
        defence: "empty assignments name their device as well, with a sequence and a nonce",
        play: d5,
    },
    Row {
        id: "D6",
        attack: "deltas: unknown kinds and formats of content, content that outgrows its size",
        defence: "no delta is accepted at all yet: unknown formats are refused, sizes are signed",
        play: d6,
    },
];

fn d1(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("D1")?;
    let old = lab.publish_next()?;
    let new = lab.publish_next()?;
    let ballast = |artifact: &Artifact| {
        let range = artifact.range_of(FileRole::Asset);
        range.map_or_else(|| fail("a bundle without ballast"), Ok)
    };
    // The new manifest, with one file of the old release in the payload.
    let mut mixed = new.payload.clone();
    let (from, to) = (ballast(&old)?, ballast(&new)?);
    let foreign = old.payload.get(from).unwrap_or_default().to_vec();
    mixed.splice(to, foreign);
    let refusals = lab.refusals(FailureCode::Mismatch);
    let mut serving = Serving::new(&lab.keys, &lab.device.id, &new)?;
    let whole = serving.clone();
    let size = new.manifest.chunking.chunk_bytes.max(1) as usize;
    serving.chunks = mixed.chunks(size).map(|c| Some(c.to_vec())).collect();
    lab.serve(serving);
    lab.give(&lab.order(&[&new])?)?;
    lab.raised(FailureCode::Mismatch, refusals)?;
    lab.still_serves()?;
    lab.serve(whole);
    lab.commits(&new)?;
    lab.broker.clear_rule();
    // Signed chunks whose files are not those of the manifest: the attacker's model, spliced
    // in where release keys signed the transport and the hashes of something else.
    let counter = lab.next_counter;
    lab.next_counter += 1;
    let (evil, honest) = (
        Recipe::evil(counter).make()?,
        Recipe::honest(counter).make()?,
    );
    let spliced = evil
        .with_manifest(|manifest| {
            for (entry, hash) in manifest.files.iter_mut().zip(&honest.manifest.files) {
                entry.sha256 = hash.sha256;
            }
        })
        .signed(&lab.keys.release_signers());
    ensure(evil.payload.len() == honest.payload.len(), || {
        "the spliced bundles differ in length".into()
    })?;
    lab.serve(Serving::new(&lab.keys, &lab.device.id, &spliced)?);
    lab.withstands_after_order(
        "files that are not the manifest's",
        FailureCode::Mismatch,
        |lab| lab.give(&lab.order(&[&spliced])?),
    )?;
    lab.broker.clear_rule();
    let order = lab.order_with(&[&old], |order| {
        if let Some(bundle) = order.bundle() {
            bundle.digest = new.digest();
        }
        order
            .assignment
            .bundles
            .iter_mut()
            .for_each(|b| b.counter += 100);
    })?;
    lab.withstands(
        "numbers of one release, digest of another",
        FailureCode::Unlisted,
        |lab| lab.give(&order),
    )?;
    lab.recovers()
}

fn d2(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab_at_rest("D2", |_| ())?;
    lab.device.set("update.rate_window_millis=600");
    lab.device.set("update.least_chunks_per_window=1");
    lab.device.start()?;
    lab.device.serves_within(lab.weight, SOON)?;
    suite.ready(&lab)?;
    let next = lab.publish_next()?;
    let whole = Serving::new(&lab.keys, &lab.device.id, &next)?;
    let mut lacking = whole.clone();
    if let Some(chunk) = lacking.chunks.get_mut(2) {
        *chunk = None;
    }
    lab.serve(lacking);
    let refusals = lab.refusals(FailureCode::Incomplete);
    lab.give(&lab.order(&[&next])?)?;
    lab.raised(FailureCode::Incomplete, refusals)?;
    lab.still_serves()?;
    for _ in 0..2 {
        lab.device.kill()?;
        lab.device.start()?;
        lab.still_serves()?;
    }
    let answered = lab.device.answered();
    ensure(!answered.contains(&next.weight), || {
        "a part of a bundle was activated".into()
    })?;
    lab.serve(whole);
    lab.commits(&next)?;
    lab.recovers()
}

fn d3(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("D3")?;
    // A container with more than its manifest names does not even get into the catalog.
    let padded = Recipe::evil(lab.next_counter)
        .make()?
        .with_tail(&[0; 64])
        .signed(&lab.keys.release_signers());
    let answer = lab
        .server
        .operator()
        .post_bytes("/v1/releases", &padded.container()?)?;
    ensure((400..500).contains(&answer.status), || {
        format!(
            "the server took a container with extra bytes: {}",
            answer.text()
        )
    })?;
    // Nor does a device take it from somebody who hands it out all the same.
    lab.next_counter += 1;
    lab.serve(Serving::new(&lab.keys, &lab.device.id, &padded)?);
    lab.withstands_after_order("bytes behind the last file", FailureCode::Mismatch, |lab| {
        lab.give(&lab.order(&[&padded])?)
    })?;
    lab.broker.clear_rule();
    let next = lab.publish_next()?;
    // Chunks beyond the end, and a chunk with a tail.
    let refusals = lab.refusals(FailureCode::Mismatch);
    let whole = Serving::new(&lab.keys, &lab.device.id, &next)?;
    let mut tailed = whole.clone();
    tailed
        .chunks
        .iter_mut()
        .flatten()
        .for_each(|c| c.extend([7; 9]));
    lab.serve(tailed);
    lab.give(&lab.order(&[&next])?)?;
    lab.raised(FailureCode::Mismatch, refusals)?;
    let topic = topic::bundle(&next.digest());
    let refusals = lab.refusals(FailureCode::Mismatch);
    let extra = Chunk {
        index: 5_000,
        bytes: &[1; 100],
    };
    lab.broker.inject(&topic, extra.encode());
    lab.raised(FailureCode::Mismatch, refusals)?;
    lab.serve(whole);
    lab.commits(&next)?;
    lab.broker.clear_rule();
    // A manifest that lists a file of a kind that bundles do not have: links, devices.
    let strange = unknown_role(&next)?.signed(&lab.keys.release_signers());
    refused_manifest(&mut lab, "a file of an unknown kind", &strange)?;
    let twice = next
        .with_manifest(|m| {
            m.counter += 1;
            m.files
                .iter_mut()
                .for_each(|f| f.name = "model.onnx".into());
        })
        .signed(&lab.keys.release_signers());
    refused_manifest(&mut lab, "one name for several files", &twice)?;
    // Files that somebody puts beside a bundle's own are never read.
    lab.device.stop()?;
    let folder = data_encoding::HEXLOWER.encode(&next.digest());
    let folder = lab.device.data().join("bundles").join(folder);
    crate::server::write(&folder.join("model2.onnx"), &onnx::times(EVIL))?;
    lab.device.start()?;
    lab.still_serves()?;
    lab.recovers()
}

/// The manifest with the role of its last file replaced by one that does not exist.
fn unknown_role(artifact: &Artifact) -> Result<Artifact> {
    let artifact = artifact.with_manifest(|m| m.counter += 1);
    let mut bytes = artifact.envelope.unverified_payload().to_vec();
    // In postcard the role is the byte after the file's name.
    let name = b"ballast.bin";
    let at = bytes.windows(name.len()).position(|w| w == name);
    let role = at.and_then(|at| bytes.get_mut(at + name.len()));
    match role {
        Some(role) => *role = 9,
        None => return fail("the manifest has no file ballast.bin"),
    }
    Ok(artifact.with_manifest_bytes(bytes))
}

/// A signed manifest that must be refused before anything of the bundle is fetched.
fn refused_manifest(lab: &mut Lab, what: &str, artifact: &Artifact) -> Result<()> {
    let mark = lab.broker.mark();
    let digest = artifact.digest();
    lab.serve(Serving::new(&lab.keys, &lab.device.id, artifact)?);
    lab.withstands_after_order(what, FailureCode::Incompatible, |lab| {
        lab.give(&lab.order(&[artifact])?)
    })?;
    lab.next_counter = lab.next_counter.max(artifact.manifest.counter + 1);
    let fetched = lab.broker.seen(mark).iter().any(|message| {
        let message = up_of(message).map(|n| n.message);
        matches!(message, Some(Up::WantChunks { digest: d, .. }) if d == digest)
    });
    lab.broker.clear_rule();
    ensure(!fetched, || format!("{what}: chunks were asked for"))
}

fn d4(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("D4")?;
    let first = lab.first.clone();
    let neighbour = DeviceId::of(&crate::keys::draw()?.public());
    let order = lab.order_with(&[&first], |order| {
        order.assignment.device = neighbour.clone();
    })?;
    lab.withstands(
        "a neighbour's assignment",
        FailureCode::WrongRecipient,
        |lab| lab.give(&order),
    )?;
    let mine = lab.order(&[&first])?.message()?;
    lab.withstands(
        "a neighbour's message",
        FailureCode::WrongRecipient,
        |lab| {
            let bytes = addressed(&lab.keys.fleet, neighbour.as_str(), mine)?;
            lab.broker.inject(&lab.down_topic(), bytes);
            Ok(())
        },
    )?;
    let elsewhere = if std::env::consts::ARCH == "arm" {
        "x86_64"
    } else {
        "arm"
    };
    let mut foreign = Recipe::evil(lab.next_counter);
    foreign.arch = vec![elsewhere.into()];
    let foreign = foreign.make()?.signed(&lab.keys.release_signers());
    refused_manifest(&mut lab, "a bundle for another architecture", &foreign)?;
    let mut large = Recipe::evil(lab.next_counter);
    large.memory_bytes = 1 << 42;
    let large = large.make()?.signed(&lab.keys.release_signers());
    refused_manifest(&mut lab, "a bundle for more memory than there is", &large)?;
    lab.recovers()
}

fn d5(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("D5")?;
    let neighbour = DeviceId::of(&crate::keys::draw()?.public());
    let order = lab.order_with(&[], |order| {
        order.assignment.device = neighbour.clone();
    })?;
    lab.withstands(
        "a neighbour's empty assignment",
        FailureCode::WrongRecipient,
        |lab| lab.give(&order),
    )?;
    lab.withstands(
        "the same in a message to the neighbour",
        FailureCode::WrongRecipient,
        |lab| {
            let bytes = addressed(&lab.keys.fleet, neighbour.as_str(), order.message()?)?;
            lab.broker.inject(&lab.down_topic(), bytes);
            Ok(())
        },
    )?;
    let stale = lab.order_with(&[], |order| order.assignment.sequence = 1)?;
    lab.withstands(
        "an empty assignment of long ago",
        FailureCode::Rollback,
        |lab| lab.give(&stale),
    )?;
    lab.recovers()
}

fn d6(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("D6")?;
    let base = Recipe::evil(lab.next_counter).make()?;
    let mut bytes = base.envelope.unverified_payload().to_vec();
    if let Some(version) = bytes.first_mut() {
        *version = 9;
    }
    let future = base
        .with_manifest_bytes(bytes)
        .signed(&lab.keys.release_signers());
    refused_manifest(&mut lab, "a manifest of an unknown format", &future)?;
    let strange = unknown_role(&base)?.signed(&lab.keys.release_signers());
    refused_manifest(&mut lab, "content of an unknown kind", &strange)?;
    let bomb = base
        .with_manifest(|m| {
            m.counter += 2;
            m.files.iter_mut().for_each(|f| f.size = 1 << 40);
        })
        .signed(&lab.keys.release_signers());
    refused_manifest(&mut lab, "terabytes behind a few chunks", &bomb)?;
    // Chunks that grow on the way: more bytes than were signed, as much as a packet holds.
    let next = lab.publish_next()?;
    let memory = lab.device.resident_bytes();
    let refusals = lab.refusals(FailureCode::Mismatch);
    let whole = Serving::new(&lab.keys, &lab.device.id, &next)?;
    let mut grown = whole.clone();
    grown
        .chunks
        .iter_mut()
        .flatten()
        .for_each(|c| c.resize(128 * 1024, 0));
    lab.serve(grown);
    lab.give(&lab.order(&[&next])?)?;
    lab.raised(FailureCode::Mismatch, refusals)?;
    hold(QUIET + Duration::from_millis(400), || Ok(()))?;
    lab.still_serves()?;
    let more = lab.device.resident_bytes().saturating_sub(memory);
    ensure(more < 48 << 20, || {
        format!("the agent's memory grew by {more} bytes under chunks that outgrow their size")
    })?;
    lab.serve(whole);
    lab.commits(&next)?;
    lab.recovers()
}
