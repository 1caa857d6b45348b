//! `drover bundle sign`.

use std::path::PathBuf;

use clap::Args;
use drover_trust::{Domain, Role};
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::keys::read_key;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// Bundle file
    bundle: PathBuf,
    /// Release key to sign with; give it again for each further key
    #[arg(short, long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Where to write the signed bundle; over the bundle itself if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Signed<'a> {
    file: &'a PathBuf,
    signatures: Vec<String>,
}

pub(super) fn run(args: &Sign, out: &Output) -> Result<()> {
    let (_, mut container) = super::read(&args.bundle)?;
    container
        .open_unsigned()
        .map_err(|source| CliError::Bundle {
            path: args.bundle.clone(),
            source,
        })?;
    // All keys are read before the first one signs, so that a wrong second key is found
    // before anything is written.
    for path in &args.keys {
        let (role, key) = read_key(path)?;
        if role != Role::Release {
            return Err(CliError::KeyRole {
                path: path.clone(),
                got: role,
                wanted: Role::Release,
            });
        }
        container.envelope.sign(Domain::Manifest, &key);
    }
    let output = args.output.as_ref().unwrap_or(&args.bundle);
    super::write(output, &container)?;
    let signatures = container.envelope.signatures();
    let signed = Signed {
        file: output,
        signatures: signatures.iter().map(|s| s.key.to_string()).collect(),
    };
    out.show_lines(&signed, || {
        let keys = signed.signatures.join(", ");
        format!("{}: signed by {keys}", output.display())
    })
}
