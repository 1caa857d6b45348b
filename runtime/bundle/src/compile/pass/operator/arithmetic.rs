//! `QLinearAdd`, `QLinearMul`, `QLinearWhere` and `QLinearConcat` become Add, Mul, Where and
//! Concat between DequantizeLinear and QuantizeLinear.
//!
//! Each input has a scale of its own, so that integers cannot be joined as they are.

use super::rewrite::Rewrite;
use crate::compile::error::CompileError;

pub(super) fn add(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    pair(rewrite, "Add")
}

pub(super) fn mul(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    pair(rewrite, "Mul")
}

fn pair(rewrite: &mut Rewrite<'_>, op: &str) -> Result<(), CompileError> {
    let a = rewrite.dequantised(0, 1, 2)?.value;
    let b = rewrite.dequantised(3, 4, 5)?.value;
    let name = rewrite.beside("real");
    let made = rewrite.apply(op, &[a, b], Vec::new(), &name);
    rewrite.quantised(made, 6, 7, 0)
}

pub(super) fn choose(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let condition = rewrite.input(0)?;
    let x = rewrite.dequantised(1, 2, 3)?.value;
    let y = rewrite.dequantised(4, 5, 6)?.value;
    let name = rewrite.beside("real");
    let made = rewrite.apply("Where", &[condition, x, y], Vec::new(), &name);
    rewrite.quantised(made, 7, 8, 1)
}

pub(super) fn concat(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let count = rewrite.node.inputs.len();
    if count < 4 {
        return Err(rewrite.invalid("it joins nothing"));
    }
    let mut parts = Vec::with_capacity(count / 3);
    for place in (2..count).step_by(3) {
        parts.push(rewrite.dequantised(place, place + 1, place + 2)?.value);
    }
    let axis = rewrite.kept(&["axis"]);
    if axis.is_empty() {
        return Err(rewrite.invalid("it has no axis"));
    }
    let name = rewrite.beside("real");
    let made = rewrite.apply("Concat", &parts, axis, &name);
    rewrite.quantised(made, 0, 1, 2)
}

#[cfg(test)]
mod tests {
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;
    use crate::compile::graph::Attribute;
    use crate::compile::pass::operator::testing::{keeps, refused, rewritten, shown};

    fn draft() -> Draft {
        Draft::new(13)
            .input("a", ElementType::U8, &[2, 3])
            .input("b", ElementType::U8, &[1, 3])
            .f32("as", &[], &[0.5])
            .u8("az", &[], &[128])
            .f32("bs", &[], &[0.25])
            .u8("bz", &[], &[100])
            .f32("ys", &[], &[0.75])
            .u8("yz", &[], &[90])
    }

    const PAIR: [&str; 8] = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"];

    #[test]
    fn add_between_conversions() {
        let graph = draft().node("com.microsoft.QLinearAdd", &PAIR, &["y"]);
        let graph = graph.output("y").graph();
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    a u8[2,3]
in    b u8[1,3]
const as f32[] [0.5]
const az u8[] [128.0]
const bs f32[] [0.25]
const bz u8[] [100.0]
const ys f32[] [0.75]
const yz u8[] [90.0]
      y = com.microsoft.QLinearAdd(a, as, az, b, bs, bz, ys, yz)
out   y
=>
opset 13
in    a u8[2,3]
in    b u8[1,3]
const as f32[] [0.5]
const az u8[] [128.0]
const bs f32[] [0.25]
const bz u8[] [100.0]
const ys f32[] [0.75]
const yz u8[] [90.0]
      a.real = DequantizeLinear(a, as, az)
      b.real = DequantizeLinear(b, bs, bz)
      y.real = Add(a.real, b.real)
      y = QuantizeLinear(y.real, ys, yz)
out   y
"
        );
    }

    #[test]
    fn mul_between_conversions() {
        let graph = draft().node("com.microsoft.QLinearMul", &PAIR, &["y"]);
        let graph = graph.output("y").graph();
        keeps(&graph);
        assert!(rewritten(graph).contains("y.real = Mul(a.real, b.real)"));
    }

    #[test]
    fn parts_are_joined_as_real_numbers() {
        let graph = draft().node_with(
            "com.microsoft.QLinearConcat",
            &["ys", "yz", "a", "as", "az", "b", "bs", "bz"],
            &["y"],
            &[("axis", Attribute::Int(0))],
        );
        let graph = graph.output("y").graph();
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    a u8[2,3]
in    b u8[1,3]
const as f32[] [0.5]
const az u8[] [128.0]
const bs f32[] [0.25]
const bz u8[] [100.0]
const ys f32[] [0.75]
const yz u8[] [90.0]
      y = com.microsoft.QLinearConcat(ys, yz, a, as, az, b, bs, bz) axis=0
out   y
=>
opset 13
in    a u8[2,3]
in    b u8[1,3]
const as f32[] [0.5]
const az u8[] [128.0]
const bs f32[] [0.25]
const bz u8[] [100.0]
const ys f32[] [0.75]
const yz u8[] [90.0]
      a.real = DequantizeLinear(a, as, az)
      b.real = DequantizeLinear(b, bs, bz)
      y.real = Concat(a.real, b.real) axis=0
      y = QuantizeLinear(y.real, ys, yz)
out   y
"
        );
    }

    #[test]
    fn one_of_two_is_chosen_as_real_numbers() {
        let graph = draft().input("c", ElementType::BOOL, &[2, 1]).node(
            "com.microsoft.QLinearWhere",
            &["c", "a", "as", "az", "b", "bs", "bz", "ys", "yz"],
            &["y"],
        );
        let graph = graph.output("y").graph();
        keeps(&graph);
        assert!(rewritten(graph).contains("y.real = Where(c, a.real, b.real)"));
    }

    #[test]
    fn a_result_without_a_scale_is_refused() {
        let graph = draft().f32("zero", &[], &[0.0]).node(
            "com.microsoft.QLinearAdd",
            &["a", "as", "az", "b", "bs", "bz", "zero", "yz"],
            &["y"],
        );
        let graph = graph.output("y").graph();
        assert_eq!(
            refused(graph),
            "the model is not valid ONNX: com.microsoft.QLinearAdd \"y\": the scale of its \
             result is not one positive number"
        );
    }
}
