//! `drover-agent`: parses the command line, sets up the log, and turns errors into one
//! message and an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use drover_agent::cli::Cli;

fn main() -> ExitCode {
    #[cfg(feature = "mutation")]
    if let Err(name) = disable_checks() {
        eprintln!("drover-agent: DROVER_DISABLE_CHECK names no check: {name}");
        return ExitCode::from(2);
    }
    match Cli::parse().execute() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("drover-agent: {}", drover_agent::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Switches off the checks that `DROVER_DISABLE_CHECK` names, divided by commas.
#[cfg(feature = "mutation")]
fn disable_checks() -> Result<(), String> {
    let names = std::env::var("DROVER_DISABLE_CHECK").unwrap_or_default();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        if !drover_trust::mutation::Check::disable_named(name) {
            return Err(name.to_owned());
        }
    }
    Ok(())
}
