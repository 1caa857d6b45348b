//! The quantisers at the borders of a graph, whose scales are what a step is.

use drover_bundle::compile::Graph;
use drover_bundle::compile::graph::{Node, ValueId};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quantiser {
    pub(crate) scale: f64,
    zero: f64,
}

impl Quantiser {
    /// The value that a step stands for.
    pub(crate) fn real(self, step: f32) -> f32 {
        ((f64::from(step) - self.zero) * self.scale) as f32
    }

    /// Of the constants at these places; the largest scale where each channel has its own.
    fn of(graph: &Graph, node: &Node, scale: usize) -> Option<Self> {
        let constant = |place| graph.constant(node.input(place)?)?.to_f64();
        Some(Self {
            scale: constant(scale)?.into_iter().fold(0.0, f64::max),
            zero: constant(scale + 1).map_or(0.0, |zero| zero[0]),
        })
    }
}

/// What the graph's first output was quantised with last; nothing for a float graph, and
/// where the quantisers find their scales when they run.
pub(crate) fn last(graph: &Graph) -> Option<Quantiser> {
    let makers = graph.makers();
    let mut value = *graph.outputs.first()?;
    loop {
        let node = graph.nodes.get(*makers.get(&value)?)?;
        let scale = match node.op.as_str() {
            "DequantizeLinear" | "QuantizeLinear" => Some(1),
            "QLinearConv" | "QLinearMatMul" | "QLinearAdd" | "QLinearMul" => Some(6),
            "QGemm" => Some(7),
            "QLinearConcat" => Some(0),
            "DynamicQuantizeLinear" => return None,
            op if op.starts_with("QLinear") => Some(3),
            _ => None,
        };
        if let Some(place) = scale {
            return Quantiser::of(graph, node, place);
        }
        value = activation(graph, node)?;
    }
}

/// What an integer input of the graph means, wherever it is moved before it is dequantised.
pub(crate) fn first(graph: &Graph) -> Option<Quantiser> {
    let mut value = *graph.inputs.first()?;
    loop {
        let reader = graph.nodes.iter().find(|n| n.input(0) == Some(value))?;
        if reader.op == "DequantizeLinear" {
            return Quantiser::of(graph, reader, 1);
        }
        value = reader.output()?;
    }
}

/// The first input that is not a constant, nor one that is stored in fewer bits.
fn activation(graph: &Graph, node: &Node) -> Option<ValueId> {
    let makers = graph.makers();
    let stored = |value: ValueId| {
        let maker = makers.get(&value).and_then(|&place| graph.nodes.get(place));
        maker.is_some_and(|m| m.reads().all(|read| graph.constant(read).is_some()))
    };
    node.reads()
        .find(|&value| graph.constant(value).is_none() && !stored(value))
}
