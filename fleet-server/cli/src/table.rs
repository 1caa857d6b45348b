//! Rows of text cells: aligned under a header in a terminal, tab-separated and bare in a
//! pipe, as `cut` and `awk` want it.
//!
//! Cells may come from devices; control characters in them are shown escaped, so that they
//! neither break a row nor command the terminal.

/// Rows under a header, or pairs of name and value without one.
#[derive(Debug, Default)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// An empty table; `empty` is what a terminal shows when no row comes.
    pub(crate) fn new(header: &[&'static str], empty: &'static str) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
            empty,
        }
    }

    /// An empty list of names with values.
    pub(crate) fn pairs() -> Self {
        Self::default()
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|c| visible(&c)).into());
    }

    /// Adds a name with its value.
    pub(crate) fn pair(&mut self, name: &str, value: impl ToString) {
        self.row([name.to_owned(), value.to_string()]);
    }

    /// The text for a terminal or for a pipe.
    pub(crate) fn render(&self, terminal: bool) -> String {
        if !terminal {
            return self.rows.iter().map(|r| r.join("\t") + "\n").collect();
        }
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        let header: Vec<String> = self.header.iter().map(|h| (*h).to_owned()).collect();
        let lines = || {
            std::iter::once(&header)
                .filter(|h| !h.is_empty())
                .chain(&self.rows)
        };
        let mut widths = Vec::new();
        for line in lines() {
            widths.resize(widths.len().max(line.len()), 0);
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        lines().map(|line| align(line, &widths)).collect()
    }
}

fn align(line: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in line.iter().zip(widths) {
        text.push_str(&format!("{cell:<width$}  "));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn visible(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for c in cell.chars() {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["DEVICE", "STATE"], "no devices");
        table.row(["pump-1".into(), "ok".into()]);
        table.row(["a much longer name".into(), "\u{1b}[31m\tred\n".into()]);
        table
    }

    #[test]
    fn terminals_get_aligned_columns_with_a_header() {
        assert_eq!(
            table().render(true),
            "DEVICE              STATE\n\
             pump-1              ok\n\
             a much longer name  \\u{1b}[31m\\tred\\n\n"
        );
        assert_eq!(
            Table::new(&["DEVICE"], "no devices").render(true),
            "no devices\n"
        );
    }

    #[test]
    fn pipes_get_bare_tab_separated_rows() {
        assert_eq!(
            table().render(false),
            "pump-1\tok\na much longer name\t\\u{1b}[31m\\tred\\n\n"
        );
        assert_eq!(Table::new(&["DEVICE"], "no devices").render(false), "");
    }
}
