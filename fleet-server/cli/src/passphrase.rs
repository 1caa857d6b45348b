//! Passphrases of key files: from a file, or asked for in the terminal without an echo.
//!
//! A passphrase never comes from the command line, where every process could read it, and
//! never shows in a message.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use drover_trust::sealed::{self, Entropy};
use drover_trust::{Role, SecretKey, TrustError, keyfile};

use crate::error::{CliError, Result};
use crate::file;

/// Names the file whose first line is the passphrase of key files that are read.
const FILE_VARIABLE: &str = "DROVER_PASSPHRASE_FILE";
const MAX_FILE_BYTES: u64 = 4096;
/// Shorter ones are found by guessing, whatever the cost of a guess.
const MIN_CHARS: usize = 12;

/// How new key files are protected.
#[derive(Debug, Args)]
pub(crate) struct Protection {
    /// File whose first line protects the new key files; asked for in a terminal otherwise
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Write the new key files without a passphrase
    #[arg(long)]
    no_passphrase: bool,
}

impl Protection {
    /// The passphrase to write key files with; none when they are to be plain.
    pub(crate) fn passphrase(&self) -> Result<Option<String>> {
        if self.no_passphrase {
            return Ok(None);
        }
        let passphrase = match &self.passphrase_file {
            Some(path) => read(path)?,
            None if std::io::stdin().is_terminal() => ask_twice()?,
            None => {
                return Err(CliError::Usage(
                    "secret keys are to be protected: name --passphrase-file, or say \
                     --no-passphrase if the folder itself is protected"
                        .into(),
                ));
            }
        };
        if passphrase.chars().count() < MIN_CHARS {
            return Err(CliError::Usage(format!(
                "the passphrase is too short: take at least {MIN_CHARS} characters, such as \
                 five random words"
            )));
        }
        Ok(Some(passphrase))
    }
}

/// Text of a key file.
pub(crate) fn write_key(role: Role, key: &SecretKey, passphrase: Option<&str>) -> Result<String> {
    let Some(passphrase) = passphrase else {
        return Ok(keyfile::format(role, key));
    };
    let mut entropy = Entropy {
        salt: [0; 16],
        iv: [0; 16],
    };
    for bytes in [&mut entropy.salt, &mut entropy.iv] {
        getrandom::fill(bytes).map_err(|e| CliError::Random(e.into()))?;
    }
    sealed::seal(role, key, passphrase, entropy).map_err(CliError::MakeRoot)
}

/// Reads the text of the key file at `path`, asking for its passphrase if it has one.
pub(crate) fn read_key(path: &Path, text: &str) -> Result<(Role, SecretKey)> {
    let refused = |source| CliError::Key {
        path: path.to_owned(),
        source,
    };
    if !sealed::is_sealed(text) {
        return keyfile::parse(text).map_err(refused);
    }
    match sealed::open(text, &of_file(path)?) {
        Err(TrustError::Passphrase) => Err(CliError::Passphrase {
            path: path.to_owned(),
        }),
        other => other.map_err(refused),
    }
}

/// The passphrase of the key file at `path`.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    match std::env::var_os(FILE_VARIABLE) {
        Some(file) => read(Path::new(&file)),
        None if std::io::stdin().is_terminal() => {
            ask(&format!("Passphrase of {}: ", path.display()))
        }
        None => Err(CliError::Usage(format!(
            "{} is protected by a passphrase: run this in a terminal, or let {FILE_VARIABLE} \
             name a file whose first line is the passphrase",
            path.display()
        ))),
    }
}

/// The first line of a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes = file::read(path, MAX_FILE_BYTES, "a passphrase file")?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn ask_twice() -> Result<String> {
    let first = ask("New passphrase for the key files: ")?;
    if ask("Once more: ")? == first {
        return Ok(first);
    }
    Err(CliError::Usage("the two passphrases differ".into()))
}

/// Asks in the terminal, without an echo.
pub(crate) fn ask(prompt: &str) -> Result<String> {
    rpassword::prompt_password(prompt).map_err(|e| CliError::Process("ask for a passphrase", e))
}
