//! `drover data`: what devices have sent and the server has stored.

use clap::Subcommand;

use crate::args::Global;
use crate::error::Result;
use crate::link;
use crate::output::Output;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Count what is stored of each start of each device
    Stats,
}

pub(crate) fn run(command: Data, global: &Global, out: &Output) -> Result<()> {
    let Data::Stats = command;
    let stats = link::client(global)?.data_stats()?;
    out.show(&stats, || {
        let header = [
            "DEVICE",
            "NAME",
            "BOOT",
            "RECORDS",
            "FIRST",
            "LAST",
            "OBSERVATIONS",
            "PROFILES",
            "EVENTS",
            "DUPLICATES",
        ];
        let mut table = Table::new(&header, "nothing has arrived");
        for s in &stats {
            table.row([
                s.device.clone(),
                s.name.clone(),
                s.boot.to_string(),
                s.records.to_string(),
                s.first_sequence.to_string(),
                s.last_sequence.to_string(),
                s.observations.to_string(),
                s.profiles.to_string(),
                s.events.to_string(),
                s.duplicates.to_string(),
            ]);
        }
        table
    })
}
