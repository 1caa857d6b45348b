//! `drover certificate`: client certificates of operators, as another way in than a token.
//!
//! The key is made here and never leaves this machine; only its public half is sent. A power
//! cut leaves a key without its certificate at most, and the next run says that it is there.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use drover_api::CertifyOperator;
use drover_trust::SecretKey;
use serde::Serialize;

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::link::CERTIFICATE_FILES;
use crate::output::Output;
use crate::{clock, file, link};

#[derive(Debug, Subcommand)]
pub(crate) enum Certificate {
    /// Make a key and a certificate for an account; show them with --certificate DIR
    Issue {
        /// Name of the account
        name: String,
        /// Folder to write operator.pem and operator.key to
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Take back all certificates of an account
    Revoke {
        /// Name of the account
        name: String,
    },
}

#[derive(Serialize)]
struct Written {
    certificate: PathBuf,
    key: PathBuf,
    expires_unix_s: u64,
}

pub(crate) fn run(command: Certificate, global: &Global, out: &Output) -> Result<()> {
    let client = link::client(global)?;
    match command {
        Certificate::Issue { name, output } => issue(&client, &name, &output, out),
        Certificate::Revoke { name } => {
            let revoked = client.revoke_operator(&name)?;
            out.show_lines(&revoked, || {
                format!(
                    "{} certificates of {name} are taken back",
                    revoked.certificates
                )
            })
        }
    }
}

fn issue(client: &drover_api::Client, name: &str, folder: &Path, out: &Output) -> Result<()> {
    let [certificate, key] = CERTIFICATE_FILES.map(|name| folder.join(name));
    // Asked first: a certificate of a key that could not be kept would be of no use.
    if certificate.exists() {
        return Err(CliError::Exists { path: certificate });
    }
    std::fs::create_dir_all(folder).map_err(|source| CliError::Write {
        path: folder.to_owned(),
        source,
    })?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| CliError::Random(e.into()))?;
    let secret = SecretKey::from_seed(&seed);
    file::create(&key, drover_server::ed25519_pem(&secret).as_bytes(), true)?;
    let issued = client.certify_operator(&CertifyOperator {
        name: name.to_owned(),
        public_key: secret.public().to_hex(),
    });
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) => {
            // Nobody certified it, so the next try begins anew.
            let _ = std::fs::remove_file(&key);
            return Err(error.into());
        }
    };
    file::create(&certificate, issued.certificate.as_bytes(), false)?;
    let written = Written {
        certificate,
        key,
        expires_unix_s: issued.expires_unix_s,
    };
    out.show_lines(&written, || {
        format!(
            "wrote {} and {}; they end at {}",
            written.certificate.display(),
            written.key.display(),
            clock::show_s(written.expires_unix_s)
        )
    })
}
