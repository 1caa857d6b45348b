//! The smallest graphs that show a defect, with an input each.

use std::slice;

use drover_bundle::compile::graph::{Attribute, Node, ValueId};
use drover_bundle::compile::{Array, Data, ElementType, Graph};

/// All codes of a byte would do; a few tell as much.
const CODES: [i8; 4] = [-40, 0, 20, 90];

/// A graph whose only input is `x`.
fn of(element: ElementType, elements: usize) -> (Graph, ValueId) {
    let mut graph = Graph::default();
    graph.opset = 13;
    let x = graph.add_value("x");
    let value = graph.value_mut(x);
    value.element = Some(element);
    value.shape = Some(vec![Some(1), Some(elements)]);
    graph.inputs.push(x);
    (graph, x)
}

fn zero(element: ElementType, least: bool) -> Array {
    let data = match (element, least) {
        (ElementType::I8, true) => Data::I8(vec![i8::MIN]),
        (ElementType::I8, false) => Data::I8(vec![0]),
        (_, true) => Data::U8(vec![0]),
        (_, false) => Data::U8(vec![128]),
    };
    Array::new(Vec::new(), data).unwrap()
}

fn codes(element: ElementType) -> Array {
    let data = match element {
        ElementType::I8 => Data::I8(CODES.to_vec()),
        _ => Data::U8(CODES.iter().map(|c| c.cast_unsigned() ^ 0x80).collect()),
    };
    Array::new(vec![1, CODES.len()], data).unwrap()
}

/// DequantizeLinear of `from`, the node `middle`, QuantizeLinear to `to`.
fn between(
    from: ElementType,
    to: ElementType,
    (scale, is_positive): (f32, bool),
    middle: impl FnOnce(ValueId, ValueId) -> Node,
) -> (Graph, Array) {
    let (mut graph, x) = of(from, CODES.len());
    let x_scale = graph.add_constant("x_scale", Array::scalar(0.05));
    let x_zero = graph.add_constant("x_zero", zero(from, false));
    let y_scale = graph.add_constant("y_scale", Array::scalar(scale));
    let y_zero = graph.add_constant("y_zero", zero(to, is_positive));
    let [real, result, y] = ["real", "result", "y"].map(|name| graph.add_value(name));
    graph.value_mut(y).element = Some(to);
    graph.nodes = vec![
        Node::new("dequant", "DequantizeLinear", &[x, x_scale, x_zero], real),
        middle(real, result),
        Node::new("quant", "QuantizeLinear", &[result, y_scale, y_zero], y),
    ];
    graph.outputs.push(y);
    (graph, codes(from))
}

/// A quantised Softmax over a row.
pub(crate) fn through_softmax(element: ElementType) -> (Graph, Array) {
    between(element, element, (1.0 / 256.0, true), |x, y| {
        Node::new("softmax", "Softmax", slice::from_ref(&x), y).with("axis", Attribute::Int(-1))
    })
}

/// A function of one element at a time between two quantised types.
pub(crate) fn through_unary(op: &str, from: ElementType, to: ElementType) -> (Graph, Array) {
    between(from, to, (1.0 / 127.0, false), |x, y| {
        Node::new("function", op, slice::from_ref(&x), y)
    })
}

/// A row over the step of DynamicQuantizeLinear for it, or that operator itself: the fourth
/// quotient is below a half in floats, and just a half when the inverse is rounded first.
pub(crate) fn divided(is_quantiser: bool) -> (Graph, Array) {
    let row = vec![0.0, 2.0, -3.0, -2.5, 1.34, 0.5];
    let (mut graph, x) = of(ElementType::F32, row.len());
    let y = graph.add_value("y");
    if is_quantiser {
        graph.value_mut(y).element = Some(ElementType::U8);
        let node = Node::new("quant", "DynamicQuantizeLinear", &[x], y);
        graph.nodes.push(node);
    } else {
        graph.value_mut(y).element = Some(ElementType::F32);
        let step = graph.add_constant("step", Array::scalar(5.0 / 255.0));
        graph.nodes.push(Node::new("divide", "Div", &[x, step], y));
    }
    graph.outputs.push(y);
    let input = Array::new(vec![1, row.len()], Data::F32(row)).unwrap();
    (graph, input)
}
