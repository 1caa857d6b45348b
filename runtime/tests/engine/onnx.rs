//! Writes small ONNX files byte by byte, the broken ones too, which no exporter would.
//!
//! Field numbers are those of `onnx.proto`.

/// ONNX's number of float tensors.
pub(crate) const FLOAT: u64 = 1;
/// ONNX's number of double tensors.
pub(crate) const DOUBLE: u64 = 11;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A message under construction.
#[derive(Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    /// Adds a number.
    pub(crate) fn int(mut self, field: u64, value: u64) -> Self {
        varint(field << 3, &mut self.0);
        varint(value, &mut self.0);
        self
    }

    /// Adds a string or bytes.
    pub(crate) fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        varint(field << 3 | 2, &mut self.0);
        varint(value.as_ref().len() as u64, &mut self.0);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    /// Adds a message.
    pub(crate) fn nested(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// One axis: a size, or a name that stands for it.
#[derive(Clone, Copy)]
pub(crate) enum Axis {
    /// A fixed size.
    Size(u64),
    /// A symbol.
    Named(&'static str),
    /// Neither.
    Open,
}

/// Declares an input or output.
pub(crate) fn value(name: &str, element: u64, axes: &[Axis]) -> Message {
    let shape = axes.iter().fold(Message::default(), |shape, axis| {
        let dim = Message::default();
        shape.nested(
            1,
            &match axis {
                Axis::Size(size) => dim.int(1, *size),
                Axis::Named(name) => dim.bytes(2, name),
                Axis::Open => dim,
            },
        )
    });
    let tensor = Message::default().int(1, element).nested(2, &shape);
    let kind = Message::default().nested(1, &tensor);
    Message::default().bytes(1, name).nested(2, &kind)
}

/// A node.
pub(crate) fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |n, i| n.bytes(1, i));
    node.bytes(2, output)
        .bytes(3, format!("node-of-{output}"))
        .bytes(4, operator)
}

/// A graph of inputs, outputs and nodes.
pub(crate) fn graph(inputs: &[Message], outputs: &[Message], nodes: &[Message]) -> Message {
    let graph = nodes.iter().fold(Message::default(), |g, n| g.nested(1, n));
    let graph = inputs
        .iter()
        .fold(graph.bytes(2, "g"), |g, i| g.nested(11, i));
    outputs.iter().fold(graph, |g, o| g.nested(12, o))
}

/// The file of a graph.
pub(crate) fn model(graph: &Message) -> Vec<u8> {
    let opset = Message::default().bytes(1, "").int(2, 13);
    let model = Message::default().int(1, 8).nested(8, &opset);
    model.nested(7, graph).0
}

/// `y = relu(x)` over `axes`.
pub(crate) fn relu(axes: &[Axis]) -> Vec<u8> {
    model(&graph(
        &[value("x", FLOAT, axes)],
        &[value("y", FLOAT, axes)],
        &[node("Relu", &["x"], "y")],
    ))
}
