//! `drover keys oms`: a P-256 key for exports in the form of OpenSSF Model Signing.
//!
//! The fleet's own keys are ed25519, which that form does not know. No device trusts this
//! key: whoever steals it can sign exports, never bundles.

use std::path::{Path, PathBuf};

use clap::Args;
use drover_trust::TrustError;
use p256::SecretKey;
use pkcs8::der::asn1::OctetString;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncodePublicKey, EncryptedPrivateKeyInfoOwned, LineEnding,
    SecretDocument,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;
use crate::passphrase::{self, Protection};
use crate::table::Table;

const SEALED_LABEL: &str = "ENCRYPTED PRIVATE KEY";

#[derive(Debug, Args)]
pub(crate) struct Oms {
    /// Where to write the private key, PEM; the public key goes beside it with `.pub`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    protection: Protection,
}

#[derive(Serialize)]
struct Made<'a> {
    key: &'a Path,
    public_key: PathBuf,
    /// SHA-256 of the public key's PEM, which signatures name.
    sha256: String,
}

pub(super) fn run(args: &Oms, out: &Output) -> Result<()> {
    let passphrase = args.protection.passphrase()?;
    let key = draw()?;
    let secret = match passphrase {
        Some(passphrase) => seal(&key, &passphrase)?,
        None => plain(&key, &args.out)?,
    };
    let public = public_pem(&key, &args.out)?;
    let mut public_path = args.out.clone().into_os_string();
    public_path.push(".pub");
    let files = [
        (args.out.clone(), secret.into_bytes(), true),
        (public_path.into(), public.clone().into_bytes(), false),
    ];
    super::init::write_all(file::folder(&args.out), &files)?;
    let made = Made {
        key: &args.out,
        public_key: files[1].0.clone(),
        sha256: hex_sha256(&public),
    };
    out.show(&made, || {
        let mut table = Table::pairs();
        table.pair("private key", made.key.display());
        table.pair("public key", made.public_key.display());
        table.pair("SHA-256", &made.sha256);
        table
    })
}

fn draw() -> Result<SecretKey> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| CliError::Random(e.into()))?;
        // Of 2^32 draws about one is no number of the curve's order.
        if let Ok(key) = SecretKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
}

/// PKCS #8 under PBES2 with scrypt and AES-256-CBC, as `openssl pkcs8` opens it.
fn seal(key: &SecretKey, passphrase: &str) -> Result<String> {
    let mut salt = [0; 16];
    let mut iv = [0; 16];
    for bytes in [&mut salt, &mut iv] {
        getrandom::fill(bytes).map_err(|e| CliError::Random(e.into()))?;
    }
    let seal = || {
        let parameters =
            Parameters::generate_scrypt_aes256cbc(Default::default(), &salt, iv).ok()?;
        let der = key.to_pkcs8_der().ok()?;
        let data = parameters.encrypt(passphrase, der.as_bytes()).ok()?;
        let info = EncryptedPrivateKeyInfoOwned {
            encryption_algorithm: parameters.into(),
            encrypted_data: OctetString::new(data).ok()?,
        };
        let document = SecretDocument::try_from(info).ok()?;
        document.to_pem(SEALED_LABEL, LineEnding::LF).ok()
    };
    let sealed = seal().ok_or(CliError::MakeRoot(TrustError::Parse("sealed key")))?;
    Ok(sealed.to_string())
}

/// Reads a private key: PKCS #8, perhaps with a passphrase, or SEC 1, as `openssl` writes them.
pub(crate) fn read(path: &Path) -> Result<SecretKey> {
    let bytes = file::read(path, super::MAX_KEY_FILE_BYTES, "a key file")?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains(SEALED_LABEL) {
        let passphrase = passphrase::of_file(path)?;
        let key = SecretKey::from_pkcs8_encrypted_pem(&text, passphrase);
        return key.map_err(|_| CliError::Passphrase {
            path: path.to_owned(),
        });
    }
    let key = SecretKey::from_pkcs8_pem(&text).or_else(|_| SecretKey::from_sec1_pem(&text));
    key.map_err(|_| CliError::OmsKey {
        path: path.to_owned(),
    })
}

/// What names a key in a signature: SHA-256 of its public half as PEM, hexadecimal.
pub(crate) fn key_hint(key: &SecretKey, path: &Path) -> Result<String> {
    public_pem(key, path).map(|pem| hex_sha256(&pem))
}

fn plain(key: &SecretKey, path: &Path) -> Result<String> {
    let pem = key.to_pkcs8_pem(LineEnding::LF);
    pem.map(|pem| pem.to_string())
        .map_err(|_| CliError::OmsKey {
            path: path.to_owned(),
        })
}

fn public_pem(key: &SecretKey, path: &Path) -> Result<String> {
    let pem = key.public_key().to_public_key_pem(LineEnding::LF);
    pem.map_err(|_| CliError::OmsKey {
        path: path.to_owned(),
    })
}

fn hex_sha256(text: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(text))
}
