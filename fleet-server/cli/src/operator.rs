//! `drover operator` and `drover token`: accounts, and tokens for programs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use drover_api::{
    AddOperator, ApiToken, CreateApiToken, OperatorRole, Secret, SetPassword, SetRole,
};

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::output::{Output, word};
use crate::table::Table;
use crate::{clock, link, parse, passphrase};

#[derive(Debug, Subcommand)]
pub(crate) enum Operator {
    /// Make an account
    Add {
        /// Name of the account
        name: String,
        /// What it may do: viewer, operator, releaser or admin
        #[arg(long, value_parser = parse::role)]
        role: OperatorRole,
        #[command(flatten)]
        password: NewPassword,
    },
    /// List accounts
    List,
    /// Close an account and end its tokens
    Disable {
        /// Name of the account
        name: String,
    },
    /// Open an account again
    Enable {
        /// Name of the account
        name: String,
    },
    /// Give an account another role
    SetRole {
        /// Name of the account
        name: String,
        /// What it may do: viewer, operator, releaser or admin
        #[arg(value_parser = parse::role)]
        role: OperatorRole,
    },
    /// Give an account another password; who logged in with the old one is logged out
    Password {
        /// Name of the account
        name: String,
        #[command(flatten)]
        password: NewPassword,
        /// File whose first line is the old password, when it is your own; asked for in a
        /// terminal otherwise
        #[arg(long, value_name = "FILE")]
        current_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// File whose first line is the new password; asked for in a terminal otherwise
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token for a program; it is shown only once
    Create {
        /// Name for people, such as the program that is to use it
        #[arg(long)]
        name: String,
        /// What it may do: viewer, operator, releaser or admin; not more than you
        #[arg(long, value_parser = parse::role)]
        role: OperatorRole,
        /// How long it lives, such as 2h or 90d
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse::duration_secs)]
        ttl: u64,
    },
    /// List tokens: yours, or as an admin everybody's
    List,
    /// End a token
    Revoke {
        /// Identity of the token
        id: String,
    },
}

pub(crate) fn run(command: Operator, global: &Global, out: &Output) -> Result<()> {
    let client = link::client(global)?;
    let operator = match command {
        Operator::List => {
            let operators = client.operators()?;
            return out.show(&operators, || list(&operators));
        }
        Operator::Add {
            name,
            role,
            password,
        } => client.add_operator(&AddOperator {
            password: new_password(&password)?,
            name,
            role,
        })?,
        Operator::Disable { name } => client.set_operator_disabled(&name, true)?,
        Operator::Enable { name } => client.set_operator_disabled(&name, false)?,
        Operator::SetRole { name, role } => client.set_operator_role(&name, &SetRole { role })?,
        Operator::Password {
            name,
            password,
            current_file,
        } => {
            let own = client.who_am_i()?.account == name;
            let current = match own {
                true => Some(secret(current_file.as_deref(), "Current password: ")?),
                false => None,
            };
            let password = new_password(&password)?;
            client.set_operator_password(&name, &SetPassword { password, current })?
        }
    };
    out.show_lines(&operator, || {
        let state = if operator.disabled { "closed" } else { "open" };
        format!("{} is {state}, role {}", operator.name, operator.role)
    })
}

pub(crate) fn run_token(command: Token, global: &Global, out: &Output) -> Result<()> {
    let client = link::client(global)?;
    match command {
        Token::Create { name, role, ttl } => {
            let token = client.create_api_token(&CreateApiToken {
                name,
                role,
                ttl_secs: ttl,
            })?;
            out.show_lines(&token, || token.token.reveal().to_owned())
        }
        Token::List => {
            let tokens = client.api_tokens()?;
            out.show(&tokens, || tokens_table(&tokens))
        }
        Token::Revoke { id } => {
            let token = client.revoke_api_token(&id)?;
            out.show_lines(&token, || format!("token {} is ended", token.id))
        }
    }
}

/// A password from the first line of a file, or from the terminal.
pub(crate) fn secret(file: Option<&Path>, prompt: &str) -> Result<Secret> {
    let text = match file {
        Some(path) => passphrase::read(path)?,
        None => passphrase::ask(prompt)?,
    };
    Ok(Secret::new(text))
}

fn new_password(args: &NewPassword) -> Result<Secret> {
    let password = secret(args.password_file.as_deref(), "New password: ")?;
    if args.password_file.is_none() && secret(None, "Once more: ")? != password {
        return Err(CliError::Usage("the two passwords differ".into()));
    }
    Ok(password)
}

fn list(operators: &[drover_api::Operator]) -> Table {
    let header = ["NAME", "ROLE", "STATE", "CREATED"];
    let mut table = Table::new(&header, "no accounts; add one");
    for o in operators {
        let state = if o.disabled { "closed" } else { "open" };
        table.row([
            o.name.clone(),
            word(&o.role),
            state.to_owned(),
            clock::show_s(o.created_unix_s),
        ]);
    }
    table
}

fn tokens_table(tokens: &[ApiToken]) -> Table {
    let header = ["ID", "NAME", "ACCOUNT", "ROLE", "KIND", "STATE", "EXPIRES"];
    let mut table = Table::new(&header, "no tokens; create one");
    let now = clock::unix_s();
    for t in tokens {
        let state = match t.revoked || t.expires_unix_s <= now {
            true => "ended",
            false => "good",
        };
        table.row([
            t.id.clone(),
            t.name.clone(),
            t.account.clone(),
            word(&t.role),
            word(&t.kind),
            state.to_owned(),
            clock::show_s(t.expires_unix_s),
        ]);
    }
    table
}
