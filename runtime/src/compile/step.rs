//! What one step of the last quantiser is worth in a model's output: the unit in which
//! differences of quantised models are counted.

use std::collections::HashMap;

use drover_bundle::compile::graph::{Graph, Node, ValueId};
use drover_bundle::compile::{Array, ElementType};

/// The unit of a model's output differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// No quantiser in the model.
    None,
    /// Quantisers, but none of a fixed size that the output could be counted in.
    Running,
    /// In the output's unit; 1 for integer outputs.
    Size(f32),
}

/// Operators that make of a step in their first input no more than a step in their output.
const KEEPING: [&str; 31] = [
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Slice",
    "Pad",
    "Split",
    "Expand",
    "Tile",
    "Gather",
    "DepthToSpace",
    "SpaceToDepth",
    "Cast",
    "Dropout",
    "Relu",
    "Clip",
    "LeakyRelu",
    "PRelu",
    "HardSigmoid",
    "Sigmoid",
    "Tanh",
    "Softmax",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
];

/// How many steps of the last quantiser exact numerics may be off. Another order of additions
/// may move a value over the edge between two steps, and a later layer by one more: 2. Where a
/// softmax stands between the last quantiser and the one before, a step of its inputs, up
/// in one and down in the others, is worth up to half of itself in its output, which may be many
/// of the steps there.
pub(super) fn allowed(graph: &Graph, step: Step) -> f32 {
    let Step::Size(step) = step else {
        return 2.0;
    };
    let walk = Walk {
        graph,
        makers: graph.makers(),
    };
    let before = graph.outputs.first().and_then(|&v| walk.softmax(v));
    before.map_or(2.0, |worth| (2.0 * worth / step).ceil().max(2.0))
}

/// The unit of the first output of a canonical graph.
pub(super) fn of(graph: &Graph) -> Step {
    let Some(&output) = graph.outputs.first() else {
        return Step::None;
    };
    let walk = Walk {
        graph,
        makers: graph.makers(),
    };
    let integer = |n: &Node| n.is("QuantizeLinear");
    if walk.maker(output).is_some_and(integer) || is_integer(graph, output) {
        return Step::Size(1.0);
    }
    match walk.step(output, 64) {
        Some(step) if step.is_finite() && step > 0.0 => Step::Size(step),
        _ if is_quantised(graph) => Step::Running,
        _ => Step::None,
    }
}

fn is_integer(graph: &Graph, value: ValueId) -> bool {
    let element = graph.value(value).element;
    element.is_some_and(|e| e.integer_range().is_some() || e == ElementType::I32)
}

/// Whether activations are quantised anywhere.
fn is_quantised(graph: &Graph) -> bool {
    let quantises = |n: &Node| match n.op.as_str() {
        "QuantizeLinear" => n.input(0).is_some_and(|v| graph.constant(v).is_none()),
        op => op.starts_with("QLinear") || op == "DynamicQuantizeLinear" || op.ends_with("Integer"),
    };
    graph.nodes.iter().any(quantises)
}

struct Walk<'a> {
    graph: &'a Graph,
    makers: HashMap<ValueId, usize>,
}

impl<'a> Walk<'a> {
    fn maker(&self, value: ValueId) -> Option<&'a Node> {
        self.makers
            .get(&value)
            .and_then(|&n| self.graph.nodes.get(n))
    }

    /// The largest step that reaches `value` from a quantiser; nothing where none does. After
    /// a weighted sum a step of one element is worth the largest weight.
    fn step(&self, value: ValueId, depth: usize) -> Option<f32> {
        let node = self.maker(value)?;
        let depth = depth.checked_sub(1)?;
        let input = |place| node.input(place).and_then(|v| self.step(v, depth));
        let gain = |place| node.input(place).and_then(|v| self.largest(v));
        match node.op.as_str() {
            "DequantizeLinear" if self.graph.constant(node.input(0)?).is_none() => gain(1),
            op if KEEPING.contains(&op) => input(0),
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "Mul" => match gain(1) {
                Some(gain) => Some(input(0)? * gain),
                None => Some(input(1)? * gain(0)?),
            },
            "Div" => Some(input(0)? / gain(1)?),
            "Add" | "Sub" | "Concat" | "Max" | "Min" | "Sum" => {
                let steps = (0..node.inputs.len()).filter_map(input);
                steps.reduce(f32::max)
            }
            _ => None,
        }
    }

    /// What a step before the softmax that the output comes from is worth behind it, in the
    /// output's unit.
    fn softmax(&self, output: ValueId) -> Option<f32> {
        let mut value = output;
        let mut scale = 1.0;
        for _ in 0..16 {
            let node = self.maker(value)?;
            match node.op.as_str() {
                "Softmax" => return Some(self.step(node.input(0)?, 64)? / 2.0 / scale),
                // Of an integer output this one sets the unit; others are taken back below.
                "QuantizeLinear" => scale *= self.largest(node.input(1)?)?,
                "DequantizeLinear" => scale /= self.largest(node.input(1)?)?,
                op if KEEPING.contains(&op) => {}
                _ => return None,
            }
            value = node.input(0)?;
        }
        None
    }

    /// The largest magnitude of a constant, or of weights under a DequantizeLinear.
    fn largest(&self, value: ValueId) -> Option<f32> {
        let magnitude = |array: &Array, zero: f64| {
            let values = array.to_f64()?;
            let most = values.iter().fold(0.0f64, |m, v| m.max((v - zero).abs()));
            Some(most as f32)
        };
        if let Some(array) = self.graph.constant(value) {
            return magnitude(array, 0.0);
        }
        let node = self.maker(value).filter(|n| n.is("DequantizeLinear"))?;
        let constant = |place| node.input(place).and_then(|v| self.graph.constant(v));
        let zero = constant(2).and_then(Array::to_f64);
        let zero = zero.and_then(|z| z.first().copied()).unwrap_or(0.0);
        Some(magnitude(constant(0)?, zero)? * magnitude(constant(1)?, 0.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_bundle::compile::{Array, Data};

    /// A quantised input of scale 0.5, a weighted sum whose largest weight is 3, and whatever
    /// `more` puts behind it.
    fn graph(more: &[(&str, f32)]) -> Graph {
        let mut graph = Graph::default();
        let mut value = graph.add_value("x");
        graph.inputs.push(value);
        let weights = Data::F32(vec![1.0, -3.0, 2.0, 0.5]);
        let weights = Array::new(vec![2, 2], weights).unwrap();
        let weights = graph.add_constant("w", weights);
        let nodes = [
            ("QuantizeLinear", 0.5),
            ("DequantizeLinear", 0.5),
            ("MatMul", 0.0),
        ];
        for (op, scale) in nodes.iter().chain(more) {
            let mut inputs = vec![value];
            match *op {
                "MatMul" => inputs.push(weights),
                "Softmax" => {}
                _ => inputs.push(graph.add_constant("scale", Array::scalar(*scale))),
            }
            value = graph.add_value("v");
            graph.nodes.push(Node::new(op, op, &inputs, value));
        }
        graph.outputs.push(value);
        graph
    }

    #[test]
    fn a_step_is_followed_to_the_output() {
        assert_eq!(of(&Graph::default()), Step::None);
        assert_eq!(
            of(&graph(&[])),
            Step::Size(1.5),
            "0.5 times the largest weight"
        );
        let quantised = [("QuantizeLinear", 0.25), ("DequantizeLinear", 0.25)];
        assert_eq!(of(&graph(&quantised)), Step::Size(0.25));
        assert_eq!(
            of(&graph(&quantised[..1])),
            Step::Size(1.0),
            "an integer output"
        );
        assert_eq!(
            of(&graph(&[("Cosh", 0.0)])),
            Step::Running,
            "no operator of a known gain"
        );
    }

    #[test]
    fn a_softmax_before_the_last_quantiser_turns_one_step_into_many() {
        let behind = [
            ("Softmax", 0.0),
            ("QuantizeLinear", 0.0625),
            ("DequantizeLinear", 0.0625),
        ];
        for more in [&behind[..], &behind[..2]] {
            let graph = graph(more);
            let allowed = allowed(&graph, of(&graph));
            assert_eq!(allowed, 24.0, "twice half of 1.5, in steps of 0.0625");
        }
        let graph = graph(&[]);
        assert_eq!(allowed(&graph, of(&graph)), 2.0);
    }
}
