//! Keys of confidential bundles: unwrapped for this device alone, and used on its chunks.
//!
//! The device's X25519 key follows from its ed25519 seed, so that there is one secret to
//! keep. Content keys live in memory only: after a restart the server is asked for them
//! again, together with the manifest. Nothing here vouches for a bundle; its digests, which
//! are of the plaintext, are checked by whoever takes the chunks.

use std::collections::BTreeMap;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use drover_trust::SecretKey;
use drover_wire::limits::SEAL_BYTES;
use drover_wire::message::Digest;
use hpke::aead::ChaCha20Poly1305 as HpkeAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, Serializable as _};
use sha2::{Digest as _, Sha256};

/// In front of the seed, so that the two keys have nothing in common.
const DOMAIN: &[u8] = b"drover/exchange/v1";
/// HPKE's `info`.
const INFO: &[u8] = b"drover/content-key/v1";
/// Bundles whose keys are held at most: one is fetched at a time.
const MAX_KEYS: usize = 4;

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// The device's X25519 key.
pub struct ExchangeKey(Private);

impl std::fmt::Debug for ExchangeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExchangeKey")
    }
}

impl ExchangeKey {
    /// The one that belongs to a device key.
    #[must_use]
    pub fn of(key: &SecretKey) -> Self {
        let secret = Sha256::new_with_prefix(DOMAIN).chain_update(key.seed());
        let private = Private::from_bytes(&secret.finalize());
        Self(private.expect("any 32 bytes are an X25519 key"))
    }

    /// Its public half, for the enrolment.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().into()
    }

    fn unwrap(&self, digest: &Digest, encapsulated: &[u8; 32], wrapped: &[u8]) -> Option<[u8; 32]> {
        let encapsulated = Encapsulated::from_bytes(encapsulated).ok()?;
        let mode = OpModeR::Base;
        let mut context = hpke::setup_receiver::<HpkeAead, HkdfSha256, X25519HkdfSha256>(
            &mode,
            &self.0,
            &encapsulated,
            INFO,
        )
        .ok()?;
        context.open(wrapped, digest).ok()?.try_into().ok()
    }
}

/// The content keys that came, and how long chunks are without encryption.
#[derive(Debug)]
pub(crate) struct ContentKeys {
    exchange: ExchangeKey,
    keys: BTreeMap<Digest, ContentKey>,
    lengths: BTreeMap<Digest, Lengths>,
}

/// What a chunk of a bundle is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Its content, which nobody has checked.
    Content(Vec<u8>),
    /// It is encrypted, and the key has not come.
    KeyMissing,
    /// It was not encrypted with the key that came, as this chunk of this bundle.
    Damaged,
}

#[derive(Clone, Copy, Debug)]
struct Lengths {
    chunk: u64,
    total: u64,
}

struct ContentKey(ChaCha20Poly1305);

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKey")
    }
}

impl ContentKeys {
    pub(crate) fn new(key: &SecretKey) -> Self {
        Self {
            exchange: ExchangeKey::of(key),
            keys: BTreeMap::new(),
            lengths: BTreeMap::new(),
        }
    }

    /// Takes the key of a bundle; whether it is for this device and this bundle.
    pub(crate) fn take(&mut self, digest: Digest, encapsulated: &[u8; 32], wrapped: &[u8]) -> bool {
        let Some(key) = self.exchange.unwrap(&digest, encapsulated, wrapped) else {
            return false;
        };
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&digest) {
            self.keys.clear();
        }
        let cipher = ContentKey(ChaCha20Poly1305::new(&key.into()));
        self.keys.insert(digest, cipher);
        true
    }

    /// Notes the lengths of a bundle that is being fetched.
    pub(crate) fn expect(&mut self, digest: Digest, chunk_bytes: u32, total_bytes: u64) {
        if self.lengths.len() >= MAX_KEYS {
            self.lengths.clear();
        }
        let lengths = Lengths {
            chunk: u64::from(chunk_bytes),
            total: total_bytes,
        };
        self.lengths.insert(digest, lengths);
    }

    /// The content of a chunk: as it came where the bundle has no key, decrypted where it
    /// has.
    pub(crate) fn open(&self, digest: &Digest, index: u32, bytes: &[u8]) -> Opened {
        let Some(ContentKey(cipher)) = self.keys.get(digest) else {
            return if self.is_encrypted(digest, index, bytes) {
                Opened::KeyMissing
            } else {
                Opened::Content(bytes.to_vec())
            };
        };
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&index.to_le_bytes());
        let payload = Payload {
            msg: bytes,
            aad: digest,
        };
        match cipher.decrypt(&nonce.into(), payload) {
            Ok(content) => Opened::Content(content),
            Err(_) => Opened::Damaged,
        }
    }

    /// Whether a chunk is longer than it should be by just what encryption adds.
    fn is_encrypted(&self, digest: &Digest, index: u32, bytes: &[u8]) -> bool {
        self.lengths.get(digest).is_some_and(|lengths| {
            let before = u64::from(index).saturating_mul(lengths.chunk);
            let plain = lengths.total.saturating_sub(before).min(lengths.chunk);
            plain > 0 && bytes.len() as u64 == plain + SEAL_BYTES as u64
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// As the server does it.
    pub(crate) fn seal(content: &[u8; 32], digest: &Digest, index: u32, chunk: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&index.to_le_bytes());
        let payload = Payload {
            msg: chunk,
            aad: digest,
        };
        let cipher = ChaCha20Poly1305::new(&(*content).into());
        cipher.encrypt(&nonce.into(), payload).unwrap()
    }

    /// As the server does it.
    pub(crate) fn wrap(public: &[u8; 32], digest: &Digest, key: &[u8; 32]) -> ([u8; 32], Vec<u8>) {
        struct System;
        impl hpke::rand_core::TryRng for System {
            type Error = std::convert::Infallible;
            fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
                Ok(getrandom::u32().unwrap())
            }
            fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
                Ok(getrandom::u64().unwrap())
            }
            fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
                getrandom::fill(bytes).unwrap();
                Ok(())
            }
        }
        impl hpke::rand_core::TryCryptoRng for System {}
        let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(public).unwrap();
        let (encapsulated, wrapped) =
            hpke::single_shot_seal_with_rng::<HpkeAead, HkdfSha256, X25519HkdfSha256>(
                &hpke::OpModeS::Base,
                &public,
                INFO,
                key,
                digest,
                &mut System,
            )
            .unwrap();
        (encapsulated.to_bytes().into(), wrapped)
    }

    #[test]
    fn a_key_opens_its_own_bundle_on_its_own_device_only() {
        let device = SecretKey::from_seed(&[1; 32]);
        let (bundle, secret) = ([7; 32], [9; 32]);
        let (encapsulated, wrapped) = wrap(&ExchangeKey::of(&device).public(), &bundle, &secret);

        let mut other = ContentKeys::new(&SecretKey::from_seed(&[2; 32]));
        assert!(!other.take(bundle, &encapsulated, &wrapped));
        let mut keys = ContentKeys::new(&device);
        assert!(!keys.take([8; 32], &encapsulated, &wrapped), "other bundle");
        assert!(!keys.take(bundle, &encapsulated, &wrapped[1..]));
        let content = |bytes: &[u8]| Opened::Content(bytes.to_vec());
        assert_eq!(keys.open(&bundle, 0, b"plain"), content(b"plain"));
        let sealed = seal(&secret, &bundle, 5, b"chunk");
        // Chunks of eight bytes, of which the sixth and last has five.
        keys.expect(bundle, 8, 45);
        assert_eq!(keys.open(&bundle, 5, &sealed), Opened::KeyMissing);
        assert_eq!(keys.open(&bundle, 5, b"chunk"), content(b"chunk"));

        assert!(keys.take(bundle, &encapsulated, &wrapped));
        assert_eq!(keys.open(&bundle, 5, &sealed), content(b"chunk"));
        assert_eq!(keys.open(&bundle, 4, &sealed), Opened::Damaged, "moved");
        assert_eq!(keys.open(&bundle, 5, b"chunk"), Opened::Damaged, "plain");
        assert_eq!(keys.open(&[8; 32], 5, b"other"), content(b"other"));
    }
}
