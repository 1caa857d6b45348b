//! `drover bundle export-oms`: a bundle's files with a signature in the form of OpenSSF Model
//! Signing 1.0, for whoever verifies models with `model_signing verify key`.
//!
//! That form knows elliptic curve keys of NIST only, so a fleet's ed25519 keys cannot sign it;
//! the P-256 key vouches for the export and means nothing to a device. The folder appears
//! whole or not at all: a power cut leaves at most a folder whose name begins with `.tmp`.
//! Forms: in-toto Statement v1 in a DSSE envelope in a Sigstore bundle v0.3.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::{BASE64, HEXLOWER};
use drover_bundle::{FileEntry, Manifest, container};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{CliError, Result};
use crate::file;
use crate::keys::{oms, read_root};
use crate::output::Output;

/// Name of the signature, as `model_signing` expects it inside a model's folder.
const SIGNATURE_FILE: &str = "model.sig";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Debug, Args)]
pub(crate) struct ExportOms {
    /// Bundle file
    bundle: PathBuf,
    /// P-256 private key, PEM, as `drover keys oms` makes it
    #[arg(short, long, value_name = "FILE")]
    key: PathBuf,
    /// Folder to make; its name is the model's name in the signature
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Root metadata of the fleet: refuse a bundle that its release keys have not signed
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

#[derive(Serialize)]
struct Exported<'a> {
    folder: &'a Path,
    signature: PathBuf,
    /// What identifies the model in the signature.
    sha256: String,
    /// SHA-256 of the public key's PEM, which the signature names.
    key: String,
}

pub(super) fn run(args: &ExportOms, out: &Output) -> Result<()> {
    let (_, container) = super::read(&args.bundle)?;
    let refused = |source| CliError::Bundle {
        path: args.bundle.clone(),
        source,
    };
    let manifest = match &args.root {
        Some(root) => {
            let verified = container.verify(&read_root(root)?).map_err(refused)?;
            verified.manifest().clone()
        }
        None => container.open_unsigned().map_err(refused)?,
    };
    if manifest.files.iter().any(|f| f.name == SIGNATURE_FILE) {
        return Err(CliError::Usage(format!(
            "{} has a file of its own with the name {SIGNATURE_FILE}, which is where the \
             signature goes: build it again with another name",
            args.bundle.display()
        )));
    }
    let key = oms::read(&args.key)?;
    let name = folder_name(&args.output)?;
    let (statement, sha256) = statement(&manifest, name);
    let hint = oms::key_hint(&key, &args.key)?;
    let bundle = sign(&statement, &key.into(), &hint);

    let files: Vec<(&str, &[u8])> = container::files(&manifest, &container.payload)
        .map(|(entry, bytes)| (entry.name.as_str(), bytes))
        .chain([(SIGNATURE_FILE, bundle.as_bytes())])
        .collect();
    write_folder(&args.output, &files)?;
    let exported = Exported {
        folder: &args.output,
        signature: args.output.join(SIGNATURE_FILE),
        sha256,
        key: hint,
    };
    out.show_lines(&exported, || {
        format!(
            "{folder}: {} {}, {} files and their signature; check it with `model_signing verify \
             key {folder} --signature {} --public_key PUBLIC_KEY`",
            manifest.name,
            manifest.version,
            manifest.files.len(),
            exported.signature.display(),
            folder = args.output.display(),
        )
    })
}

fn folder_name(folder: &Path) -> Result<&str> {
    let name = folder.file_name().and_then(|n| n.to_str());
    name.ok_or_else(|| {
        let folder = folder.display();
        CliError::Usage(format!(
            "{folder} does not end in a name: name the folder to make"
        ))
    })
}

/// The in-toto statement, and the digest over all files that it gives to the model.
fn statement(manifest: &Manifest, name: &str) -> (Vec<u8>, String) {
    let mut files: Vec<&FileEntry> = manifest.files.iter().collect();
    // The order is part of the form: the model's digest is over the digests in this order.
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut all = Sha256::new();
    for file in &files {
        all.update(file.sha256);
    }
    let sha256 = HEXLOWER.encode(&all.finalize());
    let resource = |file: &&FileEntry| {
        json!({
            "name": file.name,
            "algorithm": "sha256",
            "digest": HEXLOWER.encode(&file.sha256),
        })
    };
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": name, "digest": { "sha256": sha256 } }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": [SIGNATURE_FILE, ".git", ".gitattributes", ".github", ".gitignore"],
            },
            "resources": files.iter().map(resource).collect::<Vec<Value>>(),
        },
    });
    (statement.to_string().into_bytes(), sha256)
}

fn sign(statement: &[u8], key: &SigningKey, hint: &str) -> String {
    // What is signed is DSSE's pre-authentication encoding, never the bare statement.
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        statement.len()
    );
    let signature: Signature = key.sign(&[head.as_bytes(), statement].concat());
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": hint }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": BASE64.encode(statement),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "sig": BASE64.encode(signature.to_der().as_bytes()), "keyid": "" }],
        },
    })
    .to_string()
}

fn write_folder(folder: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    if folder.symlink_metadata().is_ok() {
        return Err(CliError::Exists {
            path: folder.to_owned(),
        });
    }
    let failed = |source| CliError::Write {
        path: folder.to_owned(),
        source,
    };
    let temporary = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(file::folder(folder))
        .map_err(failed)?;
    for (name, bytes) in files {
        file::create(&temporary.path().join(name), bytes, false)?;
    }
    std::fs::rename(temporary.path(), folder).map_err(failed)?;
    // It has its name now, and is not to be removed with the temporary one's.
    let _ = temporary.keep();
    file::sync_folder(folder).map_err(failed)
}
