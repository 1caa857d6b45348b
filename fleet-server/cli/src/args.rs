//! The command line: global flags and the tree of commands. What each command takes is in
//! its own module.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{bundle, keys};

/// Puts quantised models on fleets of boards and keeps them right.
#[derive(Debug, Parser)]
#[command(
    name = "drover",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Address of the server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DROVER_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) server: String,
    /// File with the operator's token; `drover serve` writes one into its data folder
    #[arg(long, global = true, value_name = "FILE", env = "DROVER_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON for machines, one value per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make and look at keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Build, sign, verify and look at bundles
    #[command(subcommand)]
    Bundle(bundle::Bundle),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}
