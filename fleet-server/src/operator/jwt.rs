//! Verifies JSON Web Tokens: their form by `jsonwebtoken`, their signatures by ring, which is
//! in the server for TLS anyway. Only public-key algorithms exist here, so that no token can
//! ask to be verified with a public key as its shared secret, or not at all.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation};
use ring::signature as ring;
use serde::de::DeserializeOwned;

/// Clocks of issuer and server may differ by so much, in seconds.
const LEEWAY_SECS: u64 = 60;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Key::new(*algorithm, key)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

/// The claims of `token`, if one of `keys` signed it and issuer, audience and time are right.
pub(super) fn verify<T: DeserializeOwned>(
    token: &str,
    keys: &JwkSet,
    issuer: &str,
    audience: &str,
) -> Result<T, Error> {
    // The second time it is installed already.
    let _ = PROVIDER.install_default();
    let header = jsonwebtoken::decode_header(token)?;
    let usable = |key: &&jsonwebtoken::jwk::Jwk| {
        let signs = &key.common.public_key_use;
        matches!(signs, None | Some(PublicKeyUse::Signature))
    };
    let key = match &header.kid {
        Some(kid) => keys.find(kid).filter(usable),
        None => match keys.keys.iter().filter(usable).collect::<Vec<_>>()[..] {
            [only] => Some(only),
            _ => None,
        },
    };
    let key = key.ok_or(ErrorKind::InvalidKeyFormat)?;
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY_SECS;
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let key = DecodingKey::from_jwk(key)?;
    Ok(jsonwebtoken::decode(token, &key, &validation)?.claims)
}

/// A public key and the algorithm that the token names, which fit each other.
struct Key {
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Plain(ring::UnparsedPublicKey<Vec<u8>>),
    Rsa(
        &'static ring::RsaParameters,
        ring::RsaPublicKeyComponents<Vec<u8>>,
    ),
}

impl Key {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        let plain = |with: &'static dyn ring::VerificationAlgorithm| {
            let bytes = key.try_get_as_bytes()?.to_vec();
            Ok::<_, Error>(Material::Plain(ring::UnparsedPublicKey::new(with, bytes)))
        };
        let rsa = |with| match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let (n, e) = (n.clone(), e.clone());
                Ok(Material::Rsa(with, ring::RsaPublicKeyComponents { n, e }))
            }
            DecodingKeyKind::SecretOrDer(_) => Err(Error::from(ErrorKind::InvalidKeyFormat)),
        };
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let material = match algorithm {
            Algorithm::RS256 => rsa(&ring::RSA_PKCS1_2048_8192_SHA256)?,
            Algorithm::RS384 => rsa(&ring::RSA_PKCS1_2048_8192_SHA384)?,
            Algorithm::RS512 => rsa(&ring::RSA_PKCS1_2048_8192_SHA512)?,
            Algorithm::PS256 => rsa(&ring::RSA_PSS_2048_8192_SHA256)?,
            Algorithm::PS384 => rsa(&ring::RSA_PSS_2048_8192_SHA384)?,
            Algorithm::PS512 => rsa(&ring::RSA_PSS_2048_8192_SHA512)?,
            Algorithm::ES256 => plain(&ring::ECDSA_P256_SHA256_FIXED)?,
            Algorithm::ES384 => plain(&ring::ECDSA_P384_SHA384_FIXED)?,
            Algorithm::EdDSA => plain(&ring::ED25519)?,
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        Ok(Self {
            algorithm,
            material,
        })
    }
}

impl Verifier<Vec<u8>> for Key {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let verified = match &self.material {
            Material::Plain(key) => key.verify(message, signature),
            Material::Rsa(parameters, key) => key.verify(parameters, message, signature),
        };
        verified.map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Key {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
