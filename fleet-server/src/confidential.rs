//! Confidential releases: chunks that only the fleet's devices can read.
//!
//! One key per release encrypts its chunks, so that they still travel once for all devices;
//! each device gets that key wrapped to its own. The broker sees neither. This hides content,
//! it vouches for nothing: the signed digests are of the plaintext.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use drover_api::Severity;
use drover_trust::DeviceId;
use drover_trust::mutation::{Check, is_disabled};
use drover_wire::message::{Digest, Down};
use hpke::aead::ChaCha20Poly1305 as HpkeAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _};
use sha2::{Digest as _, Sha256};

use crate::data_dir::DataDir;
use crate::state::Core;
use crate::store::NewEvent;
use crate::{ServerError, random};

/// HPKE's `info`.
const INFO: &[u8] = b"drover/content-key/v1";

/// Encrypts the chunks of one release.
pub(crate) struct Cipher {
    cipher: ChaCha20Poly1305,
    digest: Digest,
}

impl Cipher {
    /// The one of a confidential release.
    pub(crate) fn of(data: &DataDir, digest: Digest) -> Result<Self, ServerError> {
        let stored = ServerError::Stored {
            what: "content key",
        };
        let key = data.content_key(&digest)?.ok_or(stored)?;
        Ok(Self::new(&key, digest))
    }

    fn new(key: &[u8; 32], digest: Digest) -> Self {
        Self {
            cipher: ChaCha20Poly1305::new(&(*key).into()),
            digest,
        }
    }

    /// What travels instead of a chunk; the same each time, since a nonce is never used for
    /// two contents.
    pub(crate) fn seal(&self, index: u32, chunk: Vec<u8>) -> Result<Vec<u8>, ServerError> {
        if is_disabled(Check::Confidentiality) {
            return Ok(chunk);
        }
        let mut nonce = [0; 12];
        let (head, _) = nonce.split_at_mut(4);
        head.copy_from_slice(&index.to_le_bytes());
        let payload = Payload {
            msg: &chunk,
            aad: &self.digest,
        };
        let sealed = self.cipher.encrypt(&nonce.into(), payload);
        sealed.map_err(|_| ServerError::Encode)
    }
}

/// Sends a device the key to a release's chunks, before anything else of that release; `false`
/// when it cannot have it.
pub(crate) async fn send_key(
    core: &Core,
    device: &DeviceId,
    digest: Digest,
) -> Result<bool, ServerError> {
    let Some(key) = core.data.content_key(&digest)? else {
        return Err(ServerError::Stored {
            what: "content key",
        });
    };
    let public = core.store.exchange_key(device.as_str()).await?;
    let wrapped = match public {
        Some(public) => wrap(&public, &digest, &key)?,
        None => None,
    };
    let Some((encapsulated, wrapped)) = wrapped else {
        let detail = "the release is confidential and the device has given no key to wrap its \
                      content to; enrol it again with a newer agent"
            .to_owned();
        let event = NewEvent::of(
            device.as_str(),
            Severity::Warning,
            "no-exchange-key",
            detail,
        );
        core.store.add_event(&event).await?;
        return Ok(false);
    };
    let message = Down::ContentKey {
        digest,
        encapsulated,
        wrapped,
    };
    core.send(device, message).await
}

/// HPKE's encapsulated key and what it wraps.
type Wrapped = ([u8; 32], Vec<u8>);

/// A content key for the holder of `public` alone; none when that is no key.
fn wrap(
    public: &[u8; 32],
    digest: &Digest,
    key: &[u8; 32],
) -> Result<Option<Wrapped>, ServerError> {
    let Ok(public) = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(public) else {
        return Ok(None);
    };
    let mut drawn = Drawn {
        seed: random::bytes()?,
        block: 0,
    };
    let sealed = hpke::single_shot_seal_with_rng::<HpkeAead, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        INFO,
        key,
        digest,
        &mut drawn,
    );
    // A public key of small order is refused here.
    Ok(sealed
        .ok()
        .map(|(encapsulated, wrapped)| (encapsulated.to_bytes().into(), wrapped)))
}

/// Random numbers out of a seed from the operating system, whose failure was seen when the
/// seed was drawn: HPKE knows no source that can fail.
struct Drawn {
    seed: [u8; 32],
    block: u64,
}

impl Drawn {
    fn next(&mut self) -> [u8; 32] {
        self.block += 1;
        let hash = Sha256::new_with_prefix(self.seed);
        hash.chain_update(self.block.to_le_bytes())
            .finalize()
            .into()
    }
}

impl hpke::rand_core::TryRng for Drawn {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let [a, b, c, d, ..] = self.next();
        Ok(u32::from_le_bytes([a, b, c, d]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let [a, b, c, d, e, f, g, h, ..] = self.next();
        Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(32) {
            let drawn = self.next();
            chunk
                .iter_mut()
                .zip(drawn)
                .for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}

impl hpke::rand_core::TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests {
    use super::*;
    use hpke::OpModeR;

    type Private = <X25519HkdfSha256 as Kem>::PrivateKey;

    fn unwrap(
        private: &Private,
        digest: &Digest,
        wrapped: &([u8; 32], Vec<u8>),
    ) -> Option<Vec<u8>> {
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&wrapped.0).unwrap();
        hpke::single_shot_open::<HpkeAead, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            private,
            &encapsulated,
            INFO,
            &wrapped.1,
            digest,
        )
        .ok()
    }

    #[test]
    fn a_wrapped_key_opens_on_its_device_for_its_bundle_only() {
        let device = Private::from_bytes(&[1; 32]).unwrap();
        let other = Private::from_bytes(&[2; 32]).unwrap();
        let public: [u8; 32] = X25519HkdfSha256::sk_to_pk(&device).to_bytes().into();
        let wrapped = wrap(&public, &[7; 32], &[9; 32]).unwrap().unwrap();
        assert_eq!(unwrap(&device, &[7; 32], &wrapped).unwrap(), [9; 32]);
        assert!(unwrap(&other, &[7; 32], &wrapped).is_none());
        assert!(unwrap(&device, &[8; 32], &wrapped).is_none());
        let again = wrap(&public, &[7; 32], &[9; 32]).unwrap().unwrap();
        assert_ne!(again.0, wrapped.0, "an ephemeral key was used twice");
        // A key of small order would let anybody derive the secret.
        assert!(wrap(&[0; 32], &[7; 32], &[9; 32]).unwrap().is_none());
    }

    #[test]
    fn a_chunk_is_bound_to_its_place_and_bundle() {
        let cipher = Cipher::new(&[3; 32], [7; 32]);
        let sealed = cipher.seal(1, vec![5; 100]).unwrap();
        assert_eq!(sealed.len(), 116);
        assert_ne!(sealed, cipher.seal(2, vec![5; 100]).unwrap());
        assert_ne!(
            sealed,
            Cipher::new(&[3; 32], [8; 32])
                .seal(1, vec![5; 100])
                .unwrap()
        );
        assert_eq!(sealed, cipher.seal(1, vec![5; 100]).unwrap());
    }
}
