//! Graphs before and after lowering, and that both compute the same.

use super::super::array::{Array, Data, ElementType};
use super::super::draft::Draft;
use super::super::eval;
use super::super::graph::{Attribute, Graph};
use super::{Numerics, lower};

/// Inputs of the shape of the graph's own, different in every element.
fn inputs(graph: &Graph) -> Vec<Array> {
    let input = |id: &super::super::graph::ValueId| {
        let value = graph.value(*id);
        let shape: Vec<usize> = value.shape.iter().flatten().map(|n| n.unwrap()).collect();
        let count: usize = shape.iter().product();
        let data = match value.element.unwrap() {
            ElementType::I8 => Data::I8((0..count).map(|n| (n * 37 % 251) as u8 as i8).collect()),
            ElementType::U8 => Data::U8((0..count).map(|n| (n * 37 % 251) as u8).collect()),
            _ => Data::F32(
                (0..count)
                    .map(|n| (n * 37 % 101) as f32 / 20.0 - 2.3)
                    .collect(),
            ),
        };
        Array::new(shape, data).unwrap()
    };
    graph.inputs.iter().map(input).collect()
}

/// Both graphs give the same within `tolerance`, under the same names, and no quantised
/// operator but those over constants is left.
fn same(graph: &Graph, numerics: Numerics, tolerance: f64) -> Graph {
    let lowered = lower(graph, numerics).unwrap();
    let inputs = inputs(graph);
    let before = eval::run(graph, &inputs).unwrap();
    let after = eval::run(&lowered, &inputs).unwrap();
    for (place, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(
            before.element(),
            after.element(),
            "output {place}\n{lowered}"
        );
        let pairs = before
            .to_f64()
            .unwrap()
            .into_iter()
            .zip(after.to_f64().unwrap());
        for (before, after) in pairs {
            let apart = (before - after).abs();
            assert!(apart <= tolerance, "{before} {after}\n{lowered}");
        }
    }
    let names =
        |g: &Graph| -> Vec<String> { g.outputs.iter().map(|o| g.name(*o).to_owned()).collect() };
    assert_eq!(names(graph), names(&lowered));
    let quantised = lowered.nodes.iter().any(|n| {
        n.op == "QuantizeLinear"
            || n.op == "DequantizeLinear"
                && n.input(0).is_some_and(|q| lowered.constant(q).is_none())
    });
    assert!(!quantised, "{lowered}");
    lowered
}

fn gemm() -> Draft {
    Draft::new(13)
        .input("x", ElementType::I8, &[1, 2])
        .f32("sx", &[], &[0.5])
        .i8("zx", &[], &[3])
        .i8("w", &[2, 2], &[1, -2, 3, -4])
        .f32("sw", &[2], &[0.25, 0.5])
        .i32("b", &[2], &[8, -16])
        .f32("sb", &[2], &[0.125, 0.25])
        .f32("sy", &[], &[2.0])
        .i8("zy", &[], &[-128])
        .node("DequantizeLinear", &["x", "sx", "zx"], &["xf"])
        .node("DequantizeLinear", &["w", "sw"], &["wf"])
        .node_with(
            "DequantizeLinear",
            &["b", "sb"],
            &["bf"],
            &[("axis", Attribute::Int(0))],
        )
        .node("Gemm", &["xf", "wf", "bf"], &["y"])
        .node("Relu", &["y"], &["r"])
        .node("QuantizeLinear", &["r", "sy", "zy"], &["q"])
}

#[test]
fn a_product_between_quantisers_keeps_integers_and_loses_its_relu() {
    let graph = gemm().output("q").graph();
    let lowered = same(&graph, Numerics::Exact, 0.0);
    assert_eq!(
        lowered.to_string(),
        "\
opset 13
in    x i8[1,2]
const w i8[2,2] [1.0, -2.0, 3.0, -4.0]
const -3 f32[] [-3.0]
const bf/units f32[2] [8.0, -16.0]
const wf/factor f32[2] [0.0625, 0.125]
const wf/scale f32[] [1.0]
const 0 f32[] [0.0]
const 255 f32[] [255.0]
const 12582912 f32[] [12582912.0]
const -128 f32[] [-128.0]
\x20     x/f32 = Cast(x) to=1
\x20     xf/add = Add(x/f32, -3)
\x20     wf/weights = DequantizeLinear(w, wf/scale)
\x20     y/sum = Gemm(xf/add, wf/weights, bf/units)
\x20     y/steps = Mul(y/sum, wf/factor)
\x20     q/max = Max(y/steps, 0)
\x20     q/min = Min(q/max, 255)
\x20     q/add = Add(q/min, 12582912)
\x20     q/sub = Sub(q/add, 12582912)
\x20     q/add.2 = Add(q/sub, -128)
\x20     q = Cast(q/add.2) to=3
out   q
"
    );
}

#[test]
fn float_numerics_keep_both_clamps_and_no_rounding() {
    let graph = gemm()
        .node("DequantizeLinear", &["q", "sy", "zy"], &["z"])
        .output("z")
        .graph();
    let lowered = lower(&graph, Numerics::Float).unwrap();
    assert_eq!(
        lowered.to_string(),
        "\
opset 13
in    x i8[1,2]
const w i8[2,2] [1.0, -2.0, 3.0, -4.0]
const -3 f32[] [-3.0]
const wf/scale f32[2] [0.0625, 0.125]
const bf/scaled f32[2] [0.5, -2.0]
const 0 f32[] [0.0]
const 255 f32[] [255.0]
const 2 f32[] [2.0]
\x20     x/f32 = Cast(x) to=1
\x20     xf/add = Add(x/f32, -3)
\x20     wf/weights = DequantizeLinear(w, wf/scale) axis=1
\x20     y/steps = Gemm(xf/add, wf/weights, bf/scaled)
\x20     q/max = Max(y/steps, 0)
\x20     q/min = Min(q/max, 255)
\x20     z = Mul(q/min, 2)
out   z
"
    );
}

#[test]
fn joins_of_different_scales() {
    for op in ["Add", "Sub", "Mul", "Concat", "Max"] {
        let attributes: &[(&str, Attribute)] = match op {
            "Concat" => &[("axis", Attribute::Int(1))],
            _ => &[],
        };
        let graph = Draft::new(13)
            .input("a", ElementType::U8, &[1, 6])
            .input("b", ElementType::I8, &[1, 6])
            .f32("sa", &[], &[0.03])
            .u8("za", &[], &[120])
            .f32("sb", &[], &[0.07])
            .i8("zb", &[], &[-5])
            .f32("sy", &[], &[0.11])
            .u8("zy", &[], &[90])
            .node("DequantizeLinear", &["a", "sa", "za"], &["af"])
            .node("DequantizeLinear", &["b", "sb", "zb"], &["bf"])
            .node_with(op, &["af", "bf"], &["y"], attributes)
            .node("QuantizeLinear", &["y", "sy", "zy"], &["q"])
            .node("DequantizeLinear", &["q", "sy", "zy"], &["qf"])
            .node("Sigmoid", &["qf"], &["s"])
            .output("q")
            .output("s")
            .output("y")
            .graph();
        same(&graph, Numerics::Exact, 1e-5);
    }
}

#[test]
fn one_quantiser_of_several_readers_and_others_behind() {
    let graph = Draft::new(13)
        .input("x", ElementType::F32, &[1, 1, 4, 4])
        .f32("s", &[], &[0.05])
        .u8("z", &[], &[20])
        .f32("s2", &[], &[0.08])
        .i8("z2", &[], &[-9])
        .i64("shape", &[1, 4])
        .node("QuantizeLinear", &["x", "s", "z"], &["q"])
        .node_with(
            "MaxPool",
            &["q"],
            &["p"],
            &[
                ("kernel_shape", Attribute::Ints(vec![2, 2])),
                ("strides", Attribute::Ints(vec![2, 2])),
            ],
        )
        .node("Reshape", &["p", "shape"], &["f"])
        .node("DequantizeLinear", &["f", "s", "z"], &["d"])
        .node("DequantizeLinear", &["q", "s2", "z"], &["d2"])
        .node("QuantizeLinear", &["d", "s2", "z2"], &["e"])
        .output("q")
        .output("e")
        .output("d2")
        .graph();
    same(&graph, Numerics::Exact, 1e-5);
}

#[test]
fn a_product_of_dynamic_quantisation() {
    let graph = Draft::new(13)
        .input("x", ElementType::F32, &[1, 4])
        .u8("w", &[4, 2], &[1, 200, 3, 40, 90, 120, 7, 8])
        .u8("zw", &[], &[100])
        .node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"])
        .node("MatMulInteger", &["q", "w", "z", "zw"], &["sum"])
        .node_with("Cast", &["sum"], &["f"], &[("to", Attribute::Int(1))])
        .node("Mul", &["f", "s"], &["y"])
        .output("y")
        .output("z")
        .graph();
    same(&graph, Numerics::Exact, 1e-4);
}
