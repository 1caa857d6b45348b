//! `drover broker`: the server's MQTT broker. Stopping it loses nothing; devices go on and
//! buffer.

use clap::Subcommand;

use crate::args::Global;
use crate::error::Result;
use crate::link;
use crate::output::{Output, word};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Broker {
    /// Show the broker
    Status,
    /// Stop the embedded broker; devices go on and buffer
    Stop,
    /// Start the embedded broker again
    Start,
}

pub(crate) fn run(command: Broker, global: &Global, out: &Output) -> Result<()> {
    let client = link::client(global)?;
    let broker = match command {
        Broker::Status => client.broker()?,
        Broker::Stop => client.stop_broker()?,
        Broker::Start => client.start_broker()?,
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    out.show(&broker, || {
        let mut table = Table::pairs();
        table.pair("kind", word(&broker.kind));
        table.pair("running", yes(broker.running));
        table.pair("connected", yes(broker.connected));
        table.pair("address", &broker.addr);
        let (host, port) = (&broker.advertised_host, broker.advertised_port);
        table.pair("for devices", format!("{host}:{port}"));
        table
    })
}
