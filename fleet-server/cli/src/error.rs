//! Why a command failed. Each message says what was wrong, where, and what to do; the cause
//! is in `source()` and joined to it once, at the end, by `main`.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use drover_api::ApiError;
use drover_bundle::BundleError;
use drover_bundle::manifest::ManifestError;
use drover_bundle::spec::SpecError;
use drover_runtime::build::BuildError;
use drover_runtime::compile::CompileError;
use drover_runtime::npy::NpyError;
use drover_server::ServerError;
use drover_trust::{Role, TrustError};

/// What every command gives.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line contradicts itself in a way that its parser does not see.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file is longer than anything this command takes.
    #[error("{} is larger than {limit} bytes: this is not {what}", .path.display())]
    TooLarge {
        path: PathBuf,
        limit: u64,
        what: &'static str,
    },
    /// A file cannot be written; nothing of it is left.
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A file is there that must not be overwritten.
    #[error("{} exists already and is not overwritten: choose another folder or move it away", .path.display())]
    Exists { path: PathBuf },
    /// The attack suite could not be prepared.
    #[error(transparent)]
    Sandbox(#[from] drover_attack::AttackError),
    /// Some attack was not withstood.
    #[error("{0}; each finding is above, and --keep keeps the logs")]
    Attack(String),
    /// Standard output is closed or full.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// The operating system gives no random numbers.
    #[error("cannot draw random numbers for a key")]
    Random(#[source] io::Error),
    /// Not a key file.
    #[error("{} is not a whole key file", .path.display())]
    Key { path: PathBuf, source: TrustError },
    /// Not a private key for exports.
    #[error(
        "{} is no P-256 private key in PEM: make one with `drover keys oms` or `openssl ecparam \
         -name prime256v1 -genkey -noout`", .path.display()
    )]
    OmsKey { path: PathBuf },
    /// A wrong passphrase.
    #[error("the passphrase does not open {}", .path.display())]
    Passphrase { path: PathBuf },
    /// Not the public half of a key.
    #[error(
        "{} is not a public key file: `drover keys public KEY` writes one",
        .path.display()
    )]
    NotPublicKey { path: PathBuf },
    /// A key of another role.
    #[error("{} is a {got} key, this needs a {wanted} key", .path.display())]
    KeyRole {
        path: PathBuf,
        got: Role,
        wanted: Role,
    },
    /// Root metadata that cannot be trusted.
    #[error("{} is not usable root metadata", .path.display())]
    Root { path: PathBuf, source: TrustError },
    /// Roles that contradict themselves.
    #[error("these keys make no root metadata")]
    MakeRoot(#[source] TrustError),
    /// A voucher that would be refused.
    #[error("no device would accept this voucher")]
    Voucher(#[source] TrustError),
    /// Neither a key nor root metadata.
    #[error("{} is neither a key file nor root metadata", .path.display())]
    NeitherKeyNorRoot { path: PathBuf },
    /// A spec that does not parse.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A bundle that cannot be built.
    #[error("{} is not built", .spec.display())]
    Build {
        spec: PathBuf,
        source: Box<BuildError>,
    },
    /// A manifest that cannot be written.
    #[error("{} does not make a valid manifest", .spec.display())]
    Manifest {
        spec: PathBuf,
        source: ManifestError,
    },
    /// A bundle that is refused.
    #[error("{} is refused", .path.display())]
    Bundle { path: PathBuf, source: BundleError },
    /// A bundle that nobody has signed.
    #[error("{} is not signed: sign it with `drover bundle sign`", .path.display())]
    Unsigned { path: PathBuf },
    /// No token to show to the server.
    #[error(
        "the server wants to know who asks: log in with `drover login`, or name a token's file \
         with --token-file or DROVER_TOKEN_FILE; `drover serve` keeps one in its data folder as \
         operator.token"
    )]
    NoToken,
    /// A list of logins that does not parse.
    #[error("{} is not a list of logins: remove it and log in again", .path.display())]
    Logins {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// Logging in at the issuer did not work.
    #[error("not logged in: {0}")]
    Oidc(&'static str),
    /// A copy of the audit log that does not fit together.
    #[error("{} was tampered with or damaged", .path.display())]
    Audit {
        path: PathBuf,
        source: drover_api::audit::AuditError,
    },
    /// A line of a copy of the audit log that is none of its lines.
    #[error("line {line} of {} is no line of an audit log", .path.display())]
    AuditLine {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },
    /// A copy of the audit log without its last line.
    #[error("{} lacks its last line, the signed end: it was cut short", .path.display())]
    AuditEnd { path: PathBuf },
    /// An end of the audit log that the fleet key did not sign.
    #[error("the end of {} is not signed by the fleet key", .path.display())]
    AuditSignature { path: PathBuf, source: TrustError },
    /// A signature on something else.
    #[error("the end of {} is not what the fleet key signed", .path.display())]
    AuditStatement { path: PathBuf },
    /// A token file without a token.
    #[error("{} holds no token", .path.display())]
    EmptyToken { path: PathBuf },
    /// The server does not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A configuration file that does not parse; the source names line and key.
    #[error("{} is not a configuration of the server", .path.display())]
    Config {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    /// The configuration cannot be written as text.
    #[error("the configuration cannot be shown")]
    ShowConfig(#[source] toml::ser::Error),
    /// The server does not start, or ended.
    #[error("the server does not run")]
    Server(#[from] ServerError),
    /// The process cannot do what a server needs.
    #[error("this process cannot {0}")]
    Process(&'static str, #[source] io::Error),
    /// A model that is not compiled, or not accepted after it.
    #[error("cannot compile {}", .model.display())]
    Compile {
        model: PathBuf,
        source: Box<CompileError>,
    },
    /// There is nothing to write where a form in integers was asked for.
    #[error("{} has no form in integers alone: {why}; leave --integer out", .model.display())]
    NoInteger { model: PathBuf, why: String },
    /// A `.npy` file that does not parse.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// Not a list of classes.
    #[error("{} holds no labels: they are whole numbers from 0, one for each input", .path.display())]
    Labels { path: PathBuf },
    /// A rollout that stopped before its end.
    #[error("rollout {id} is paused: {reason}")]
    Paused { id: String, reason: String },
}

impl CliError {
    /// 2 for what the command line got wrong, 1 for everything else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Whether the reader of standard output has gone away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Stdout(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The message, then each cause, in one line where the causes are.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            // Libraries that repeat their cause in their own message would say it twice.
            if !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(message.trim_end());
            }
            cause = error.source();
        }
        text
    }
}
