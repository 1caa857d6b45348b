//! `QLinearMatMul` and `QGemm` become MatMul and Gemm between DequantizeLinear and
//! QuantizeLinear.
//!
//! Scales go along the rows of the left and the columns of the right factor. `C` of a QGemm
//! is in sums of the product, so its scale is that of the product; `alpha` scales both.
//! Without a scale of its own the result of a QGemm is the float one.

use super::rewrite::{Real, Rewrite};
use crate::compile::array::{Array, ElementType};
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, ValueId};

/// Most elements that `C` may get from being repeated for each column, so that two short
/// constants of a file do not take all memory.
const WIDEST: usize = 1 << 24;

pub(super) fn matmul(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let a = rewrite.dequantised_along(0, 1, 2, -2)?;
    let b = rewrite.dequantised_along(3, 4, 5, -1)?;
    let name = rewrite.beside("real");
    let made = rewrite.apply("MatMul", &[a.value, b.value], Vec::new(), &name);
    rewrite.quantised(made, 6, 7, 0)
}

pub(super) fn gemm(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let flag = |name| rewrite.node.int(name).unwrap_or(0) != 0;
    let columns = match flag("transB") {
        true => 0,
        false => 1,
    };
    let a = rewrite.dequantised(0, 1, 2)?;
    let b = rewrite.dequantised_along(3, 4, 5, columns)?;
    let mut inputs = vec![a.value, b.value];
    let alpha = rewrite.node.float("alpha").unwrap_or(1.0);
    if let Some(c) = rewrite.node.input(6) {
        let (c, axis) = addend(rewrite, c, b)?;
        inputs.push(rewrite.bias(c, [a.scale, b.scale], alpha, axis)?);
    }
    let mut attributes = rewrite.kept(&["transA", "transB"]);
    if alpha != 1.0 {
        attributes.push(("alpha", Attribute::Float(alpha)));
    }
    if rewrite.node.input(7).is_none() {
        rewrite.result("Gemm", &inputs, attributes);
        return Ok(());
    }
    let name = rewrite.beside("real");
    let made = rewrite.apply("Gemm", &inputs, attributes, &name);
    rewrite.quantised(made, 7, 8, 0)
}

/// `C` with an axis of columns where there is a scale for each column, and that axis.
fn addend(
    rewrite: &mut Rewrite<'_>,
    c: ValueId,
    b: Real,
) -> Result<(ValueId, Option<i64>), CompileError> {
    if !b.many {
        return Ok((c, None));
    }
    let shape = &rewrite.graph.value(b.scale).shape;
    let columns = match shape.as_deref() {
        Some([Some(columns)]) => *columns,
        _ => return Err(scattered(rewrite)),
    };
    let shape = rewrite.graph.value(c).shape.as_deref();
    if let Some([.., Some(last)]) = shape
        && *last == columns
    {
        return Ok((c, Some(-1)));
    }
    let Some((shape, values)) = rewrite.graph.constant(c).and_then(|c| {
        let mut shape = c.shape().to_vec();
        let last = shape.pop().unwrap_or(1);
        shape.push(columns);
        (last == 1).then_some((shape, c.to_i32()?))
    }) else {
        return Err(scattered(rewrite));
    };
    if values.len().saturating_mul(columns) > WIDEST {
        return Err(scattered(rewrite));
    }
    let wide: Vec<i32> = values
        .iter()
        .flat_map(|v| std::iter::repeat_n(*v, columns))
        .collect();
    let name = format!("{}.wide", rewrite.graph.name(c));
    match Array::integers(ElementType::I32, shape, &wide) {
        Some(array) => Ok((rewrite.graph.add_constant(&name, array), Some(-1))),
        None => Err(scattered(rewrite)),
    }
}

fn scattered(rewrite: &Rewrite<'_>) -> CompileError {
    rewrite.unsupported(
        "C does not show the columns that the scales belong to",
        "give C as many columns as the weights, or quantise the weights with one scale",
    )
}

#[cfg(test)]
mod tests {
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;
    use crate::compile::graph::{Attribute, Graph};
    use crate::compile::pass::operator::testing::{keeps, refused, rewritten, shown};

    fn matmul(scales: &[f32]) -> Graph {
        Draft::new(13)
            .input("a", ElementType::I8, &[2, 3])
            .f32("as", &[1], &[0.5])
            .i8("az", &[1], &[3])
            .i8("b", &[3, 2], &[1, -2, 3, 44, -55, 127])
            .f32("bs", &[scales.len()], scales)
            .i8("bz", &[], &[0])
            .f32("ys", &[], &[2.0])
            .i8("yz", &[], &[-7])
            .node(
                "QLinearMatMul",
                &["a", "as", "az", "b", "bs", "bz", "ys", "yz"],
                &["y"],
            )
            .output("y")
            .graph()
    }

    #[test]
    fn matmul_between_conversions() {
        let graph = matmul(&[0.25]);
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    a i8[2,3]
const as f32[1] [0.5]
const az i8[1] [3.0]
const b i8[3,2] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const bs f32[1] [0.25]
const bz i8[] [0.0]
const ys f32[] [2.0]
const yz i8[] [-7.0]
      y = QLinearMatMul(a, as, az, b, bs, bz, ys, yz)
out   y
=>
opset 13
in    a i8[2,3]
const b i8[3,2] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const bz i8[] [0.0]
const ys f32[] [2.0]
const yz i8[] [-7.0]
const as.scalar f32[] [0.5]
const az.scalar i8[] [3.0]
const bs.scalar f32[] [0.25]
      a.real = DequantizeLinear(a, as.scalar, az.scalar)
      b.real = DequantizeLinear(b, bs.scalar, bz)
      y.real = MatMul(a.real, b.real)
      y = QuantizeLinear(y.real, ys, yz)
out   y
"
        );
    }

    #[test]
    fn scales_of_a_matmul_go_along_columns() {
        let graph = matmul(&[0.25, 0.125]);
        keeps(&graph);
        assert!(rewritten(graph).contains("DequantizeLinear(b, bs, bz.row) axis=1"));
        assert!(refused(matmul(&[0.25, f32::NAN])).contains("finite"));
    }

    fn gemm(c: &[usize], scales: &[f32], float: bool) -> Graph {
        let mut inputs = vec!["a", "as", "az", "b", "bs", "bz", "c", "ys", "yz"];
        if float {
            inputs.truncate(7);
        }
        let addend = [100, -900];
        Draft::new(13)
            .input("a", ElementType::U8, &[2, 3])
            .f32("as", &[], &[0.5])
            .u8("az", &[], &[128])
            .i8("b", &[2, 3], &[1, -2, 3, 44, -55, 127])
            .f32("bs", &[scales.len()], scales)
            .i8("bz", &[], &[0])
            .i32("c", c, &addend[..c.iter().product()])
            .f32("ys", &[], &[2.0])
            .u8("yz", &[], &[7])
            .node_with(
                "com.microsoft.QGemm",
                &inputs,
                &["y"],
                &[
                    ("transB", Attribute::Int(1)),
                    ("alpha", Attribute::Float(0.5)),
                ],
            )
            .output("y")
            .graph()
    }

    #[test]
    fn the_addend_of_a_gemm_has_the_scale_of_the_product() {
        let graph = gemm(&[2], &[0.25, 0.125], false);
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    a u8[2,3]
const as f32[] [0.5]
const az u8[] [128.0]
const b i8[2,3] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const bs f32[2] [0.25, 0.125]
const bz i8[] [0.0]
const c i32[2] [100.0, -900.0]
const ys f32[] [2.0]
const yz u8[] [7.0]
      y = com.microsoft.QGemm(a, as, az, b, bs, bz, c, ys, yz) alpha=0.5 transB=1
out   y
=>
opset 13
in    a u8[2,3]
const as f32[] [0.5]
const az u8[] [128.0]
const b i8[2,3] [1.0, -2.0, 3.0, 44.0, -55.0, 127.0]
const bs f32[2] [0.25, 0.125]
const c i32[2] [100.0, -900.0]
const ys f32[] [2.0]
const yz u8[] [7.0]
const bz.row i8[2] [0.0, 0.0]
const c.scale.row f32[2] [0.0625, 0.03125]
      a.real = DequantizeLinear(a, as, az)
      b.real = DequantizeLinear(b, bs, bz.row) axis=0
      c.real = DequantizeLinear(c, c.scale.row) axis=0
      y.real = Gemm(a.real, b.real, c.real) alpha=0.5 transB=1
      y = QuantizeLinear(y.real, ys, yz)
out   y
"
        );
    }

    #[test]
    fn a_gemm_without_scale_gives_floats() {
        let graph = gemm(&[1, 2], &[0.25], true);
        keeps(&graph);
        assert!(!rewritten(graph).contains(" QuantizeLinear"));
    }

    #[test]
    fn a_narrow_addend_gets_its_columns() {
        for shape in [&[2, 1][..], &[1], &[]] {
            keeps(&gemm(shape, &[0.25, 0.125], false));
        }
    }
}
