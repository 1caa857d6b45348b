//! A: what is signed by the wrong keys, by too few, or under a root that does not hold.

use drover_trust::{Domain, Envelope};
use drover_wire::message::FailureCode;
use serde_json::Value;

use super::Row;
use crate::artifact::{Artifact, Recipe};
use crate::attacker::{RawEnvelope, RawSignature, Serving, mis_signed};
use crate::clock::hold;
use crate::error::{Result, ensure};
use crate::keys::{draw, sign_root};
use crate::lab::{Lab, QUIET};
use crate::suite::Suite;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "A1",
        attack: "arbitrary software: flipped bits, unknown, wrong-role, weak and malleable keys",
        defence: "release threshold over the manifest by strict ed25519, digests of all chunks",
        play: a1,
    },
    Row {
        id: "A2",
        attack: "one key that signs twice, under two entries and two identities",
        defence: "distinct key material is counted",
        play: a2,
    },
    Row {
        id: "A3",
        attack: "broker, fleet and catalog keys stolen, and one of two release keys",
        defence: "no online key makes a release; release needs its threshold",
        play: a3,
    },
    Row {
        id: "A4",
        attack: "root N+2, roots by new keys alone, forged versions; five rotations while away",
        defence: "root N+1 by the thresholds of N and of N+1, one version at a time",
        play: a4,
    },
    Row {
        id: "A5",
        attack: "a manifest by a release key that was revoked",
        defence: "a newer root ends what its predecessors' keys signed, unless committed",
        play: a5,
    },
];

/// Gives an order for a bundle and serves this manifest, and then these chunks, for it.
fn deliver(lab: &Lab, artifact: &Artifact, manifest: Vec<u8>) -> Result<()> {
    let mut serving = Serving::new(&lab.keys, &lab.device.id, artifact)?;
    serving.manifest = Some(manifest);
    lab.serve(serving);
    lab.give(&lab.order(&[artifact])?)
}

/// The encoded envelope with one bit of it changed.
fn flipped(envelope: &Envelope, bit_from_end: usize) -> Result<Vec<u8>> {
    let mut bytes = envelope.encode()?;
    let at = bytes.len().saturating_sub(1 + bit_from_end / 8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (bit_from_end % 8);
    }
    Ok(bytes)
}

/// S + L: the same signature to who does not look whether S is below the group's order.
fn with_non_canonical_s(mut raw: RawEnvelope) -> RawEnvelope {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    for signature in &mut raw.signatures {
        let mut carry = 0u16;
        for (byte, order) in signature.s.iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
    }
    raw
}

fn a1(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("A1")?;
    let honest = lab.publish_next()?;
    let evil = Recipe::evil(honest.manifest.counter).make()?;
    let signed = honest.envelope.clone();
    let manifest_bits = signed.unverified_payload().len() * 4;
    let unknown = draw()?;
    let raw = RawEnvelope::of(&signed)?;
    let weak = |point: [u8; 32]| {
        // The identity point "signs" every message under lax rules.
        let mut identity = [0; 32];
        identity[0] = 1;
        let signature = RawSignature {
            key: drover_trust::PublicKey(point).id().0,
            r: identity,
            s: [0; 32],
        };
        let mut raw = raw.clone();
        raw.signatures = vec![signature.clone(), signature];
        raw.encode()
    };
    let mut small_order = [0; 32];
    small_order[0] = 1;
    let zeroed = {
        let mut raw = raw.clone();
        for signature in &mut raw.signatures {
            (signature.r, signature.s) = ([0; 32], [0; 32]);
        }
        raw.encode()
    };
    let manifests: [(&str, &Artifact, Vec<u8>); 9] = [
        (
            "a flipped bit in a signature",
            &honest,
            flipped(&signed, 77)?,
        ),
        (
            "a flipped bit in the manifest",
            &honest,
            flipped(&signed, 128 * 8 * 2 + manifest_bits)?,
        ),
        (
            "an unknown key",
            &evil,
            mis_signed(&evil, Domain::Manifest, &unknown).encode()?,
        ),
        (
            "the fleet key",
            &evil,
            mis_signed(&evil, Domain::Manifest, &lab.keys.fleet).encode()?,
        ),
        (
            "release keys in another domain",
            &evil,
            mis_signed(&evil, Domain::Up, lab.keys.release_signers()[0]).encode()?,
        ),
        ("an all-zero key", &honest, weak([0; 32])),
        ("a key of small order", &honest, weak(small_order)),
        ("signatures of zeros", &honest, zeroed),
        (
            "signatures whose S is not canonical",
            &honest,
            with_non_canonical_s(raw.clone()).encode(),
        ),
    ];
    for (what, artifact, manifest) in manifests {
        lab.withstands_after_order(what, FailureCode::SignatureInvalid, |lab| {
            deliver(lab, artifact, manifest)
        })?;
    }
    // A bit of a message's own envelope, and of each chunk.
    let order = lab.order(&[&honest])?.message()?;
    lab.withstands(
        "a flipped bit in a message",
        FailureCode::SignatureInvalid,
        |lab| {
            let bytes = crate::attacker::addressed(&lab.keys.fleet, &lab.device.id, order)?;
            let mut bytes = bytes;
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 1;
            }
            lab.broker.inject(&lab.down_topic(), bytes);
            Ok(())
        },
    )?;
    chunk_by_chunk(&mut lab, &honest)?;
    lab.recovers()
}

/// Every chunk comes with a flipped bit first; none of them is kept, and the right ones end
/// the download.
fn chunk_by_chunk(lab: &mut Lab, honest: &Artifact) -> Result<()> {
    let refusals = lab.refusals(FailureCode::Mismatch);
    let mut serving = Serving::new(&lab.keys, &lab.device.id, honest)?;
    let whole = serving.chunks.clone();
    for chunk in serving.chunks.iter_mut().flatten() {
        if let Some(byte) = chunk.last_mut() {
            *byte ^= 1;
        }
    }
    lab.serve(serving.clone());
    lab.give(&lab.order(&[honest])?)?;
    lab.raised(FailureCode::Mismatch, refusals)?;
    lab.still_serves()?;
    let chunks = lab.device.data().join("chunks");
    let kept = std::fs::read_dir(chunks).into_iter().flatten().flatten();
    let kept: usize = kept
        .map(|folder| std::fs::read_dir(folder.path()).map_or(0, Iterator::count))
        .sum();
    ensure(kept == 0, || {
        format!("{kept} chunks with flipped bits were kept")
    })?;
    serving.chunks = whole;
    lab.serve(serving);
    lab.commits(honest)
}

fn a2(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("A2")?;
    let evil = Recipe::evil(lab.next_counter).make()?;
    let one = lab.keys.release_signers()[0].clone();
    let once = evil.clone().signed(&[&one]);
    let raw = RawEnvelope::of(&once.envelope)?;
    let twice = {
        let mut raw = raw.clone();
        raw.signatures.extend(raw.signatures.clone());
        raw.encode()
    };
    let other_identity = {
        let mut raw = raw.clone();
        raw.signatures.extend(raw.signatures.clone());
        if let Some(second) = raw.signatures.last_mut() {
            second.key = lab.keys.release_signers()[1].public().id().0;
        }
        raw.encode()
    };
    for (what, manifest) in [
        ("one release key, entered twice", twice),
        ("one release key under two identities", other_identity),
    ] {
        lab.withstands_after_order(what, FailureCode::SignatureInvalid, |lab| {
            deliver(lab, &evil, manifest)
        })?;
    }
    // The same on the root role: one root key, twice, for a root of the attacker's.
    let attackers = crate::keys::Keys::draw()?;
    let mut metadata = lab.keys.metadata(2);
    metadata.roles = attackers.metadata(2).roles;
    let own: Vec<_> = attackers.root_signers();
    let mut root = sign_root(&metadata, &own)?;
    root.sign(Domain::Root, &lab.keys.root[0]);
    let mut raw = RawEnvelope::of(&root)?;
    raw.signatures.extend(raw.signatures.last().cloned());
    let doubled = Envelope::decode(&raw.encode())?;
    lab.withstands(
        "one root key, entered twice",
        FailureCode::RootInvalid,
        |lab| lab.offer_roots(&[&doubled]),
    )?;
    lab.recovers()
}

fn a3(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("A3")?;
    let evil = Recipe::evil(lab.next_counter).make()?;
    let keys = lab.keys.clone();
    let one_key = evil.clone().signed(&[&keys.release[0]]);
    let online = evil
        .clone()
        .signed(&[&keys.release[0], &keys.fleet, &keys.catalog]);
    for (what, manifest) in [
        ("no release key at all", evil.envelope.encode()?),
        ("one of two release keys", one_key.envelope.encode()?),
        ("one of two and all online keys", online.envelope.encode()?),
    ] {
        lab.withstands_after_order(what, FailureCode::SignatureInvalid, |lab| {
            deliver(lab, &evil, manifest)
        })?;
    }
    // What release keys did sign, with other numbers than they signed.
    let honest = lab.publish_next()?;
    lab.withstands_after_order(
        "a digest of one bundle, the manifest of another",
        FailureCode::Mismatch,
        |lab| deliver(lab, &evil, honest.envelope.encode()?),
    )?;
    // The fleet key alone: the catalog does not list what is assigned.
    let order = lab.order_with(&[&honest], |order| {
        order.assignment.bundles = vec![evil.assigned()];
    })?;
    lab.withstands(
        "a bundle that no catalog lists",
        FailureCode::Unlisted,
        |lab| lab.give(&order),
    )?;
    lab.recovers()
}

fn a4(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("A4")?;
    let keys = lab.keys.clone();
    let attackers = crate::keys::Keys::draw()?;
    let mut skipping = keys.root_signers();
    skipping.extend(attackers.root_signers());
    let next = attackers.metadata(2);
    let forged = [
        ("root N+2", sign_root(&attackers.metadata(3), &skipping)?),
        (
            "a root by new keys alone",
            sign_root(&next, &attackers.root_signers())?,
        ),
        (
            "a root by old keys alone",
            sign_root(&next, &keys.root_signers())?,
        ),
        ("a root by one old key", {
            let mut signers = attackers.root_signers();
            signers.push(&keys.root[0]);
            sign_root(&next, &signers)?
        }),
        ("a root of another fleet", {
            let mut other = next.clone();
            other.fleet = "other".into();
            sign_root(&other, &skipping)?
        }),
    ];
    for (what, root) in &forged {
        lab.withstands(what, FailureCode::RootInvalid, |lab| {
            lab.offer_roots(&[root])
        })?;
    }
    // Five rotations of every key while the device is away, and one session to catch up.
    lab.device.stop()?;
    let mut held = keys;
    for version in 1..=5 {
        let next = crate::keys::Keys::draw()?;
        let root = held.successor(version, &next)?;
        lab.take_up(next.clone(), root)?;
        held = next;
    }
    lab.device.start()?;
    lab.follows_root(6)?;
    // The first root again changes nothing: it is passed over, as known.
    let first = lab.first_root.clone();
    lab.offer_roots(&[&first])?;
    hold(QUIET, || {
        let status = lab.device.status()?;
        let root = status.pointer("/fleet/root").and_then(Value::as_u64);
        ensure(root == Some(6), || {
            format!("the device went back to root {root:?}")
        })
    })?;
    lab.recovers()
}

fn a5(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("A5")?;
    let stolen = lab.keys.clone();
    let old = Recipe::evil(lab.next_counter)
        .make()?
        .signed(&stolen.release_signers());
    // Half of it is on the device when the release keys are revoked.
    let mut serving = Serving::new(&lab.keys, &lab.device.id, &old)?;
    serving.chunks.iter_mut().skip(1).for_each(|c| *c = None);
    let refusals = lab.refusals(FailureCode::Revoked);
    lab.serve(serving);
    lab.give(&lab.order(&[&old])?)?;
    lab.device
        .wait_status("a download under way", crate::lab::SOON, |status| {
            let update = status.pointer("/fleet/update")?.as_str()?;
            update.starts_with("fetching, 1 of").then_some(())
        })?;
    let mut next = lab.keys.clone();
    next.release = vec![draw()?, draw()?];
    let root = lab.keys.successor(1, &next)?;
    lab.take_up(next, root)?;
    lab.follows_root(2)?;
    lab.raised(FailureCode::Revoked, refusals)?;
    lab.still_serves()?;
    // Then the old manifest again, whole and once validly signed.
    lab.withstands_after_order(
        "a manifest by revoked keys",
        FailureCode::SignatureInvalid,
        |lab| deliver(lab, &old, old.envelope.encode()?),
    )?;
    lab.recovers()
}
