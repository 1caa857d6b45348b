//! `drover-agent check-model`: the child in which the agent tries a candidate. Not for people.

use clap::Args;

use crate::AgentError;
use crate::runner;

#[derive(Debug, Args)]
pub(super) struct CheckModelArgs {
    /// Most addresses of the process, in bytes
    #[arg(long)]
    memory_bytes: u64,
    /// Most time of the processor
    #[arg(long)]
    seconds: u64,
}

impl CheckModelArgs {
    pub(super) fn execute(self) -> Result<u8, AgentError> {
        let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
        runner::check_model(self.memory_bytes, self.seconds, &mut input, &mut output)
            .map(|fit| if fit { 0 } else { 1 })
            .map_err(AgentError::file("read the model from", "standard input"))
    }
}
