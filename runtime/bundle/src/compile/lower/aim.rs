//! Which scale a value had best be made in.
//!
//! A quantiser behind a product needs no multiplication if the product's weights already
//! carry its scale. Operators that commute with a positive factor are looked through; where
//! several quantisers read a value, the first counts.

use std::collections::HashMap;

use super::super::graph::{Graph, Node, ValueId};
use super::{elementwise, layout};

/// The scale of the next quantiser behind every value that has one.
pub(super) fn all(graph: &Graph) -> HashMap<ValueId, f32> {
    let mut aims = HashMap::new();
    for node in graph.nodes.iter().rev().filter(|n| n.is_standard()) {
        if node.is("QuantizeLinear") {
            let scale = node.input(1).and_then(|s| graph.constant(s));
            let single = scale.and_then(|s| s.as_single_f32());
            if let (Some(x), Some(scale)) = (node.input(0), single.filter(|s| is_scale(*s))) {
                aims.insert(x, scale);
            }
            continue;
        }
        let aim = node.output().and_then(|y| aims.get(&y).copied());
        let Some(aim) = aim else { continue };
        for x in passing(node) {
            if graph.constant(x).is_none() {
                aims.insert(x, aim);
            }
        }
    }
    aims
}

/// What can be divided by.
pub(super) fn is_scale(scale: f32) -> bool {
    scale.is_normal() && scale > 0.0
}

/// The inputs of `node` that a factor of its output may come from.
fn passing(node: &Node) -> Vec<ValueId> {
    match node.op.as_str() {
        "Add" | "Sub" | "Sum" | "Mean" | "Max" | "Min" | "Concat" => {
            node.inputs.iter().copied().flatten().collect()
        }
        "Where" => node.inputs.iter().skip(1).copied().flatten().collect(),
        "Relu" | "Clip" | "Pad" => node.input(0).into_iter().collect(),
        op if layout::moves(op) || elementwise::scales(op) => node.input(0).into_iter().collect(),
        _ => Vec::new(),
    }
}
