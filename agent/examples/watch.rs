//! Prints what the model on this board decides: `watch [SOCKET]`.
//!
//! It uses nothing of the agent's crate but `serde_json`, as an application of one's own
//! would.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail};
use serde_json::Value;

const DEFAULT: &str = "/var/lib/drover-agent/agent.sock";

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| DEFAULT.into());
    let mut agent = UnixStream::connect(&path)
        .with_context(|| format!("cannot connect to {path}; does drover-agent run?"))?;
    agent.write_all(b"{\"op\":\"subscribe\"}\n")?;
    for line in BufReader::new(agent).lines() {
        let result: Value = serde_json::from_str(&line?)?;
        match result["type"].as_str() {
            Some("observation") => {
                let what = result.get("label").unwrap_or(&result["verdict"]);
                writeln!(
                    std::io::stdout(),
                    "{} window {} score {}: {}",
                    result["model"].as_str().unwrap_or_default(),
                    result["window"],
                    result["score"],
                    what.as_str().unwrap_or_default()
                )?;
            }
            Some("dropped") => eprintln!("too slow: {} results are lost", result["count"]),
            _ => bail!("{result}"),
        }
    }
    Ok(())
}
