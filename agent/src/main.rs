//! `drover-agent`: parses the command line, sets up the log, and turns errors into one
//! message and an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use drover_agent::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("drover-agent: {}", drover_agent::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
