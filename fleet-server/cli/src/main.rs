//! The `drover` command: keys, bundles, the server, and everything an operator asks of it.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 when it
//! was done, 1 when it was not, 2 when the command line makes no sense. Secrets are read
//! from and written to files, never to the terminal.

mod affected;
mod args;
mod attack;
mod audit;
mod broker;
mod bundle;
mod certificate;
mod clock;
mod compile;
mod data;
mod device;
mod drift;
mod error;
mod event;
mod file;
mod keys;
mod link;
mod login;
mod operator;
mod output;
mod parse;
mod passphrase;
mod release;
mod rollout;
mod root;
mod serve;
mod table;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::error::Result;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as in `drover device list | head`.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.with_causes());
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let global = &cli.global;
    let out = Output::new(global.json);
    match cli.command {
        Command::Keys(command) => keys::run(command, &out),
        Command::Serve(args) => serve::run(&args, &out),
        Command::Compile(args) => compile::run(&args, &out),
        Command::Bundle(command) => bundle::run(command, &out),
        Command::Release(command) => release::run(command, global, &out),
        Command::Root(command) => root::run(command, global, &out),
        Command::Catalog(command) => root::catalog(&command, global, &out),
        Command::Affected(args) => affected::run(&args, global, &out),
        Command::Device(command) => device::run(command, global, &out),
        Command::Rollout(command) => rollout::run(command, global, &out),
        Command::Drift(command) => drift::run(command, global, &out),
        Command::Broker(command) => broker::run(command, global, &out),
        Command::Certificate(command) => certificate::run(command, global, &out),
        Command::Login(args) => login::run(args, global, &out),
        Command::Logout => login::log_out(global, &out),
        Command::Whoami => login::who_am_i(global, &out),
        Command::Operator(command) => operator::run(command, global, &out),
        Command::Token(command) => operator::run_token(command, global, &out),
        Command::Audit(command) => audit::run(command, global, &out),
        Command::Event(command) => event::run(command, global, &out),
        Command::Data(command) => data::run(command, global, &out),
        Command::AttackSuite(args) => attack::run(args, &out),
        Command::Openapi => out.text(&drover_server::openapi_json()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "drover", &mut script);
            out.text(&String::from_utf8_lossy(&script))
        }
    }
}
