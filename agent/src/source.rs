//! Where sensor rows come from.
//!
//! Every source runs on a thread or task of its own and sends [`Feed`]s into one bounded
//! queue; a full queue holds the source up and never drops. A source never knows which
//! model takes its rows: each row carries the names of its columns, and the runner finds
//! the channels it needs among them.

pub mod csv;
pub mod node;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::AgentError;
use crate::config::{self, SourceKind};

/// Names of the columns of a row; one allocation for all rows of a stream.
pub type Columns = Arc<[String]>;

/// What a source tells the runner.
#[derive(Clone, Debug)]
pub enum Feed {
    /// One reading of all columns.
    Row(Row),
    /// Readings were lost or the sensor started anew: what comes next does not continue
    /// what came before.
    Gap {
        /// What happened, for people.
        detail: String,
    },
    /// Something that people should know; the stream goes on.
    Note {
        /// What happened, for people.
        detail: String,
    },
    /// The recording is over.
    Ended {
        /// Rows delivered.
        rows: u64,
    },
    /// The source cannot go on.
    Failed(Arc<AgentError>),
}

/// One reading of all columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Names of `values`, in their order.
    pub columns: Columns,
    /// Readings; NaN where the sensor gave none.
    pub values: Vec<f32>,
    /// Time of the reading as the source wrote it, where it is asked for.
    pub time: Option<Arc<str>>,
}

/// Sending end of the queue between a source and the runner.
pub type Sender = mpsc::Sender<Feed>;

/// Starts the source of `settings` on its own thread; [`SourceKind::None`] and
/// [`SourceKind::Socket`] need none.
///
/// # Errors
/// What can be found out at once: a missing file, a header that is none.
pub fn start(settings: &config::Source, rows: Sender) -> Result<(), AgentError> {
    match settings.kind {
        SourceKind::None | SourceKind::Socket => Ok(()),
        SourceKind::Csv => {
            let replay = csv::Replay::open(settings)?;
            spawn("csv-source", move || replay.run(&rows))
        }
        SourceKind::Node => {
            let link = node::Link::new(settings);
            spawn("node-source", move || link.run(&rows))
        }
    }
}

/// What the source is, for people.
pub fn describe(settings: &config::Source) -> String {
    let path = settings.path.display();
    match settings.kind {
        SourceKind::None => "none".to_owned(),
        SourceKind::Csv => format!("csv:{path}"),
        SourceKind::Node => format!("node:{path}"),
        SourceKind::Socket => "socket".to_owned(),
    }
}

fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), AgentError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(|_| ())
        .map_err(AgentError::file("start the thread", name))
}
