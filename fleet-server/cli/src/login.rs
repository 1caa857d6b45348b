//! `drover login`, `drover logout` and `drover whoami`: from a person to a token of hours.

mod oidc;
mod saved;

use std::path::PathBuf;

use clap::Args;
use drover_api::NewApiToken;

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::table::Table;
use crate::{clock, link, operator};

pub(crate) use saved::Saved;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Name of the account
    #[arg(required_unless_present = "oidc")]
    name: Option<String>,
    /// File whose first line is the password; asked for in a terminal otherwise
    #[arg(long, value_name = "FILE", conflicts_with = "oidc")]
    password_file: Option<PathBuf>,
    /// Log in at the OpenID Connect issuer, with a browser on this machine
    #[arg(long, conflicts_with = "name")]
    oidc: bool,
}

/// Logs in; later commands to the same server use the token.
pub(crate) fn run(args: Login, global: &Global, out: &Output) -> Result<()> {
    let client = link::stranger(global)?;
    let token = match args.name {
        Some(name) => {
            let password = operator::secret(args.password_file.as_deref(), "Password: ")?;
            client.login(&drover_api::Login { name, password })?
        }
        None => oidc::log_in(&client)?,
    };
    Saved::add(&global.server, &token, link::authority_pem(global)?)?;
    let NewApiToken { about, .. } = token;
    out.show_lines(&about, || {
        format!(
            "logged in to {} as {} with the role {} until {}",
            global.server,
            about.account,
            about.role,
            clock::show_s(about.expires_unix_s)
        )
    })
}

/// Ends the token of the login and forgets it.
pub(crate) fn log_out(global: &Global, out: &Output) -> Result<()> {
    if Saved::of(&global.server)?.is_none() {
        return Err(CliError::NoToken);
    }
    let ended = link::saved_client(global)?.logout();
    // What the server does not know any more is forgotten here all the same.
    Saved::remove(&global.server)?;
    let about = ended?;
    out.show_lines(&about, || format!("logged out of {}", global.server))
}

/// Shows who the server takes this for.
pub(crate) fn who_am_i(global: &Global, out: &Output) -> Result<()> {
    let who = link::client(global)?.who_am_i()?;
    out.show(&who, || {
        let mut table = Table::pairs();
        table.pair("account", &who.account);
        table.pair("role", who.role);
        table.pair("by", &who.how);
        table
    })
}
