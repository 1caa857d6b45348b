//! `xtask`: the entry that `scripts/demo` and `scripts/bench` call.

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Demo and benchmarks of Drover")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole job on this machine and check each step.
    Demo,
    /// Measure; one JSON line per figure.
    Bench {
        /// What to measure: agent or trust.
        name: String,
        /// Fewer repetitions.
        #[arg(long)]
        quick: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Demo => xtask::demo::run(),
        Command::Bench { name, quick } => xtask::bench::run(&name, quick),
    }
}
