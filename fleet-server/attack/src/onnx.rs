//! Writes ONNX files of a few hundred bytes by hand, the hostile ones too, which no exporter
//! would.
//!
//! ONNX is protobuf: a message is a row of fields, each a number shifted left by three with
//! the kind of its value in the low bits (0 a varint, 2 bytes behind their length). Field
//! numbers are those of `onnx.proto`.

const FLOAT: u64 = 1;

/// A protobuf message under construction.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    fn nested(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// `ValueInfoProto` of a float tensor.
fn value(name: &str, shape: &[u64]) -> Message {
    let dims = shape.iter().fold(Message::default(), |m, &size| {
        m.nested(1, &Message::default().int(1, size))
    });
    let tensor = Message::default().int(1, FLOAT).nested(2, &dims);
    let kind = Message::default().nested(1, &tensor);
    Message::default().bytes(1, name).nested(2, &kind)
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |n, i| n.bytes(1, i));
    node.bytes(2, output).bytes(3, output).bytes(4, operator)
}

/// A model with one input `x` and one output `y`, both of shape 1 x 1.
fn model(nodes: &[Message], initializers: &[Message]) -> Vec<u8> {
    let graph = nodes.iter().fold(Message::default(), |g, n| g.nested(1, n));
    let graph = graph.bytes(2, "g");
    let graph = initializers.iter().fold(graph, |g, i| g.nested(5, i));
    let graph = graph
        .nested(11, &value("x", &[1, 1]))
        .nested(12, &value("y", &[1, 1]));
    let opset = Message::default().bytes(1, "").int(2, 13);
    let model = Message::default().int(1, 8).nested(8, &opset);
    model.nested(7, &graph).0
}

/// `TensorProto` of one float.
fn scalar(name: &str, value: f32) -> Message {
    Message::default()
        .int(1, 1)
        .int(1, 1)
        .int(2, FLOAT)
        .bytes(8, name)
        .bytes(9, value.to_le_bytes())
}

/// `y = weight * x`: about 100 bytes, and its answers say which model gave them.
pub(crate) fn times(weight: f32) -> Vec<u8> {
    model(&[node("Mul", &["x", "w"], "y")], &[scalar("w", weight)])
}

/// An initializer that claims 2^40 elements and brings none.
pub(crate) fn huge_tensor() -> Vec<u8> {
    let lie = Message::default()
        .int(1, 1 << 20)
        .int(1, 1 << 20)
        .int(2, FLOAT)
        .bytes(8, "w");
    model(&[node("Mul", &["x", "w"], "y")], &[lie])
}

/// A constant that is expanded to 2^36 elements, 256 GiB, by the graph itself.
pub(crate) fn expanding_tensor() -> Vec<u8> {
    let shape = shape(1 << 18, 1 << 18);
    model(
        &[
            node("Expand", &["x", "shape"], "big"),
            node("ReduceSum", &["big"], "y"),
        ],
        &[shape],
    )
}

/// An initializer named `shape` that holds these two sizes.
fn shape(rows: u64, columns: u64) -> Message {
    let data: Vec<u8> = [rows, columns].map(u64::to_le_bytes).concat();
    Message::default()
        .int(1, 2)
        .int(2, 7)
        .bytes(8, "shape")
        .bytes(9, data)
}

/// A constant that the graph makes of its shape alone, of `rows` times `columns` elements.
pub(crate) fn constant_of_shape(rows: u64, columns: u64) -> Vec<u8> {
    let shape = shape(rows, columns);
    model(
        &[
            node("ConstantOfShape", &["shape"], "big"),
            node("ReduceSum", &["big"], "sum"),
            node("Mul", &["x", "sum"], "y"),
        ],
        &[shape],
    )
}

/// An initializer whose data lie in a file outside the bundle.
pub(crate) fn external_data(path: &str) -> Vec<u8> {
    let entry = Message::default().bytes(1, "location").bytes(2, path);
    let outside = Message::default()
        .int(1, 1)
        .int(1, 1)
        .int(2, FLOAT)
        .bytes(8, "w")
        .nested(13, &entry)
        .int(14, 1);
    model(&[node("Mul", &["x", "w"], "y")], &[outside])
}

/// Graphs inside attributes of nodes inside graphs, `depth` levels deep.
pub(crate) fn deep_nesting(depth: usize) -> Vec<u8> {
    // Built from the inside; each level adds a node with one attribute of type GRAPH (5).
    let mut graph = Message::default().bytes(2, "g");
    for _ in 0..depth {
        let attribute = Message::default()
            .bytes(1, "body")
            .nested(6, &graph)
            .int(20, 5);
        let node = node("If", &["x"], "y").nested(5, &attribute);
        graph = Message::default().nested(1, &node).bytes(2, "g");
    }
    let opset = Message::default().bytes(1, "").int(2, 13);
    let model = Message::default().int(1, 8).nested(8, &opset);
    model.nested(7, &graph).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_stay_tiny() {
        assert!(times(2.0).len() < 300);
        assert!(deep_nesting(2_000).len() < 128 * 1024);
    }
}
