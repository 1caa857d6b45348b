//! Models as a device loads them: bytes that are ONNX, nearly ONNX, or a graph of drawn nodes.
//!
//! tract panics on some of them; the engine catches that, and so nothing here sees it. What
//! counts is that the process lives and stays within its bounds.

use arbitrary::Unstructured;
use drover_bundle::Tensor;
use drover_fuzz::bound::{bounded, linear};
use drover_fuzz::parser::{self, Parser, noise};
use drover_runtime::{Engine as _, LoadOptions, Model, TractEngine};

/// Small enough that loading a model cannot take long.
const OPTIONS: LoadOptions = LoadOptions {
    max_model_bytes: 64 * 1024,
    max_tensor_bytes: 1 << 20,
};

/// The loader. Single values are bounded and their sum is not: a node takes some sixteen bytes
/// and may stand for several values of the largest size.
pub const PARSERS: &[Parser] = &[Parser {
    name: "engine ONNX",
    bound: linear(256 * 1024, 64 << 20),
    limit: 64 * 1024,
    read: |parser, bytes| {
        let model = bounded(parser, bytes.len(), || TractEngine.load(bytes, &OPTIONS));
        model.is_ok_and(|mut model| {
            run_once(model.as_mut());
            true
        })
    },
    seeds: graphs,
}];

/// A model that loaded runs on zeros, or says why not, and runs again.
fn run_once(model: &mut dyn Model) {
    let spec = model.input().clone();
    let shape: Vec<usize> = spec.shape.iter().map(|&axis| axis as usize).collect();
    let elements = shape
        .iter()
        .try_fold(spec.dtype.size(), |n, &d| n.checked_mul(d));
    let Some(len) = elements.filter(|len| *len <= 1 << 20) else {
        return;
    };
    let input = Tensor::from_bytes(spec.dtype, shape, vec![0; len]).expect("as long as it says");
    let first = model.run(&input).map(|output| output.bytes().to_vec());
    let second = model.run(&input).map(|output| output.bytes().to_vec());
    assert_eq!(
        first.is_ok(),
        second.is_ok(),
        "a model changes by being run"
    );
}

/// A panic hook that does not end the process: what the engine catches is no finding.
pub fn start() {
    std::panic::set_hook(Box::new(|_| ()));
    drover_fuzz::start::seeds(seeds);
}

/// The first bit chooses between raw bytes and drawn graphs. What escapes the engine is
/// printed and ends the process.
pub fn run(bytes: &[u8]) {
    let result = std::panic::catch_unwind(|| match bytes.split_first() {
        Some((choice, rest)) if choice & 1 == 0 => {
            parser::dispatch(PARSERS, &[&[0], rest].concat());
        }
        Some((_, rest)) => {
            let graph = drawn(&mut Unstructured::new(rest));
            PARSERS[0].run(&graph);
        }
        None => {}
    });
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        eprintln!("panicked at the target: {}", text.unwrap_or_default());
        std::process::abort();
    }
}

/// Seeds of [`run`].
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = parser::seeds(PARSERS);
    seeds.extend((1..40).map(|n| [&[1], &noise(n, 300)[..]].concat()));
    seeds
}

/// Operators that quantised models of sensors are made of, with one or two inputs.
const OPERATORS: [&str; 24] = [
    "Relu",
    "Sigmoid",
    "Tanh",
    "Softmax",
    "Flatten",
    "Identity",
    "Transpose",
    "Squeeze",
    "Add",
    "Mul",
    "Sub",
    "Div",
    "MatMul",
    "Gemm",
    "Reshape",
    "Concat",
    "Conv",
    "MaxPool",
    "AveragePool",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Gather",
    "Pad",
];
const ATTRIBUTES: [&str; 10] = [
    "axis",
    "perm",
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "group",
    "transB",
    "keepdims",
    "axes",
];

fn graphs() -> Vec<Vec<u8>> {
    let relu = Graph::default()
        .node("Relu", &["x"], "y", &[])
        .model(&[1, 4], &[]);
    let dense = Graph::default()
        .node("MatMul", &["x", "w"], "h", &[])
        .node("Softmax", &["h"], "y", &[("axis", &[1])])
        .model(&[1, 4], &[("w", &[4, 2])]);
    let reshape = Graph::default()
        .node("Flatten", &["x"], "h", &[("axis", &[1])])
        .node("Add", &["h", "w"], "y", &[])
        .model(&[1, 2, 2], &[("w", &[1, 4])]);
    // Found by this target: tract reserved room for that many axes, and the process ended.
    let far = Graph::default()
        .node("Softmax", &["x"], "y", &[("axis", &[1 << 50])])
        .model(&[1, 4], &[]);
    // Found by this target: tract followed the second axis without end, in all memory.
    let astray = Graph::default()
        .node("Transpose", &["x"], "y", &[("perm", &[0, 0, 0])])
        .model(&[1, 2, 3], &[]);
    vec![relu, dense, reshape, far, astray]
}

/// A chain of drawn operators with drawn attributes and constants.
fn drawn(u: &mut Unstructured<'_>) -> Vec<u8> {
    let size = |u: &mut Unstructured<'_>| -> i64 {
        match u.int_in_range(0..=9).unwrap_or(1) {
            0 => u.arbitrary().unwrap_or(0),
            n => n,
        }
    };
    let shape = |u: &mut Unstructured<'_>| -> Vec<i64> {
        let rank = u.int_in_range(0..=4).unwrap_or(2);
        (0..rank).map(|_| size(u)).collect()
    };
    let input = shape(u);
    let constant = shape(u);
    let mut graph = Graph::default();
    let mut last = "x".to_owned();
    let nodes = u.int_in_range(1..=5).unwrap_or(1);
    for node in 0..nodes {
        let operator = u.choose(&OPERATORS).copied().unwrap_or("Relu");
        let output = if node + 1 == nodes {
            "y".to_owned()
        } else {
            format!("h{node}")
        };
        let mut inputs = vec![last.as_str()];
        if u.arbitrary().unwrap_or(false) {
            inputs.push("w");
        }
        let mut attributes: Vec<(&str, Vec<i64>)> = Vec::new();
        for _ in 0..u.int_in_range(0..=3).unwrap_or(0) {
            let name = u.choose(&ATTRIBUTES).copied().unwrap_or("axis");
            attributes.push((name, shape(u)));
        }
        let borrowed: Vec<(&str, &[i64])> = attributes
            .iter()
            .map(|(name, ints)| (*name, &ints[..]))
            .collect();
        graph = graph.node(operator, &inputs, &output, &borrowed);
        last = output;
    }
    graph.model(&input, &[("w", &constant)])
}

/// Nodes of an ONNX graph, as protobuf.
#[derive(Default)]
struct Graph(Vec<u8>);

impl Graph {
    fn node(
        mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, &[i64])],
    ) -> Self {
        let mut node = Vec::new();
        inputs
            .iter()
            .for_each(|input| bytes(&mut node, 1, input.as_bytes()));
        bytes(&mut node, 2, output.as_bytes());
        bytes(&mut node, 4, operator.as_bytes());
        for (name, ints) in attributes {
            let mut attribute = Vec::new();
            bytes(&mut attribute, 1, name.as_bytes());
            match ints {
                [one] => {
                    number(&mut attribute, 3, *one);
                    number(&mut attribute, 20, 2);
                }
                many => {
                    many.iter().for_each(|int| number(&mut attribute, 8, *int));
                    number(&mut attribute, 20, 7);
                }
            }
            bytes(&mut node, 5, &attribute);
        }
        bytes(&mut self.0, 1, &node);
        self
    }

    /// A model with input `x` of this shape, output `y`, and constants of ones.
    fn model(mut self, input: &[i64], constants: &[(&str, &[i64])]) -> Vec<u8> {
        bytes(&mut self.0, 2, b"g");
        for (name, shape) in constants {
            let mut tensor = Vec::new();
            shape.iter().for_each(|axis| number(&mut tensor, 1, *axis));
            number(&mut tensor, 2, 1);
            bytes(&mut tensor, 8, name.as_bytes());
            let elements = shape.iter().try_fold(1i64, |n, &d| n.checked_mul(d));
            // A shape that claims more than there is must be refused, not believed.
            let elements = elements.unwrap_or(1).clamp(0, 4096);
            let data = 1f32.to_le_bytes().repeat(elements as usize);
            bytes(&mut tensor, 9, &data);
            bytes(&mut self.0, 5, &tensor);
        }
        value(&mut self.0, 11, "x", Some(input));
        value(&mut self.0, 12, "y", None);
        let mut model = Vec::new();
        number(&mut model, 1, 8);
        bytes(&mut model, 7, &self.0);
        let mut opset = Vec::new();
        number(&mut opset, 2, 13);
        bytes(&mut model, 8, &opset);
        model
    }
}

fn value(graph: &mut Vec<u8>, field: u64, name: &str, shape: Option<&[i64]>) {
    let mut tensor = Vec::new();
    number(&mut tensor, 1, 1);
    if let Some(shape) = shape {
        let mut dims = Vec::new();
        for axis in shape {
            let mut dim = Vec::new();
            number(&mut dim, 1, *axis);
            bytes(&mut dims, 1, &dim);
        }
        bytes(&mut tensor, 2, &dims);
    }
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    bytes(&mut info, 1, name.as_bytes());
    bytes(&mut info, 2, &kind);
    bytes(graph, field, &info);
}

/// A length-delimited field of protobuf.
fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, (field << 3) | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// An integer field of protobuf.
fn number(out: &mut Vec<u8>, field: u64, value: i64) {
    varint(out, field << 3);
    varint(out, value.cast_unsigned());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
