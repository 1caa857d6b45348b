//! What somebody at the broker learns of a confidential release: nothing of its content.

use std::collections::HashSet;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use drover_api::ErrorCode;
use drover_bundle::VerifiedManifest;
use drover_trust::Envelope;
use drover_wire::bitmap::Bitmap;
use drover_wire::chunk::Chunk;
use drover_wire::message::{Addressed, Down, Up};
use drover_wire::topic;
use hpke::aead::ChaCha20Poly1305 as HpkeAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR};
use rumqttc::{Packet, QoS};

use crate::device::Device;
use crate::round_trip::everyone;
use crate::support::{Fleet, Private, exchange_secret, key, signed_bundle};

#[tokio::test(flavor = "multi_thread")]
async fn the_content_of_a_confidential_release_is_for_devices_alone() {
    let fleet = Fleet::start().await;
    let mut device = Device::enrol(&fleet, 30).await;
    device.hello(0).await;
    let container = signed_bundle(1);
    let verified = VerifiedManifest::open(&container.envelope, &fleet.root).unwrap();
    let digest = *verified.digest();
    let bytes = container.encode().unwrap();
    let published = fleet.operate(move |c| c.publish_confidential(&bytes)).await;
    assert!(published.unwrap().confidential);
    let bytes = container.encode().unwrap();
    let plain = fleet.operate(move |c| c.publish_release(&bytes)).await;
    assert_eq!(plain.unwrap_err().code(), Some(ErrorCode::Conflict));
    fleet
        .operate(|c| c.create_rollout(&everyone()))
        .await
        .unwrap();
    device.assignment(0).await;

    let bundle = topic::bundle(&digest);
    device
        .client
        .subscribe(bundle, QoS::AtLeastOnce)
        .await
        .unwrap();
    device.say(Up::WantManifest { digest }).await;
    let total = u32::try_from(verified.manifest().chunking.digests.len()).unwrap();
    let missing = Bitmap::full(total);
    device.say(Up::WantChunks { digest, missing }).await;

    // All that the broker sees.
    let secrets: HashSet<&[u8]> = container.payload.windows(32).collect();
    let (mut key_of_content, mut manifest, mut chunks) = (None, false, HashSet::new());
    while chunks.len() < total as usize || !manifest {
        let publish = device
            .packet("chunk", |packet| match packet {
                Packet::Publish(publish) => Some(publish.clone()),
                _ => None,
            })
            .await;
        let leaks = publish.payload.windows(32).any(|w| secrets.contains(w));
        assert!(!leaks, "the model is readable on {}", publish.topic);
        if let Some(chunk) = Chunk::decode(&publish.payload)
            && topic::digest_of_bundle(&publish.topic) == Some(digest)
        {
            chunks.insert((chunk.index, chunk.bytes.to_vec()));
            continue;
        }
        let envelope = Envelope::decode(&publish.payload).unwrap();
        match Addressed::decode(envelope.unverified_payload())
            .unwrap()
            .message
        {
            Down::ContentKey {
                encapsulated,
                wrapped,
                ..
            } => {
                assert!(!manifest, "the key came late");
                let open = |n| unwrap(&exchange_secret(&key(n)), &encapsulated, &wrapped, &digest);
                assert_eq!(open(31), None, "another device reads it");
                key_of_content = open(30);
            }
            Down::Manifest { .. } => manifest = true,
            _ => {}
        }
    }
    let content: [u8; 32] = key_of_content.unwrap().try_into().unwrap();
    let cipher = ChaCha20Poly1305::new(&content.into());
    for (index, sealed) in chunks {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&index.to_le_bytes());
        let payload = Payload {
            msg: &sealed,
            aad: &digest,
        };
        let opened = cipher.decrypt(&nonce.into(), payload).unwrap();
        verified.check_chunk(index, &opened).unwrap();
    }
}

fn unwrap(
    secret: &Private,
    encapsulated: &[u8; 32],
    wrapped: &[u8],
    digest: &[u8; 32],
) -> Option<Vec<u8>> {
    hpke::single_shot_open::<HpkeAead, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        secret,
        &<X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).unwrap(),
        b"drover/content-key/v1",
        wrapped,
        digest,
    )
    .ok()
}
