//! `drover event`: what happened in the fleet.

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::error::Result;
use crate::output::{Output, word};
use crate::table::Table;
use crate::{clock, link};

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// List events, newest first
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this device
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

pub(crate) fn run(command: Event, global: &Global, out: &Output) -> Result<()> {
    let Event::List(args) = command;
    let events = link::client(global)?.events(args.device.as_deref(), args.limit)?;
    out.show(&events, || {
        let header = ["TIME", "SEVERITY", "KIND", "DEVICE", "WHAT HAPPENED"];
        let mut table = Table::new(&header, "nothing has happened");
        for e in &events {
            table.row([
                clock::show_s(e.unix_ms / 1000),
                word(&e.severity),
                e.kind.clone(),
                e.device.clone().unwrap_or_else(|| "-".into()),
                e.detail.clone(),
            ]);
        }
        table
    })
}
