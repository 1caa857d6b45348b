//! Plays the attacks that Drover must withstand, against a real agent and a real server.
//!
//! Each row of the attack table gets a server and a device of its own in a sandbox folder, and
//! an attacker who owns the broker between them and as many keys as the row grants. After each
//! attack the device must still serve its model, its disk must hold what it held, the named
//! security event must have been raised, and the next honest update must be accepted.
//!
//! The agent is a program, never a library of this crate: server and agent do not meet.

mod artifact;
mod attacker;
mod broker;
mod clock;
mod device;
mod error;
mod http;
mod impostor;
mod keys;
mod lab;
mod onnx;
mod process;
mod report;
mod row;
mod server;
mod suite;
mod wiretap;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use error::AttackError;
pub use report::{Outcome, Report};

use suite::Suite;

/// Longest path of a sandbox, in bytes: an agent's Unix socket below it has to fit into the
/// 108 bytes that the kernel gives it.
const MAX_FOLDER: usize = 70;

/// What to play, and with which programs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows, as in `A1`; none means all.
    pub rows: Vec<String>,
    /// The `drover` program, whose server is attacked.
    pub drover: PathBuf,
    /// The `drover-agent` program.
    pub agent: PathBuf,
    /// Folder for the sandbox; a temporary one by default. Keep its path short: Unix sockets
    /// lie in it.
    pub folder: Option<PathBuf>,
    /// Whether the sandbox stays for a look at its logs.
    pub keep: bool,
    /// Sandboxes that rows are played in at a time.
    pub jobs: usize,
}

/// Plays the rows; `tell` hears of each when it is over.
///
/// # Errors
/// [`AttackError`] when a sandbox cannot be prepared. What a row finds is in the report.
pub fn run(
    options: &Options,
    tell: impl Fn(&Outcome) + Send + Sync,
) -> Result<Report, AttackError> {
    let rows = row::chosen(&options.rows)?;
    let temporary = match options.folder {
        Some(_) => None,
        None => Some(error::io(
            || "make a temporary folder".into(),
            tempfile::Builder::new().prefix("drover-attack-").tempdir(),
        )?),
    };
    let folder = match (&options.folder, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => PathBuf::new(),
    };
    if folder.as_os_str().len() > MAX_FOLDER {
        return Err(AttackError::LongPath { folder });
    }
    let next = AtomicUsize::new(0);
    let work = |job: usize| -> Result<Vec<(usize, Outcome)>, AttackError> {
        let mut outcomes = Vec::new();
        let mut suite = None;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(row) = rows.get(index) else {
                return Ok(outcomes);
            };
            let suite = match &suite {
                Some(suite) => suite,
                None => {
                    let folder = folder.join(job.to_string());
                    suite.insert(Suite::prepare(&options.drover, &options.agent, &folder)?)
                }
            };
            let outcome = play(suite, row);
            tell(&outcome);
            if outcome.passed && !options.keep {
                suite.clear(row.id);
            }
            outcomes.push((index, outcome));
        }
    };
    let jobs = options.jobs.clamp(1, rows.len().max(1));
    let results: Vec<_> = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..jobs)
            .map(|job| scope.spawn(move || work(job)))
            .collect();
        let joined = threads.into_iter().map(|t| {
            let died = || error::fail("a thread of the suite ended unexpectedly");
            t.join().unwrap_or_else(|_| died())
        });
        joined.collect()
    });
    let mut outcomes = Vec::new();
    for result in results {
        outcomes.extend(result?);
    }
    outcomes.sort_by_key(|(index, _)| *index);
    if options.keep
        && let Some(temporary) = temporary
    {
        let _ = temporary.keep();
    }
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    Ok(Report { outcomes })
}

fn play(suite: &Suite, row: &row::Row) -> Outcome {
    let began = clock::monotonic();
    let result = (row.play)(suite);
    Outcome {
        row: row.id,
        attack: row.attack,
        defence: row.defence,
        passed: result.is_ok(),
        finding: result.err().map_or(String::new(), |e| error::chain(&e)),
        seconds: began.elapsed().as_secs_f64(),
    }
}
