//! `drover attack-suite`: plays the attacks that Drover must withstand, in a sandbox.

use std::path::{Path, PathBuf};

use clap::Args;
use drover_attack::Options;

use crate::error::{CliError, Result};
use crate::output::Output;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct AttackSuite {
    /// Rows of the attack table to play; by default all, A1 to F5
    #[arg(long = "row", value_name = "ROW,...", value_delimiter = ',')]
    rows: Vec<String>,
    /// The agent's program; by default `drover-agent` beside this one
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Folder for the sandbox, with a short path; by default a temporary one
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Rows played at a time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// Keep the sandbox with its logs
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: AttackSuite, out: &Output) -> Result<()> {
    let own = std::env::current_exe().map_err(|e| CliError::Process("find itself", e))?;
    let beside = own.parent().unwrap_or(Path::new("")).join("drover-agent");
    let agent = args.agent.unwrap_or(beside);
    if !agent.is_file() {
        return Err(CliError::Usage(format!(
            "there is no agent at {}; name it with --agent",
            agent.display()
        )));
    }
    let options = Options {
        rows: args.rows,
        drover: own,
        agent,
        folder: args.folder,
        keep: args.keep,
        jobs: args.jobs.into(),
    };
    let report = drover_attack::run(&options, |outcome| {
        eprintln!("{} {}", outcome.row, outcome.text());
    })?;
    out.show(&report, || {
        let mut table = Table::new(
            &["ROW", "ATTACK", "DEFENCE", "OUTCOME"],
            "no row was played",
        );
        for outcome in &report.outcomes {
            table.row([
                outcome.row.to_owned(),
                outcome.attack.to_owned(),
                outcome.defence.to_owned(),
                outcome.text(),
            ]);
        }
        table
    })?;
    if report.passed() {
        Ok(())
    } else {
        Err(CliError::Attack(report.summary()))
    }
}
