//! Not written yet.

use super::graph::Graph;

/// The quantised model in integers alone.
#[derive(Clone, Debug)]
pub struct IntegerModel;

/// Makes the integer form of a canonical graph, or says why it has none.
pub(super) fn build(_graph: &Graph) -> Result<IntegerModel, String> {
    Err("not written yet".to_owned())
}
