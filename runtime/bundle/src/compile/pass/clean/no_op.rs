//! Which operators hand their first input on.

use crate::compile::array::Array;
use crate::compile::graph::{Graph, MOST_AXES, Node};

/// Whether the first output is the first input.
pub(super) fn is_no_op(graph: &Graph, node: &Node) -> bool {
    let Some(input) = node.input(0) else {
        return false;
    };
    let constant = |place: usize| node.input(place).and_then(|id| graph.constant(id));
    let value = graph.value(input);
    let shape = || exact(value.shape.as_deref()?);
    match node.op.as_str() {
        "Identity" => true,
        "Dropout" => match node.input(2) {
            None => true,
            Some(_) => constant(2)
                .and_then(Array::to_f64)
                .is_some_and(|v| v == [0.0]),
        },
        "Cast" => match (value.element, node.int("to")) {
            (Some(from), Some(to)) => i64::from(from.0) == to,
            _ => false,
        },
        "Concat" => node.inputs.len() == 1,
        "Transpose" => node
            .ints("perm")
            .is_some_and(|perm| perm.iter().enumerate().all(|(n, &p)| p == n as i64)),
        "Pad" => {
            let is_nothing = |pads: &[i64]| {
                let few = pads.len() <= 2 * MOST_AXES;
                few && pads.iter().all(|&n| n == 0)
            };
            let nothing = |pads: &Array| pads.as_i64().is_some_and(is_nothing);
            constant(1).is_some_and(nothing)
        }
        "Reshape" | "Flatten" => match (shape(), output_shape(graph, node)) {
            (Some(from), Some(to)) => from == to,
            _ => false,
        },
        _ => false,
    }
}

fn exact(shape: &[Option<usize>]) -> Option<Vec<usize>> {
    shape.iter().copied().collect()
}

/// The shape a Reshape or Flatten gives, where its input's is known.
fn output_shape(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let input = exact(graph.value(node.input(0)?).shape.as_deref()?)?;
    if node.op == "Flatten" {
        return (input.len() == 2 && node.int("axis").unwrap_or(1) == 1).then_some(input);
    }
    let wanted = graph.constant(node.input(1)?)?.as_i64()?;
    if wanted.len() != input.len() {
        return None;
    }
    // Only what says the input's shape is of interest: one -1 stands for the axis there.
    let says = |n: usize, w: i64| match w {
        -1 => true,
        0 => node.int("allowzero").unwrap_or(0) == 0 || input[n] == 0,
        w => usize::try_from(w) == Ok(input[n]),
    };
    let open = wanted.iter().filter(|&&w| w == -1).count();
    let mut axes = wanted.iter().enumerate();
    (open <= 1 && axes.all(|(n, &w)| says(n, w))).then_some(input)
}
