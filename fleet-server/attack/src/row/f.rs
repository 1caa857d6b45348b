//! F: who listens, who pretends, and who is on our side by mistake.

mod insider;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use drover_trust::{Domain, Envelope, keyfile};
use drover_wire::message::{Down, FailureCode};
use drover_wire::topic;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Row;
use crate::artifact::{Artifact, Recipe};
use crate::attacker::{addressed, down_of, up_of};
use crate::clock::{Look, hold, wait};
use crate::device::Device;
use crate::error::{Result, ensure, io};
use crate::impostor::{Impostor, claim};
use crate::keys::draw;
use crate::lab::{Lab, QUIET, SOON};
use crate::server::Uses;
use crate::suite::{Suite, copy};
use crate::wiretap::Wiretap;

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "F1",
        attack: "eavesdropping on everything that crosses the broker",
        defence: "TLS 1.3 alone on the wire; chunks encrypted, their key wrapped per device",
        play: f1,
    },
    Row {
        id: "F2",
        attack: "reports played again, and reports of another device",
        defence: "reports are numbered and signed; they carry what is installed and refused",
        play: f2,
    },
    Row {
        id: "F3",
        attack: "a device with good credentials on others' topics; commands without a key",
        defence: "topics per certificate; commands are signed, addressed, in sequence and ending",
        play: f3,
    },
    Row {
        id: "F4",
        attack: "a claim used twice, by another key; a cloned device",
        defence: "a claim is for one key; clones are quarantined until an operator decides",
        play: f4,
    },
    Row {
        id: "F5",
        attack: "an insider approves the own rollout, reaches the whole fleet, edits the log",
        defence: "a second person, a largest first stage, a hash-chained log checked offline",
        play: insider::f5,
    },
];

/// Whether any message at the broker holds a stretch of these bytes.
fn is_seen(lab: &Lab, secret: &[u8]) -> bool {
    let needle = secret.get(..32).unwrap_or(secret);
    let seen = lab.broker.seen(0);
    seen.iter()
        .any(|m| m.payload.windows(needle.len()).any(|w| w == needle))
}

fn publish_confidential(lab: &mut Lab) -> Result<Artifact> {
    let artifact = Recipe::honest(lab.next_counter).make()?;
    lab.next_counter += 1;
    let artifact = artifact.signed(&lab.keys.release_signers());
    let container = artifact.container()?;
    let answer = lab
        .server
        .operator()
        .post_bytes("/v1/releases?confidential=true", &container)?;
    answer.accepted("a confidential release")?;
    Ok(artifact)
}

fn f1(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("F1")?;
    // An open release, to see that the search finds what is there.
    let open = lab.publish_next()?;
    lab.roll_out(&open)?;
    lab.commits(&open)?;
    let parts = |artifact: &Artifact| -> Vec<Vec<u8>> {
        let roles = [
            drover_bundle::FileRole::Model,
            drover_bundle::FileRole::Asset,
        ];
        let part = |role| artifact.payload.get(artifact.range_of(role)?);
        roles
            .into_iter()
            .filter_map(part)
            .map(<[u8]>::to_vec)
            .collect()
    };
    for part in parts(&open) {
        ensure(is_seen(&lab, &part), || {
            "an open release was not seen at the broker: the search is blind".into()
        })?;
    }
    let mark = lab.broker.mark();
    let secret = publish_confidential(&mut lab)?;
    lab.roll_out(&secret)?;
    let committed = lab.commits(&secret);
    let unique = parts(&secret).pop().unwrap_or_default();
    ensure(!is_seen(&lab, &unique), || {
        "bytes of a confidential release crossed the broker".into()
    })?;
    committed?;
    let wrapped = lab
        .broker
        .wait_for("the content key", SOON, mark, |message| {
            match down_of(message)?.message {
                Down::ContentKey {
                    digest,
                    encapsulated,
                    wrapped,
                } if digest == secret.digest() => Some((encapsulated, wrapped)),
                _ => None,
            }
        })?;
    let path = lab.device.data().join("identity/device.key");
    let text = io(
        || format!("read {}", path.display()),
        std::fs::read_to_string(&path),
    )?;
    let (_, own) = keyfile::parse(&text)?;
    ensure(opens(&own.seed(), &secret.digest(), &wrapped), || {
        "not even the device's own key opens the content key: the test is blind".into()
    })?;
    ensure(!opens(&draw()?.seed(), &secret.digest(), &wrapped), || {
        "another device's key opens the content key".into()
    })?;
    lab.recovers()?;
    lab.device.stop()?;
    lab.server.stop()?;
    on_the_wire(suite)
}

/// Between a device and the server's own broker, an open release crosses inside TLS alone.
fn on_the_wire(suite: &Suite) -> Result<()> {
    let tap = Wiretap::start(suite.runtime())?;
    let mut lab = suite.lab_at_rest("F1own", |setup| {
        setup.uses = Uses::Own;
        setup.more = format!("advertised_broker_port = {}\n", tap.port());
    })?;
    let port = lab.server.mqtt_port()?;
    tap.set_target(port);
    let token = lab.server.token()?;
    lab.device = Device::enrol(&lab.agent, &lab.folder, "tapped", &lab.server.url(), &token)?;
    lab.device.start()?;
    let open = lab.publish_next()?;
    lab.roll_out(&open)?;
    lab.commits(&open)?;
    let recorded = tap.recorded();
    ensure(recorded.len() > open.payload.len(), || {
        format!(
            "{} bytes were recorded, less than the bundle has",
            recorded.len()
        )
    })?;
    for part in open.payload.chunks_exact(32) {
        ensure(!recorded.windows(part.len()).any(|w| w == part), || {
            "bytes of a release were on the wire in the clear".into()
        })?;
    }
    // Without TLS there is no answer at all.
    let act = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03abc")?;
        let mut answer = [0; 64];
        stream.read(&mut answer)
    };
    let answered = act().unwrap_or(0);
    // A TLS alert may come before the end; an MQTT acknowledgement has 4 bytes.
    ensure(answered != 4, || "the broker answers without TLS".into())?;
    suite.clear("F1own");
    Ok(())
}

/// Whether the device with this seed can read a wrapped content key.
fn opens(seed: &[u8; 32], digest: &[u8; 32], wrapped: &([u8; 32], Vec<u8>)) -> bool {
    type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
    type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;
    let secret = Sha256::new_with_prefix(b"drover/exchange/v1").chain_update(seed);
    let private = Private::from_bytes(&secret.finalize());
    let encapsulated = Encapsulated::from_bytes(&wrapped.0);
    let (Ok(private), Ok(encapsulated)) = (private, encapsulated) else {
        return false;
    };
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        b"drover/content-key/v1",
        &wrapped.1,
        digest,
    )
    .is_ok()
}

fn about(event: &Value, device: &str, kind: &str) -> bool {
    let is = |key: &str, wanted: &str| event.get(key).and_then(Value::as_str) == Some(wanted);
    is("kind", kind) && is("device", device)
}

fn f2(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("F2")?;
    let id = lab.device.id.clone();
    let up = topic::up(&id);
    let report = lab
        .broker
        .wait_for("a report of the device", SOON, 0, |message| {
            (message.topic == up && up_of(message).is_some()).then(|| message.payload.clone())
        })?;
    // Something newer must have been taken for the old one to be old.
    lab.honest_update()?;
    lab.broker.inject(&up, report.clone());
    lab.server
        .wait_event("the server to notice a replayed report", SOON, |event| {
            about(event, &id, "report-replayed")
        })?;
    let forged = {
        let envelope = Envelope::decode(&report)?;
        let payload = envelope.unverified_payload().to_vec();
        Envelope::signed(payload, Domain::Up, &draw()?).encode()?
    };
    lab.broker.inject(&up, forged);
    lab.server
        .wait_event("the server to notice a forged report", SOON, |event| {
            about(event, &id, "message-refused")
        })?;
    // What the device itself reports: what is installed, and that somebody attacks it.
    let junk = vec![0x55; 200];
    lab.withstands(
        "noise on the device's topic",
        FailureCode::SignatureInvalid,
        |lab| {
            lab.broker.inject(&lab.down_topic(), junk);
            Ok(())
        },
    )?;
    wait("the server to show what the device reports", SOON, || {
        let device = lab.server.device(&id)?;
        let trust = device.get("trust").cloned().unwrap_or_default();
        let installed = trust.pointer("/installed/0/digest").and_then(Value::as_str);
        let refused = trust.get("refused").and_then(Value::as_array);
        let shows = installed.is_some_and(|d| d.len() == 64)
            && refused.is_some_and(|r| r.iter().any(|r| r["code"] == "SIG_INVALID"))
            && trust["time_floor_s"].as_u64() > Some(0);
        Ok(if shows {
            Look::Ready(())
        } else {
            Look::NotYet(device.to_string())
        })
    })?;
    lab.recovers()
}

fn f3(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("F3")?;
    // On the stolen broker: commands of somebody without a key, and what another fleet's key
    // signed for this device.
    let order = lab.order(&[])?.message()?;
    let stranger = draw()?;
    lab.withstands(
        "a command by an unknown key",
        FailureCode::SignatureInvalid,
        |lab| {
            let bytes = addressed(&stranger, &lab.device.id, order.clone())?;
            lab.broker.inject(&lab.down_topic(), bytes);
            Ok(())
        },
    )?;
    lab.withstands(
        "a plain \"rollback now\"",
        FailureCode::SignatureInvalid,
        |lab| {
            lab.broker
                .inject(&lab.down_topic(), b"rollback now".to_vec());
            Ok(())
        },
    )?;
    // Old instructions to a board that was flashed anew, and has a key of its own.
    let old = addressed(&lab.keys.fleet, &lab.device.id, order)?;
    let token = lab.server.token()?;
    let mut flashed = Device::enrol(
        &lab.agent,
        &lab.folder,
        "flashed",
        &lab.server.url(),
        &token,
    )?;
    flashed.start()?;
    std::mem::swap(&mut lab.device, &mut flashed);
    let weight = std::mem::replace(&mut lab.weight, 0.0);
    suite.ready(&lab)?;
    let refusals = lab.refusals(FailureCode::WrongRecipient);
    lab.broker.inject(&lab.down_topic(), old);
    lab.raised(FailureCode::WrongRecipient, refusals)?;
    lab.device.stop()?;
    std::mem::swap(&mut lab.device, &mut flashed);
    lab.weight = weight;
    lab.recovers()?;
    lab.device.stop()?;
    lab.server.stop()?;
    own_topics_only(suite)
}

/// At the server's own broker: a device reads and writes its own topics and nothing else.
fn own_topics_only(suite: &Suite) -> Result<()> {
    let lab = suite.lab_at_rest("F3own", |setup| setup.uses = Uses::Own)?;
    let (mallory, victim) = (Impostor::enrol(&lab.server)?, Impostor::enrol(&lab.server)?);
    let port = lab.server.mqtt_port()?;
    let runtime = suite.runtime();
    let borrowed = mallory.connect(runtime, port, &victim.id)?;
    ensure(!borrowed.settled()?, || {
        "a certificate of one device opens a session of another".into()
    })?;
    let victims = victim.connect(runtime, port, &victim.id)?;
    let mallorys = mallory.connect(runtime, port, &mallory.id)?;
    ensure(victims.settled()? && mallorys.settled()?, || {
        format!(
            "honest certificates are refused: {:?} {:?}",
            victims.seen(),
            mallorys.seen()
        )
    })?;
    victims.subscribe(&topic::down(&victim.id))?;
    mallorys.publish(&topic::down(&victim.id), b"rollback now".to_vec())?;
    let second = mallory.connect(runtime, port, &mallory.id)?;
    ensure(second.settled()?, || {
        format!("no second session: {:?}", second.seen())
    })?;
    second.subscribe("drover/v1/d/+/up")?;
    second.subscribe(&topic::down(&victim.id))?;
    // Whether anything reaches anybody shows within the time of a round trip.
    victims.publish(&topic::up(&victim.id), vec![1; 20])?;
    hold(QUIET, || {
        ensure(victims.seen().heard.is_empty(), || {
            "a device was reached on its topic by another device".into()
        })?;
        ensure(second.seen().heard.is_empty(), || {
            "a device hears what another one reports".into()
        })
    })?;
    suite.clear("F3own");
    Ok(())
}

fn f4(suite: &Suite) -> Result<()> {
    let mut lab = suite.lab("F4")?;
    let token = lab.server.token()?;
    let (first, second) = (draw()?, draw()?);
    let answer = claim(&lab.server, &token, &first)?;
    ensure(answer.is_ok(), || {
        format!("an honest claim was refused: {}", answer.text())
    })?;
    let again = claim(&lab.server, &token, &second)?;
    ensure((400..500).contains(&again.status), || {
        format!("a claim served two keys: {}", again.text())
    })?;
    let first = drover_trust::DeviceId::of(&first.public());
    quarantined(&lab, first.as_str())?;
    // The clone: the same folder, running twice.
    let id = lab.device.id.clone();
    lab.device.stop()?;
    copy(&lab.device.data(), &lab.folder.join("twin"))?;
    let mut twin = Device::at(&lab.agent, &lab.folder, "twin", id.clone());
    lab.device.start()?;
    twin.start()?;
    lab.device.serves_within(lab.weight, SOON)?;
    quarantined(&lab, &id)?;
    let next = lab.publish_next()?;
    let rolled = lab.server.operator().post(
        "/v1/rollouts",
        &json!({
            "release": format!("{}@{}", next.manifest.name, next.manifest.version),
            "selector": {"devices": [id]},
        }),
    )?;
    hold(QUIET * 3, || {
        let device = lab.server.device(&id)?;
        let wanted = device["assignment_wanted"].as_u64();
        ensure(wanted == Some(1), || {
            format!("a quarantined device was assigned something: {device}")
        })
    })?;
    lab.still_serves()?;
    twin.stop()?;
    // The operator decides; whoever speaks first from then on is the device.
    let approve = format!("/v1/devices/{id}/approve");
    let answer = lab.server.operator().post(&approve, &json!({}))?;
    answer.accepted("the approval of a quarantined device")?;
    lab.broker.cut(&id);
    if rolled.is_ok() {
        lab.commits(&next)?;
    }
    lab.recovers()
}

/// Waits until the server has put a device aside.
fn quarantined(lab: &Lab, device: &str) -> Result<()> {
    wait("a device to be quarantined", SOON, || {
        let seen = lab.server.device(device)?;
        let reason = seen.get("quarantined").and_then(Value::as_str);
        Ok(match reason {
            Some(_) => Look::Ready(()),
            None => Look::NotYet(seen.to_string()),
        })
    })?;
    lab.server
        .wait_event("a security event about the device", SOON, |event| {
            let is =
                |key: &str, wanted: &str| event.get(key).and_then(Value::as_str) == Some(wanted);
            is("device", device) && is("severity", "security")
        })
        .map(drop)
}
