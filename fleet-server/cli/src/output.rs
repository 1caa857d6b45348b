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

    /// A result that takes several tables, with an empty line between them.
    pub(crate) fn show_all(
        &self,
        value: &impl Serialize,
        tables: impl FnOnce() -> Vec<Table>,
    ) -> Result<()> {
        if self.json {
            return self.json(value);
        }
        let tables = tables();
        let texts: Vec<String> = tables.iter().map(|t| t.render(self.terminal)).collect();
        self.text(&texts.join("\n"))
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

/// The word that stands for `value` in JSON, for enums without data.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// `a=1,b=2`, or `-` for none.
pub(crate) fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    match pairs.is_empty() {
        true => "-".to_owned(),
        false => pairs.join(","),
    }
}
