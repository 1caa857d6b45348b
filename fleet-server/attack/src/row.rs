//! The rows of the attack table, in its order.

mod a;
mod b;
mod c;
mod d;
mod e;
mod f;

use crate::error::{AttackError, Result};
use crate::suite::Suite;

/// One attack with what stands against it.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) attack: &'static str,
    pub(crate) defence: &'static str,
    pub(crate) play: fn(&Suite) -> Result<()>,
}

/// All of them.
pub(crate) fn all() -> Vec<&'static Row> {
    [a::ROWS, b::ROWS, c::ROWS, d::ROWS, e::ROWS, f::ROWS]
        .into_iter()
        .flatten()
        .collect()
}

/// Those that were asked for, in the order of the table; all when none was named.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    let all = all();
    let is_row = |name: &&String| !all.iter().any(|r| r.id.eq_ignore_ascii_case(name));
    if let Some(unknown) = names.iter().find(is_row) {
        return Err(AttackError::UnknownRow(unknown.clone()));
    }
    let is_wanted =
        |row: &&Row| names.is_empty() || names.iter().any(|name| row.id.eq_ignore_ascii_case(name));
    Ok(all.into_iter().filter(is_wanted).collect())
}
