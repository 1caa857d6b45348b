//! The command line: global flags and the tree of commands. What each command takes is in
//! its own module.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    affected, attack, audit, broker, bundle, certificate, compile, data, device, drift, event,
    keys, login, operator, release, rollout, root, serve,
};

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
        hide_env_values = true,
        default_value = "https://127.0.0.1:8080"
    )]
    pub(crate) server: String,
    /// File with the operator's token; `drover serve` writes one into its data folder
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DROVER_TOKEN_FILE",
        hide_env_values = true
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificate of the server's authority, in PEM; by default ca.pem beside the token file,
    /// and without one the system's authorities
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DROVER_CA",
        hide_env_values = true
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Folder with operator.pem and operator.key, a client certificate to show to the server
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DROVER_CERTIFICATE",
        hide_env_values = true
    )]
    pub(crate) certificate: Option<PathBuf>,
    /// Why this is changed, for the server's audit log
    #[arg(
        long,
        global = true,
        value_name = "TEXT",
        env = "DROVER_REASON",
        hide_env_values = true
    )]
    pub(crate) reason: Option<String>,
    /// Print JSON for machines, one value per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make and look at keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Run the fleet's server until it is asked to stop
    Serve(Box<serve::Serve>),
    /// Compile a model for the engine of the boards, and prove it on this machine
    Compile(Box<compile::Compile>),
    /// Build, sign, verify and look at bundles
    #[command(subcommand)]
    Bundle(bundle::Bundle),
    /// Publish and list releases
    #[command(subcommand)]
    Release(release::Release),
    /// Bring new roots to the fleet
    #[command(subcommand)]
    Root(root::Root),
    /// See what the fleet's catalog lists
    #[command(subcommand)]
    Catalog(root::Catalog),
    /// List the devices that run a component, after an advisory for example
    Affected(affected::Affected),
    /// Enrol, list and approve devices
    #[command(subcommand)]
    Device(device::Device),
    /// Put releases on devices, stage by stage
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// See how far live data have moved from the training data
    #[command(subcommand)]
    Drift(drift::Drift),
    /// See, stop and start the server's broker
    #[command(subcommand)]
    Broker(broker::Broker),
    /// Certificates with which operators show who they are
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    /// Log in to the server; later commands need no token file
    Login(login::Login),
    /// End a login
    Logout,
    /// Show who the server takes you for
    Whoami,
    /// Manage the accounts of those who operate the fleet
    #[command(subcommand)]
    Operator(operator::Operator),
    /// Manage tokens that let programs in
    #[command(subcommand)]
    Token(operator::Token),
    /// See who changed what, and check copies of that
    #[command(subcommand)]
    Audit(audit::Audit),
    /// See what happened in the fleet
    #[command(subcommand)]
    Event(event::Event),
    /// See what devices have sent
    #[command(subcommand)]
    Data(data::Data),
    /// Play every attack of the attack table against a real agent and server in a sandbox
    AttackSuite(attack::AttackSuite),
    /// Print the OpenAPI description of the server's REST interface
    Openapi,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}
