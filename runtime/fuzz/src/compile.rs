//! Models as whoever builds bundles gives them to the compiler, and its own integer models.
//!
//! Bytes that are ONNX or nearly, and graphs of drawn nodes, which no exporter would write. The
//! compiler answers with an error or a model, in bounds, and what it wrote it reads.

use arbitrary::Unstructured;
use drover_bundle::compile::graph::{Attribute, Node, ValueId};
use drover_bundle::compile::{
    Array, Data, ElementType, Graph, IntegerModel, Numerics, compile, export, import,
};

use crate::bound::{POSTCARD, bounded, linear};
use crate::parser::{self, Parser, noise};

/// The compiler and the reader of integer models.
///
/// What is computed while a model is compiled may take sixteen times a million floats beyond
/// twice its own constants, and each node of some sixteen bytes several names and lists.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "compile ONNX",
        bound: linear(4096, 64 << 20),
        limit: 64 * 1024,
        read: read_model,
        seeds: || graphs().iter().map(export).collect(),
    },
    Parser {
        name: "compile IntegerModel",
        bound: POSTCARD,
        limit: 1 << 20,
        read: read_integers,
        seeds: || graphs().iter().filter_map(integers).collect(),
    },
];

/// The first bit chooses between raw bytes and drawn graphs.
pub fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((choice, rest)) if choice & 1 == 0 => parser::dispatch(PARSERS, rest),
        Some((_, rest)) => {
            let graph = drawn(&mut Unstructured::new(rest));
            PARSERS[0].run(&export(&graph));
        }
        None => {}
    }
}

/// Seeds of [`run`].
pub fn seeds() -> Vec<Vec<u8>> {
    let raw = parser::seeds(PARSERS).into_iter();
    let mut seeds: Vec<_> = raw.map(|seed| [&[0], &seed[..]].concat()).collect();
    seeds.extend((1..60).map(|n| [&[1], &noise(n, 400)[..]].concat()));
    seeds
}

fn read_model(parser: &Parser, bytes: &[u8]) -> bool {
    if bytes.len() > parser.limit {
        return false;
    }
    let Ok(graph) = bounded(parser, bytes.len(), || import(bytes)) else {
        return false;
    };
    let again = import(&export(&graph)).expect("what was written can be read");
    assert_eq!(again.to_string(), graph.to_string(), "changes when written");
    drop((graph, again));
    let mut is_compiled = false;
    for numerics in [Numerics::Exact, Numerics::Float] {
        match bounded(parser, bytes.len(), || compile(bytes, numerics)) {
            Ok(compiled) => {
                import(&compiled.model).expect("what the compiler writes can be read");
                is_compiled = true;
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    is_compiled
}

fn read_integers(parser: &Parser, bytes: &[u8]) -> bool {
    if bytes.len() > parser.limit {
        return false;
    }
    let decode = |bytes: &[u8]| IntegerModel::decode(bytes).ok();
    let Some(model) = parser.round_trip(bytes, decode, |model| model.encode().ok()) else {
        return false;
    };
    let elements = model.tensors().iter().map(|t| t.len());
    let elements = elements.fold(0, usize::saturating_add);
    if elements <= 1 << 16 && model.macs() <= 1 << 20 {
        let len = model.input().len();
        let data = match (model.float_input(), model.input().element.range()[0]) {
            (true, _) => Data::F32(vec![0.5; len]),
            (false, 0) => Data::U8(vec![7; len]),
            (false, _) => Data::I8(vec![-7; len]),
        };
        let input = Array::new(model.input().shape.clone(), data).expect("as many as it says");
        model.run(&input).expect("what was checked runs");
    }
    true
}

fn integers(graph: &Graph) -> Option<Vec<u8>> {
    let compiled = compile(&export(graph), Numerics::Exact).ok()?;
    compiled.integer.ok()?.encode().ok()
}

/// A graph in the making, whose values are named as they come.
struct Draft {
    graph: Graph,
}

impl Draft {
    fn new(opset: i64) -> Self {
        let mut graph = Graph::default();
        graph.opset = opset;
        graph.domains.insert("com.microsoft".to_owned(), 1);
        Self { graph }
    }

    fn input(&mut self, element: ElementType, shape: &[usize]) -> ValueId {
        let id = self.graph.add_value("x");
        let value = self.graph.value_mut(id);
        value.element = Some(element);
        value.shape = Some(shape.iter().map(|&n| (n > 0).then_some(n)).collect());
        self.graph.inputs.push(id);
        id
    }

    fn constant(&mut self, shape: &[usize], data: Data) -> ValueId {
        let row = Array::new(vec![data.len()], data.clone());
        let array = Array::new(shape.to_vec(), data)
            .or(row)
            .expect("a row fits");
        self.graph.add_constant("c", array)
    }

    fn scalar(&mut self, value: f32) -> ValueId {
        self.constant(&[], Data::F32(vec![value]))
    }

    fn node(&mut self, op: &str, inputs: &[ValueId], attributes: &[(&str, Attribute)]) -> ValueId {
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        let output = self.graph.add_value("v");
        let mut node = Node::new("", op, inputs, output);
        node.domain = domain.to_owned();
        for (name, attribute) in attributes {
            node = node.with(name, attribute.clone());
        }
        self.graph.nodes.push(node);
        output
    }

    /// The integers of `x`, and the floats that they stand for.
    fn quantised(&mut self, x: ValueId, scale: f32, zero: i8) -> ValueId {
        let parameters = [self.scalar(scale), self.constant(&[], Data::I8(vec![zero]))];
        let [scale, zero] = parameters;
        let q = self.node("QuantizeLinear", &[x, scale, zero], &[]);
        self.node("DequantizeLinear", &[q, scale, zero], &[])
    }

    /// Weights as 8-bit integers, under one scale.
    fn weights(&mut self, shape: &[usize]) -> ValueId {
        let elements = shape.iter().fold(1, |n: usize, &d| n.saturating_mul(d));
        let elements = elements.min(4096);
        let weights = noise(elements as u64, elements).into_iter();
        let weights = Data::I8(weights.map(u8::cast_signed).collect());
        let q = self.constant(shape, weights);
        let scale = self.scalar(0.01);
        let zero = self.constant(&[], Data::I8(vec![0]));
        self.node("DequantizeLinear", &[q, scale, zero], &[])
    }

    fn finish(mut self, output: ValueId) -> Graph {
        self.graph.outputs.push(output);
        self.graph
    }
}

/// Small models of each quantised form.
fn graphs() -> Vec<Graph> {
    let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
    let mut dense = Draft::new(13);
    let x = dense.input(ElementType::F32, &[1, 8]);
    let q = dense.quantised(x, 0.1, 3);
    let w = dense.weights(&[8, 4]);
    let y = dense.node("MatMul", &[q, w], &[]);
    let y = dense.node("Relu", &[y], &[]);
    let y = dense.quantised(y, 0.2, -128);
    let y = dense.node("Softmax", &[y], &[("axis", Attribute::Int(-1))]);
    let y = dense.quantised(y, 1.0 / 256.0, -128);

    let mut images = Draft::new(15);
    let x = images.input(ElementType::F32, &[0, 2, 6, 6]);
    let q = images.quantised(x, 0.05, 0);
    let w = images.weights(&[4, 2, 3, 3]);
    let c = images.node("Conv", &[q, w], &[("pads", ints(&[1, 1, 1, 1]))]);
    let c = images.quantised(c, 0.1, -10);
    let p = images.node("MaxPool", &[c], &[("kernel_shape", ints(&[2, 2]))]);
    let g = images.node("GlobalAveragePool", &[p], &[]);
    let g = images.quantised(g, 0.1, -10);
    let g = images.node("Flatten", &[g], &[]);

    let mut operators = Draft::new(11);
    let x = operators.input(ElementType::U8, &[1, 4]);
    let w = operators.constant(&[4, 2], Data::U8(noise(9, 8)));
    let s = operators.scalar(0.5);
    let z = operators.constant(&[], Data::U8(vec![7]));
    let y2 = operators.node("QLinearMatMul", &[x, s, z, w, s, z, s, z], &[]);
    let sum = operators.node("com.microsoft.QLinearAdd", &[y2, s, z, y2, s, z, s, z], &[]);

    let mut dynamic = Draft::new(13);
    let x = dynamic.input(ElementType::F32, &[1, 4]);
    let scale = dynamic.scalar(0.5);
    let zero = dynamic.constant(&[], Data::U8(vec![7]));
    let q = dynamic.node("QuantizeLinear", &[x, scale, zero], &[]);
    let w = dynamic.constant(&[4, 2], Data::I8(vec![1; 8]));
    let product = dynamic.node("MatMulInteger", &[q, w, zero], &[]);
    let real = dynamic.node("Cast", &[product], &[("to", Attribute::Int(1))]);
    vec![
        dense.finish(y),
        images.finish(g),
        operators.finish(sum),
        dynamic.finish(real),
    ]
}

/// Operators that the compiler knows something of.
const OPERATORS: [&str; 72] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "Where",
    "Equal",
    "Relu",
    "LeakyRelu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Softmax",
    "Erf",
    "Sqrt",
    "Abs",
    "Neg",
    "Round",
    "Identity",
    "Dropout",
    "Cast",
    "Shape",
    "Size",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "Expand",
    "Tile",
    "Pad",
    "Range",
    "ConstantOfShape",
    "OneHot",
    "DepthToSpace",
    "SpaceToDepth",
    "Resize",
    "Upsample",
    "CumSum",
    "TopK",
    "ArgMax",
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "BatchNormalization",
    "LRN",
    "Einsum",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "com.microsoft.QGemm",
    "com.microsoft.QLinearAdd",
    "com.microsoft.QLinearConcat",
];
const ATTRIBUTES: [&str; 22] = [
    "axis",
    "axes",
    "perm",
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "group",
    "transA",
    "transB",
    "keepdims",
    "to",
    "split",
    "starts",
    "ends",
    "output_shape",
    "output_padding",
    "blocksize",
    "ceil_mode",
    "count_include_pad",
    "allowzero",
    "num_outputs",
];
const TEXTS: [(&str, &str); 5] = [
    ("auto_pad", "SAME_UPPER"),
    ("auto_pad", "SAME_LOWER"),
    ("auto_pad", "VALID"),
    ("mode", "linear"),
    ("mode", "reflect"),
];

/// A graph of drawn nodes: some as exporters write them, some of any operator on anything.
fn drawn(u: &mut Unstructured<'_>) -> Graph {
    let opset = u.int_in_range(7..=21).unwrap_or(13);
    let mut draft = Draft::new(opset);
    let shape = sizes(u);
    let element = match u.int_in_range(0..=4).unwrap_or(0) {
        0 => ElementType::I8,
        1 => ElementType::U8,
        _ => ElementType::F32,
    };
    let mut values = vec![draft.input(element, &shape)];
    for _ in 0..u.int_in_range(1..=8).unwrap_or(1) {
        let last = *values.last().unwrap_or(&values[0]);
        let made = match u.int_in_range(0..=9).unwrap_or(0) {
            0 => {
                let scale = u.arbitrary().unwrap_or(0.1);
                draft.quantised(last, scale, u.arbitrary().unwrap_or(0))
            }
            1 => draft.weights(&sizes(u)),
            2 | 3 => {
                let (shape, data) = (sizes(u), data(u));
                draft.constant(&shape, data)
            }
            _ => any_node(u, &mut draft, &values),
        };
        values.push(made);
    }
    let output = *values.last().unwrap_or(&values[0]);
    draft.finish(output)
}

fn any_node(u: &mut Unstructured<'_>, draft: &mut Draft, values: &[ValueId]) -> ValueId {
    let op = u.choose(&OPERATORS).copied().unwrap_or("Relu");
    let most = if op.contains("QLinear") || op.contains("QGemm") {
        9
    } else {
        4
    };
    let mut inputs = Vec::new();
    for place in 0..u.int_in_range(1..=most).unwrap_or(1) {
        let input = match u.int_in_range(0..=3).unwrap_or(0) {
            0 if place > 0 => {
                let (shape, data) = (sizes(u), data(u));
                draft.constant(&shape, data)
            }
            1 => *u.choose(values).unwrap_or(&values[0]),
            _ => *values.last().unwrap_or(&values[0]),
        };
        inputs.push(input);
    }
    let mut attributes = Vec::new();
    for _ in 0..u.int_in_range(0..=3).unwrap_or(0) {
        let attribute = match u.int_in_range(0..=7).unwrap_or(0) {
            0 => {
                let (name, text) = u.choose(&TEXTS).copied().unwrap_or(TEXTS[0]);
                (name, Attribute::String(text.to_owned()))
            }
            1 | 2 => {
                let name = u.choose(&ATTRIBUTES).copied().unwrap_or("pads");
                let sizes = (0..u.int_in_range(0..=4).unwrap_or(2)).map(|_| number(u));
                (name, Attribute::Ints(sizes.collect()))
            }
            3 => ("alpha", Attribute::Float(u.arbitrary().unwrap_or(0.1))),
            _ => {
                let name = u.choose(&ATTRIBUTES).copied().unwrap_or("axis");
                (name, Attribute::Int(number(u)))
            }
        };
        attributes.push(attribute);
    }
    draft.node(op, &inputs, &attributes)
}

/// Small, mostly; now and then anything.
fn number(u: &mut Unstructured<'_>) -> i64 {
    match u.int_in_range(0..=15).unwrap_or(1) {
        0 => u.arbitrary().unwrap_or(0),
        1 => -1,
        2 => -2,
        n => n - 3,
    }
}

fn sizes(u: &mut Unstructured<'_>) -> Vec<usize> {
    let rank = u.int_in_range(0..=5).unwrap_or(2);
    let mut size = || match u.int_in_range(0..=40).unwrap_or(1) {
        0 => u.arbitrary::<u32>().unwrap_or(1) as usize,
        n => n % 5,
    };
    (0..rank).map(|_| size()).collect()
}

/// Elements of a constant, which is a row where they do not fill its shape.
fn data(u: &mut Unstructured<'_>) -> Data {
    let len = u.int_in_range(0..=16).unwrap_or(1);
    match u.int_in_range(0..=5).unwrap_or(0) {
        0 => Data::I64((0..len).map(|_| number(u)).collect()),
        1 => Data::I8((0..len).map(|_| u.arbitrary().unwrap_or(1)).collect()),
        2 => Data::U8((0..len).map(|_| u.arbitrary().unwrap_or(1)).collect()),
        3 => Data::I32((0..len).map(|_| u.arbitrary().unwrap_or(1)).collect()),
        4 => Data::F32((0..len).map(|_| u.arbitrary().unwrap_or(0.5)).collect()),
        _ => Data::F32((0..len).map(|n| n as f32 * 0.25).collect()),
    }
}
