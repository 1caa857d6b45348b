//! Not written yet.

use crate::compile::error::CompileError;
use crate::compile::graph::Graph;

pub(super) fn run(_graph: &mut Graph) -> Result<usize, CompileError> {
    Ok(0)
}
