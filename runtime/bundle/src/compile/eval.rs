//! The reference: what a graph computes by the letter of its operators' definitions.
//!
//! Quantised operators are computed in integers, float operators in `f32` with sums in `f64`,
//! one node after the other. It is slow and plain on purpose: compiled models are compared
//! with it, and constants are folded by it. It is no engine: nothing on a device runs it.

#[cfg(test)]
mod example;
mod float;
mod integer;
mod layout;

use std::collections::HashMap;

use super::array::Array;
use super::graph::{Graph, Node, ValueId};

/// Why a graph cannot be computed here.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// No definition of this operator is here.
    #[error("the reference knows no operator {0}")]
    Unknown(String),
    /// An operator cannot be applied to what it is given.
    #[error("{node}: {why}")]
    Refused {
        /// Operator and name.
        node: String,
        /// Why not.
        why: String,
    },
    /// The caller's inputs are not those of the graph.
    #[error("the graph takes {wanted} inputs, not {got}")]
    Inputs {
        /// Inputs of the graph.
        wanted: usize,
        /// Inputs given.
        got: usize,
    },
}

/// What an operator is applied to.
pub(super) struct Call<'a> {
    /// The node, for its attributes.
    pub(super) node: &'a Node,
    /// Version of ONNX's own operators.
    pub(super) opset: i64,
    /// In the operator's order; `None` where one is left out.
    pub(super) inputs: Vec<Option<&'a Array>>,
}

/// The results of an operator in its order, or why it cannot be applied.
pub(super) type Outcome = Result<Vec<Array>, String>;
pub(super) type Kernel = fn(&Call<'_>) -> Outcome;

impl<'a> Call<'a> {
    /// Input `place`, which the operator cannot do without.
    pub(super) fn input(&self, place: usize) -> Result<&'a Array, String> {
        self.optional(place)
            .ok_or_else(|| format!("input {place} is missing"))
    }

    /// Input `place`, if there is one.
    pub(super) fn optional(&self, place: usize) -> Option<&'a Array> {
        self.inputs.get(place).copied().flatten()
    }
}

/// The definition of an operator, if one is here.
pub(super) fn kernel(node: &Node) -> Option<Kernel> {
    let (domain, op) = (node.domain.as_str(), node.op.as_str());
    float::kernel(domain, op)
        .or_else(|| layout::kernel(domain, op))
        .or_else(|| integer::kernel(domain, op))
}

/// Applies the node to constants or intermediate results.
pub(super) fn apply(
    graph: &Graph,
    node: &Node,
    inputs: Vec<Option<&Array>>,
) -> Result<Vec<Array>, EvalError> {
    let kernel = kernel(node).ok_or_else(|| EvalError::Unknown(node.title()))?;
    let call = Call {
        node,
        opset: graph.opset,
        inputs,
    };
    let refused = |why| EvalError::Refused {
        node: node.title(),
        why,
    };
    // An axis of no length can hide others whose product no number holds.
    for input in call.inputs.iter().flatten() {
        layout::argument::volume(input.shape()).map_err(refused)?;
    }
    kernel(&call).map_err(refused)
}

/// Computes all outputs of `graph`.
///
/// # Errors
/// [`EvalError`] names the operator that cannot be computed and why.
pub fn run(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>, EvalError> {
    if inputs.len() != graph.inputs.len() {
        return Err(EvalError::Inputs {
            wanted: graph.inputs.len(),
            got: inputs.len(),
        });
    }
    let given = graph.inputs.iter().copied().zip(inputs.iter().cloned());
    let mut values: HashMap<ValueId, Array> = given.collect();
    let last = last_reads(graph);
    for (place, node) in graph.nodes.iter().enumerate() {
        let results = {
            let value = |id: &ValueId| values.get(id).or_else(|| graph.constant(*id));
            let arguments = node.inputs.iter().map(|i| i.as_ref().and_then(value));
            apply(graph, node, arguments.collect())?
        };
        for (id, result) in node.outputs.iter().zip(results) {
            if let Some(id) = id {
                values.insert(*id, result);
            }
        }
        for read in node.reads().filter(|v| last.get(v) == Some(&place)) {
            values.remove(&read);
        }
    }
    let output = |id: &ValueId| {
        let value = values.get(id).or_else(|| graph.constant(*id));
        value.cloned().ok_or_else(|| EvalError::Refused {
            node: graph.name(*id).to_owned(),
            why: "nothing makes this output".to_owned(),
        })
    };
    graph.outputs.iter().map(output).collect()
}

/// The last node that reads each value; outputs of the graph are kept for ever.
fn last_reads(graph: &Graph) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for (place, node) in graph.nodes.iter().enumerate() {
        for read in node.reads() {
            last.insert(read, place);
        }
    }
    for output in &graph.outputs {
        last.remove(output);
    }
    last
}
