//! `drover affected`: which devices run a component now.

use clap::Args;

use crate::args::Global;
use crate::error::Result;
use crate::link;
use crate::output::Output;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Affected {
    /// Component by name or package URL, perhaps with a bound: 'torch<2.9.1' (<, <=, =, >=, >);
    /// drover-agent is the agent itself
    #[arg(long, value_name = "NAME<VERSION")]
    component: String,
}

pub(crate) fn run(args: &Affected, global: &Global, out: &Output) -> Result<()> {
    let affected = link::client(global)?.affected(&args.component)?;
    out.show(&affected.items, || {
        let header = ["DEVICE", "NAME", "COMPONENT", "VERSION", "BUNDLE"];
        let mut table = Table::new(&header, "no device runs it");
        for item in &affected.items {
            let bundle = item.bundle.as_ref();
            table.row([
                item.device.clone(),
                item.name.clone(),
                item.component.name.clone(),
                item.component.version.clone(),
                bundle.map_or_else(String::new, |b| format!("{}@{}", b.name, b.version)),
            ]);
        }
        table
    })?;
    // On standard error, so that a list of the affected stays one; silence would be a promise.
    for device in &affected.unknown {
        eprintln!(
            "note: nothing is known of {}: its bundle {}@{} names no components",
            device.device, device.bundle.name, device.bundle.version
        );
    }
    Ok(())
}
