//! Everything that can go wrong in the agent, told so that a person can act on it.
//!
//! Each variant says what was wrong and where; causes are in `source()` and never repeated
//! in the text.

use std::path::PathBuf;

/// Why the agent could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A setting is unknown or has a value that does not fit.
    #[error("{place}: {why}")]
    Config {
        /// File with line, environment variable or flag.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The file system refused.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried, as in "open the recording".
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A recording does not hold what it should.
    #[error("{} line {line}: {why}", path.display())]
    Csv {
        /// The recording.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// The source delivers other columns than the model takes.
    #[error("the source does not fit the model {model}")]
    Misfit {
        /// Name and version of the model.
        model: String,
        /// What is missing and what is there.
        source: std::sync::Arc<drover_runtime::PipelineError>,
    },
    /// What a file holds is not what is needed.
    #[error("{place}: {why}")]
    Refused {
        /// Which file.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The agent was asked for something that its settings rule out.
    #[error("{0}")]
    Usage(String),
    /// Another agent answers on the local socket.
    #[error(
        "another drover-agent runs here: it answers on {}; stop it, or give this one another \
         data_folder",
        path.display()
    )]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
    },
    /// A model or bundle was refused.
    #[error("cannot use {}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: drover_runtime::BoxError,
    },
    /// The device's identity is of no use.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// The device did not join a fleet.
    #[error(transparent)]
    Enrol(#[from] crate::enrol::EnrolError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] drover_agent_store::StoreError),
    /// The update life cycle could not start.
    #[error(transparent)]
    Ota(#[from] crate::ota::OtaError),
    /// A tensor file was refused.
    #[error(transparent)]
    Npy(#[from] drover_runtime::npy::NpyError),
    /// A pipeline refused the row or its model failed.
    #[error("the model {model} failed")]
    Run {
        /// Name and version of the model.
        model: String,
        /// Why.
        source: drover_runtime::BoxError,
    },
    /// A part of the agent that must not end has ended.
    #[error("the {0} ended unexpectedly; the agent stops so that its supervisor starts it anew")]
    Died(&'static str),
}

impl AgentError {
    /// 2 when the command line or the settings are wrong, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// A refusal of the file system, for `map_err`.
    pub fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
