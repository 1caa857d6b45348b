//! `MatMulIntegerToFloat` and `DynamicQuantizeMatMul` become MatMulInteger and what was fused
//! with it.
//!
//! The second one quantises its left factor by DynamicQuantizeLinear first. Sums are cast and
//! multiplied by the product of the scales; a bias is added in floats.

use super::rewrite::Rewrite;
use crate::compile::array::ElementType;
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, Node, ValueId};

/// A factor: its integers, scale and zero point.
struct Factor {
    value: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
}

pub(super) fn matmul_to_float(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let a = Factor {
        value: rewrite.input(0)?,
        scale: rewrite.input(2)?,
        zero: rewrite.node.input(4),
    };
    let b = Factor {
        value: rewrite.input(1)?,
        scale: rewrite.input(3)?,
        zero: rewrite.node.input(5),
    };
    let rows = rewrite.graph.constant(a.scale).map_or(1, |s| s.len());
    if rows != 1 {
        return Err(rewrite.unsupported(
            "the left factor has more than one scale",
            "quantise activations with one scale for each tensor",
        ));
    }
    scaled(rewrite, a, b, rewrite.node.input(6))
}

pub(super) fn dynamic_matmul(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let input = rewrite.input(0)?;
    let name = rewrite.graph.name(input).to_owned();
    let mut made = |what: &str| rewrite.graph.add_value(&format!("{name}.{what}"));
    let (value, scale, zero) = (made("quantised"), made("scale"), made("zero"));
    let mut node = Node::new(&rewrite.node.name, "DynamicQuantizeLinear", &[input], value);
    node.outputs.extend([Some(scale), Some(zero)]);
    rewrite.push(node);
    let a = Factor {
        value,
        scale,
        zero: Some(zero),
    };
    let b = Factor {
        value: rewrite.input(1)?,
        scale: rewrite.input(2)?,
        zero: rewrite.node.input(3),
    };
    scaled(rewrite, a, b, rewrite.node.input(4))
}

fn scaled(
    rewrite: &mut Rewrite<'_>,
    a: Factor,
    b: Factor,
    bias: Option<ValueId>,
) -> Result<(), CompileError> {
    let sums = rewrite.graph.add_value(&rewrite.beside("sums"));
    let mut product = Node::new(
        &rewrite.node.name,
        "MatMulInteger",
        &[a.value, b.value],
        sums,
    );
    product.inputs.extend([a.zero, b.zero]);
    while product.inputs.last() == Some(&None) {
        product.inputs.pop();
    }
    rewrite.push(product);
    let to = Attribute::Int(i64::from(ElementType::F32.0));
    let name = rewrite.beside("cast");
    let cast = rewrite.apply("Cast", &[sums], vec![("to", to)], &name);
    let name = rewrite.beside("scale");
    let scale = rewrite.multiplied([a.scale, b.scale], &name)?;
    match bias {
        Some(bias) => {
            let name = rewrite.beside("product");
            let product = rewrite.apply("Mul", &[cast, scale], Vec::new(), &name);
            rewrite.result("Add", &[product, bias], Vec::new());
        }
        None => rewrite.result("Mul", &[cast, scale], Vec::new()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;
    use crate::compile::pass::operator::testing::{keeps, shown};

    #[test]
    fn the_left_factor_is_quantised_first() {
        let graph = Draft::new(13)
            .input("a", ElementType::F32, &[2, 3])
            .i8("b", &[3, 2], &[1, -2, 3, 44, -55, 127])
            .f32("bs", &[2], &[0.25, 0.5])
            .f32("bias", &[2], &[1.0, -1.0])
            .node(
                "com.microsoft.DynamicQuantizeMatMul",
                &["a", "b", "bs", "", "bias"],
                &["y"],
            )
            .output("y")
            .graph();
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    a f32[2,3]
const b i8[3,2] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const bs f32[2] [0.25, 0.5]
const bias f32[2] [1.0, -1.0]
      y = com.microsoft.DynamicQuantizeMatMul(a, b, bs, _, bias)
out   y
=>
opset 13
in    a f32[2,3]
const b i8[3,2] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const bs f32[2] [0.25, 0.5]
const bias f32[2] [1.0, -1.0]
      a.quantised, a.scale, a.zero = DynamicQuantizeLinear(a)
      y.sums = MatMulInteger(a.quantised, b, a.zero)
      y.cast = Cast(y.sums) to=1
      y.scale = Mul(a.scale, bs)
      y.product = Mul(y.cast, y.scale)
      y = Add(y.product, bias)
out   y
"
        );
    }

    #[test]
    fn sums_are_scaled_by_both_scales() {
        let graph = Draft::new(13)
            .input("a", ElementType::U8, &[2, 3])
            .i8("b", &[3, 2], &[1, -2, 3, 44, -55, 127])
            .f32("as", &[], &[0.5])
            .f32("bs", &[2], &[0.25, 0.5])
            .u8("az", &[], &[128])
            .node(
                "com.microsoft.MatMulIntegerToFloat",
                &["a", "b", "as", "bs", "az"],
                &["y"],
            )
            .output("y")
            .graph();
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    a u8[2,3]
const b i8[3,2] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const as f32[] [0.5]
const bs f32[2] [0.25, 0.5]
const az u8[] [128.0]
      y = com.microsoft.MatMulIntegerToFloat(a, b, as, bs, az)
out   y
=>
opset 13
in    a u8[2,3]
const b i8[3,2] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const az u8[] [128.0]
const y.scale f32[2] [0.125, 0.25]
      y.sums = MatMulInteger(a, b, az)
      y.cast = Cast(y.sums) to=1
      y = Mul(y.cast, y.scale)
out   y
"
        );
    }
}
