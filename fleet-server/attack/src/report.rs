//! What came of the rows: a table for people, JSON for machines.

use serde::Serialize;

/// What came of one row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Which row of the attack table.
    pub row: &'static str,
    /// What the attacker does.
    pub attack: &'static str,
    /// What stands against it.
    pub defence: &'static str,
    /// Whether it was withstood.
    pub passed: bool,
    /// What happened instead; empty when it was withstood.
    pub finding: String,
    /// How long it took.
    pub seconds: f64,
}

/// What came of all rows that were played.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Report {
    /// In the order of the table.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Whether every row was withstood, and there was one.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|o| o.passed)
    }

    /// How many rows were withstood, in words.
    #[must_use]
    pub fn summary(&self) -> String {
        let passed = self.outcomes.iter().filter(|o| o.passed).count();
        format!("{passed} of {} rows withstood", self.outcomes.len())
    }
}

impl Outcome {
    /// For the table's last column.
    #[must_use]
    pub fn text(&self) -> String {
        match self.passed {
            true => format!("withstood in {:.1} s", self.seconds),
            false => format!("NOT WITHSTOOD: {}", self.finding),
        }
    }
}
