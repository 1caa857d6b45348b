//! Where results go: standard output, as JSON for machines, as tables in a terminal, as
//! tab-separated text in a pipe.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::error::{CliError, Result};
use crate::table::Table;

/// Standard output, and in which form to write to it.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
}

impl Output {
    /// Looks at standard output.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// A result in both forms: `value` for machines, `table` for people.
    pub(crate) fn show(&self, value: &impl Serialize, table: impl FnOnce() -> Table) -> Result<()> {
        if self.json {
            self.json(value)
        } else {
            self.text(&table().render(self.terminal))
        }
    }

    /// A result whose form for people is lines of text.
    pub(crate) fn show_lines(
        &self,
        value: &impl Serialize,
        lines: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.json {
            self.json(value)
        } else {
            self.text(&lines())
        }
    }

    /// Text as it is, with a newline at its end.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        let mut write = || {
            stdout.write_all(text.as_bytes())?;
            if !text.is_empty() && !text.ends_with('\n') {
                stdout.write_all(b"\n")?;
            }
            stdout.flush()
        };
        write().map_err(CliError::Stdout)
    }

    fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value);
        self.text(&text.map_err(|e| CliError::Stdout(e.into()))?)
    }
}
