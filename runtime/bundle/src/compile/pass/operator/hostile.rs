//! Quantised operators applied to what makes no sense: nothing may panic.
//!
//! Constants of random types and shapes, parameters in wrong numbers, inputs left out,
//! attributes without bounds, for the pass and for the reference.

use crate::compile::array::{Array, Data};
use crate::compile::draft::Draft;
use crate::compile::eval;
use crate::compile::graph::Attribute;

const OPERATORS: [&str; 22] = [
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "com.microsoft.QGemm",
    "com.microsoft.MatMulIntegerToFloat",
    "com.microsoft.DynamicQuantizeMatMul",
    "com.microsoft.QuantizeLinear",
    "com.microsoft.QLinearConv",
    "com.microsoft.QLinearAdd",
    "com.microsoft.QLinearMul",
    "com.microsoft.QLinearSigmoid",
    "com.microsoft.QLinearLeakyRelu",
    "com.microsoft.QLinearConcat",
    "com.microsoft.QLinearWhere",
    "com.microsoft.QLinearSoftmax",
    "com.microsoft.QLinearAveragePool",
    "com.microsoft.QLinearGlobalAveragePool",
    "com.microsoft.QLinearReduceMean",
];

const NUMBERS: [i64; 8] = [0, 1, 2, -1, 3, i64::MAX, i64::MIN, 1 << 33];

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn array(&mut self) -> Array {
        // Often what makes sense, so that much else is reached.
        match self.below(8) {
            0..=2 => return Array::scalar(0.5),
            3 => return Array::new(Vec::new(), Data::U8(vec![3])).unwrap(),
            4 => return Array::new(vec![1, 2, 3, 3], Data::U8(vec![9; 18])).unwrap(),
            5 => return Array::new(vec![2, 2], Data::I8(vec![-7; 4])).unwrap(),
            _ => {}
        }
        let shape: Vec<usize> = match self.below(3) {
            0 => Vec::new(),
            1 => vec![self.below(4)],
            _ => (0..self.below(5)).map(|_| self.below(4)).collect(),
        };
        let count = shape.iter().product();
        let mut byte = || self.below(256) as u8;
        let data = match byte() % 8 {
            0 | 1 => Data::U8((0..count).map(|_| byte()).collect()),
            2 => Data::I8((0..count).map(|_| byte() as i8).collect()),
            3 => Data::I32((0..count).map(|_| i32::MIN + i32::from(byte())).collect()),
            4 => Data::Bool((0..count).map(|_| byte() > 99).collect()),
            5 => Data::F32((0..count).map(|_| f32::from(byte()) - 3.0).collect()),
            6 => Data::F32(vec![f32::INFINITY; count]),
            _ => Data::F32(vec![0.5; count]),
        };
        Array::new(shape, data).unwrap()
    }

    fn attributes(&mut self) -> Vec<(&'static str, Attribute)> {
        const SINGLE: [&str; 7] = [
            "axis",
            "block_size",
            "group",
            "channels_last",
            "opset",
            "ceil_mode",
            "transB",
        ];
        const LISTS: [&str; 5] = ["pads", "strides", "dilations", "kernel_shape", "axes"];
        let mut attributes = Vec::new();
        for name in SINGLE {
            if self.below(3) == 0 {
                let value = NUMBERS[self.below(NUMBERS.len())];
                attributes.push((name, Attribute::Int(value)));
            }
        }
        for name in LISTS {
            if self.below(2) == 0 {
                let count = self.below(5);
                let values = (0..count).map(|_| NUMBERS[self.below(NUMBERS.len())]);
                attributes.push((name, Attribute::Ints(values.collect())));
            }
        }
        attributes
    }
}

#[test]
fn nothing_panics() {
    const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let mut random = Random(11);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..20_000 {
        let op = OPERATORS[round % OPERATORS.len()];
        let mut draft = Draft::new(if random.below(2) == 0 { 13 } else { 21 });
        let mut inputs = Vec::new();
        for name in NAMES.iter().take(random.below(NAMES.len() + 1)) {
            if random.below(9) == 0 {
                inputs.push("");
            } else {
                draft = draft.constant(name, random.array());
                inputs.push(name);
            }
        }
        let attributes = random.attributes();
        let graph = draft
            .node_with(op, &inputs, &["y"], &attributes)
            .output("y")
            .graph();
        let mut after = graph.clone();
        match super::run(&mut after) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
        for graph in [&graph, &after] {
            match eval::run(graph, &[]) {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} of {refused}");
}
