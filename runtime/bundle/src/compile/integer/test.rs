//! Small quantised graphs: their integer forms beside the reference, stored and damaged.

use super::super::array::{Array, Data, ElementType};
use super::super::draft::Draft;
use super::super::eval;
use super::super::graph::{Attribute, Graph};
use super::{Element, IntegerError, IntegerModel, Operator, Weights, build};

/// `from` through a quantiser to `to`.
fn quantised(draft: Draft, from: &str, to: &str, scale: f32, zero: u8) -> Draft {
    let [s, z, q] = ["s", "z", "q"].map(|kind| format!("{to}_{kind}"));
    draft
        .f32(&s, &[], &[scale])
        .u8(&z, &[], &[zero])
        .node("QuantizeLinear", &[from, &s, &z], &[&q])
        .node("DequantizeLinear", &[&q, &s, &z], &[to])
}

/// A float input of this shape, quantised as `x`.
fn started(shape: &[usize]) -> Draft {
    let draft = Draft::new(13).input("in", ElementType::F32, shape);
    quantised(draft, "in", "x", 0.05, 100)
}

/// `from` quantised, as the output.
fn ended(draft: Draft, from: &str, scale: f32, zero: u8) -> Graph {
    quantised(draft, from, "out", scale, zero)
        .output("out")
        .graph()
}

/// Values over and beyond the range of `x`, always the same.
fn sample(shape: &[usize]) -> Array {
    let count: usize = shape.iter().product();
    let value = |n: usize| ((n * 7919 + 13) % 311) as f32 / 20.0 - 6.5;
    let values = (0..count).map(value).collect();
    Array::new(shape.to_vec(), Data::F32(values)).unwrap()
}

/// Builds the integer form and compares it with the reference: equal to within one step, and
/// equal altogether nearly everywhere. Passes it through its stored form on the way.
fn agrees(graph: &Graph) -> IntegerModel {
    let model = build(graph).unwrap();
    let model = IntegerModel::decode(&model.encode().unwrap()).unwrap();
    let input = sample(&model.input().shape);
    let wanted = eval::run(graph, std::slice::from_ref(&input)).unwrap();
    let got = model.run(&input).unwrap();
    assert_eq!(got.shape(), wanted[0].shape(), "{model}");
    let scale = match model.output().element {
        Element::F32 => 1e-4,
        _ => f64::from(model.output().scale),
    };
    let (got, wanted) = (got.to_f64().unwrap(), wanted[0].to_f64().unwrap());
    let off: Vec<f64> = got
        .iter()
        .zip(&wanted)
        .map(|(a, b)| (a - b).abs() / scale)
        .collect();
    let exact = off.iter().filter(|&&d| d < 1e-3).count();
    assert!(
        off.iter().all(|&d| d < 1.001),
        "{model}\n{got:?}\n{wanted:?}"
    );
    assert!(exact * 10 >= off.len() * 9, "{model}\n{got:?}\n{wanted:?}");
    let different = wanted.iter().any(|w| (w - wanted[0]).abs() > scale);
    assert!(
        different || wanted.len() == 1,
        "the comparison says nothing: {wanted:?}"
    );
    model
}

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

/// Two channels of 3x3 weights over two, with scales of their own and a bias.
fn convolved(draft: Draft, attributes: &[(&str, Attribute)]) -> Draft {
    let weights: Vec<i8> = (0..36).map(|n| ((n * 53) % 255 - 127) as i8).collect();
    draft
        .i8("w", &[2, 2, 3, 3], &weights)
        .f32("ws", &[2], &[0.01, 0.002])
        .i8("wz", &[2], &[0, 0])
        .node_with(
            "DequantizeLinear",
            &["w", "ws", "wz"],
            &["wf"],
            &[("axis", Attribute::Int(0))],
        )
        .f32("b", &[2], &[0.5, -0.25])
        .node_with("Conv", &["x", "wf", "b"], &["c"], attributes)
}

#[test]
fn convolutions_stride_pad_and_dilate() {
    let cases: [&[(&str, Attribute)]; 4] = [
        &[],
        &[("strides", ints(&[2, 1])), ("pads", ints(&[1, 0, 0, 2]))],
        &[("dilations", ints(&[2, 1])), ("pads", ints(&[2, 2, 2, 2]))],
        &[
            ("strides", ints(&[2, 2])),
            ("auto_pad", Attribute::String("SAME_UPPER".into())),
        ],
    ];
    for attributes in cases {
        let draft = convolved(started(&[1, 2, 7, 6]), attributes).node("Relu", &["c"], &["r"]);
        let model = agrees(&ended(draft, "r", 0.1, 3));
        assert_eq!(model.layers().len(), 1);
        assert_eq!(model.layers()[0].clamp, [3, 255]);
    }
}

#[test]
fn groups_rows_and_unsigned_weights() {
    let weights: Vec<u8> = (0..12).map(|n| (n * 23) as u8).collect();
    let draft = started(&[1, 4, 9])
        .u8("w", &[4, 1, 3], &weights)
        .f32("ws", &[], &[0.01])
        .u8("wz", &[], &[90])
        .node("DequantizeLinear", &["w", "ws", "wz"], &["wf"])
        .node_with(
            "Conv",
            &["x", "wf"],
            &["c"],
            &[("group", Attribute::Int(4)), ("pads", ints(&[1, 1]))],
        )
        .f32("lo", &[], &[-1.0])
        .f32("hi", &[], &[2.0])
        .node("Clip", &["c", "lo", "hi"], &["k"]);
    let model = agrees(&ended(draft, "k", 0.02, 60));
    assert_eq!(model.layers()[0].clamp, [10, 160]);
    let Operator::Conv { linear, .. } = &model.layers()[0].operator else {
        unreachable!("a Conv becomes one");
    };
    assert!(matches!(
        linear.weights,
        Weights::Unsigned { zero_point: 90, .. }
    ));
}

#[test]
fn dense_layers_take_their_bias_from_an_addition() {
    let weights: Vec<i8> = (0..12).map(|n| n * 9 - 50).collect();
    let draft = started(&[1, 4])
        .i8("w", &[4, 3], &weights)
        .f32("ws", &[3], &[0.02, 0.01, 0.005])
        .node_with(
            "DequantizeLinear",
            &["w", "ws"],
            &["wf"],
            &[("axis", Attribute::Int(1))],
        )
        .node("MatMul", &["x", "wf"], &["m"])
        .f32("b", &[3], &[1.0, -2.0, 0.125])
        .node("Add", &["m", "b"], &["a"]);
    let model = agrees(&ended(draft, "a", 0.05, 128));
    assert_eq!(model.operators()["Dense"], 1);
    assert_eq!(
        (model.macs(), model.weight_bytes(), model.arena_bytes()),
        (12, 36, 7)
    );
}

#[test]
fn what_joins_two_branches() {
    for op in ["Add", "Sub", "Mul"] {
        let attributes = [("pads", ints(&[1, 1, 1, 1]))];
        let draft = convolved(started(&[1, 2, 4, 4]), &attributes);
        let draft = quantised(draft, "c", "y", 0.1, 90).node(op, &["x", "y"], &["j"]);
        agrees(&ended(draft, "j", 0.2, 120));
    }
    let draft = convolved(started(&[1, 2, 4, 4]), &[("pads", ints(&[1, 1, 1, 1]))]);
    let draft = quantised(draft, "c", "y", 0.1, 90);
    let draft = draft.node_with(
        "Concat",
        &["x", "y"],
        &["j"],
        &[("axis", Attribute::Int(1))],
    );
    let model = agrees(&ended(draft, "j", 0.08, 110));
    assert_eq!(model.output().shape, [1, 4, 4, 4]);
}

#[test]
fn pools_and_means() {
    let window = [
        ("kernel_shape", ints(&[3, 2])),
        ("strides", ints(&[2, 2])),
        ("pads", ints(&[1, 1, 0, 0])),
    ];
    for op in ["AveragePool", "MaxPool"] {
        for ceil in 0..2 {
            let mut window = window.to_vec();
            window.push(("ceil_mode", Attribute::Int(ceil)));
            let draft = started(&[1, 2, 6, 5]).node_with(op, &["x"], &["p"], &window);
            agrees(&ended(draft, "p", 0.05, 100));
        }
    }
    let draft = started(&[1, 3, 4, 4]).node("GlobalAveragePool", &["x"], &["p"]);
    agrees(&ended(draft, "p", 0.01, 100));
    let axes = [("axes", ints(&[1, 2])), ("keepdims", Attribute::Int(0))];
    let draft = started(&[1, 4, 4, 3]).node_with("ReduceMean", &["x"], &["p"], &axes);
    let model = agrees(&ended(draft, "p", 0.01, 100));
    assert_eq!(model.output().shape, [1, 3]);
}

#[test]
fn functions_of_one_tensor_become_one_table() {
    let draft = started(&[1, 40])
        .node("Sigmoid", &["x"], &["s"])
        .node("Mul", &["x", "s"], &["m"]);
    let model = agrees(&ended(draft, "m", 0.03, 10));
    assert_eq!(model.operators(), [("Table", 1)].into());
    // Not quantised behind: real values from a table.
    let graph = started(&[1, 40])
        .node("Tanh", &["x"], &["out"])
        .output("out")
        .graph();
    let model = agrees(&graph);
    assert_eq!(model.operators(), [("Values", 1)].into());
    let graph = started(&[2, 5]).node("Softmax", &["x"], &["s"]);
    agrees(&ended(graph, "s", 1.0 / 256.0, 0));
}

#[test]
fn layouts_move_integers() {
    let draft = started(&[1, 4, 3, 2])
        .node_with(
            "Transpose",
            &["x"],
            &["t"],
            &[("perm", ints(&[0, 2, 3, 1]))],
        )
        .i64("starts", &[1, -3])
        .i64("ends", &[3, 1000])
        .i64("axes", &[1, 3])
        .i64("steps", &[1, 2])
        .node("Slice", &["t", "starts", "ends", "axes", "steps"], &["c"])
        .i64("pads", &[0, 1, 0, 0, 0, 0, 2, 0])
        .node("Pad", &["c", "pads"], &["p"])
        .i64("shape", &[0, -1])
        .node("Reshape", &["p", "shape"], &["r"]);
    let model = agrees(&ended(draft, "r", 0.05, 100));
    assert_eq!(model.output().shape, [1, 24]);
}

#[test]
fn constants_of_channels_scale_them() {
    let draft = started(&[1, 3, 2, 2])
        .f32("m", &[3, 1, 1], &[0.5, 2.0, -1.0])
        .node("Mul", &["x", "m"], &["y"])
        .f32("a", &[1, 3, 1, 1], &[1.0, 0.0, -1.0])
        .node("Add", &["y", "a"], &["z"]);
    let model = agrees(&ended(draft, "z", 0.1, 128));
    assert_eq!(model.operators(), [("Scale", 1)].into());
}

#[test]
fn refusals_name_the_node_and_the_reason() {
    let float = Draft::new(13)
        .input("x", ElementType::F32, &[1, 2])
        .node("Relu", &["x"], &["y"])
        .output("y")
        .graph();
    let why = build(&float).unwrap_err();
    assert_eq!(
        why,
        "the input \"x\" is float and is not quantised before it is computed with"
    );
    let dynamic = started(&[1, 2])
        .node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"])
        .output("q")
        .graph();
    let why = build(&dynamic).unwrap_err();
    assert!(
        why.starts_with("DynamicQuantizeLinear \"q\" has no integer form: its scale is"),
        "{why}"
    );
    let between = convolved(started(&[1, 2, 4, 4]), &[]).node("Sigmoid", &["c"], &["s"]);
    let why = build(&ended(between, "s", 0.01, 0)).unwrap_err();
    assert_eq!(
        why,
        "Sigmoid \"s\" has no integer form: its input is not quantised; put QuantizeLinear \
         and DequantizeLinear before it"
    );
}

/// A model with a layer of weights and one with a table.
fn small() -> IntegerModel {
    let draft = started(&[1, 2])
        .i8("w", &[2, 1], &[3, -4])
        .f32("ws", &[], &[0.5])
        .node("DequantizeLinear", &["w", "ws"], &["wf"])
        .node("MatMul", &["x", "wf"], &["m"]);
    let draft = quantised(draft, "m", "y", 0.25, 128).node("Softmax", &["y"], &["s"]);
    build(&ended(draft, "s", 0.5, 0)).unwrap()
}

#[test]
fn the_stored_form_stays() {
    let graph = convolved(started(&[1, 2, 3, 3]), &[]);
    let bytes = build(&ended(graph, "c", 0.5, 3)).unwrap().encode().unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "010202696e010401020303cdcc4c3dc801056f75745f710104010201010000003f0601016301000100fe\
    03000303010100000000010101002481b6eb20558bc0f52a5f95caff34699fd4093e73a9de13487db3e8\
    1d5288bdf2275c92c702d00f8727026f12833a18b75139010101";

#[test]
fn damaged_bytes_are_refused_or_run() {
    let model = small();
    let bytes = model.encode().unwrap();
    let input = sample(&[1, 2]);
    for length in 0..bytes.len() {
        assert!(
            IntegerModel::decode(&bytes[..length]).is_err(),
            "{length} bytes"
        );
    }
    let mut refused = 0;
    for place in 1..bytes.len() {
        for value in [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            bytes[place] ^ 1,
            bytes[place] ^ 0x40,
        ] {
            let mut damaged = bytes.clone();
            damaged[place] = value;
            match IntegerModel::decode(&damaged) {
                Ok(model) => drop(model.run(&input)),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100, "{refused} refused");
    let mut other = bytes.clone();
    other[0] = 2;
    assert!(matches!(
        IntegerModel::decode(&other),
        Err(IntegerError::Version(2))
    ));
    other[0] = 1;
    other.push(0);
    assert!(matches!(
        IntegerModel::decode(&other),
        Err(IntegerError::Invalid(_))
    ));
}

#[test]
fn sums_that_overflow_are_refused() {
    let mut model = small();
    let Operator::Dense(linear) = &mut model.layers[0].operator else {
        unreachable!("the first layer is dense");
    };
    linear.bias[0] = i32::MAX;
    let why = IntegerModel::decode(&model.encode().unwrap()).unwrap_err();
    assert!(
        why.to_string()
            .ends_with("its sums do not fit into 32 bits"),
        "{why}"
    );
}

#[test]
fn inputs_of_another_shape_are_refused() {
    let why = small().run(&sample(&[1, 3])).unwrap_err();
    assert_eq!(why.to_string(), "the model takes f32[1, 2], not f32[1, 3]");
}
