//! `QLinearAveragePool`, `QLinearGlobalAveragePool` and `QLinearReduceMean` become the float
//! operators between DequantizeLinear and QuantizeLinear.
//!
//! ONNX knows channels only before the spatial axes, so where they come last two Transposes
//! stand around the pool, on the real numbers.

use super::rewrite::Rewrite;
use crate::compile::array::Array;
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, ValueId};

const GEOMETRY: [&str; 7] = [
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "dilations",
    "kernel_shape",
    "pads",
    "strides",
];

pub(super) fn average(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let kernel = rewrite.node.ints("kernel_shape").map(<[i64]>::len);
    let Some(kernel) = kernel else {
        return Err(rewrite.invalid("it has no kernel"));
    };
    pool(rewrite, "AveragePool", &GEOMETRY, Some(kernel + 2))
}

pub(super) fn global_average(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    pool(rewrite, "GlobalAveragePool", &[], None)
}

fn pool(
    rewrite: &mut Rewrite<'_>,
    op: &str,
    attributes: &[&'static str],
    rank: Option<usize>,
) -> Result<(), CompileError> {
    let x = rewrite.dequantised(0, 1, 2)?.value;
    let (x, rank) = channels_first(rewrite, x, rank)?;
    let attributes = rewrite.kept(attributes);
    let name = rewrite.beside("real");
    let made = rewrite.apply(op, &[x], attributes, &name);
    let made = channels_last(rewrite, made, rank);
    rewrite.quantised(made, 3, 4, 0)
}

/// `real` with its channels before its spatial axes, and its rank where they were moved.
/// `rank` is what else is known of it.
pub(super) fn channels_first(
    rewrite: &mut Rewrite<'_>,
    real: ValueId,
    rank: Option<usize>,
) -> Result<(ValueId, Option<usize>), CompileError> {
    if rewrite.node.int("channels_last").unwrap_or(0) == 0 {
        return Ok((real, None));
    }
    let input = rewrite.input(0)?;
    let rank = rank.or_else(|| rewrite.rank(input)).filter(|r| *r >= 2);
    let Some(rank) = rank else {
        return Err(rewrite.unsupported(
            "its channels come last, and the number of its axes is not known",
            "let onnx.shape_inference write shapes into the model",
        ));
    };
    let mut order = vec![0, rank as i64 - 1];
    order.extend(1..rank as i64 - 1);
    let name = rewrite.beside("first");
    let order = vec![("perm", Attribute::Ints(order))];
    let moved = rewrite.apply("Transpose", &[real], order, &name);
    Ok((moved, Some(rank)))
}

/// Moves the channels of a value of `rank` behind its spatial axes, where they were.
pub(super) fn channels_last(
    rewrite: &mut Rewrite<'_>,
    real: ValueId,
    rank: Option<usize>,
) -> ValueId {
    let Some(rank) = rank else { return real };
    let mut order = vec![0];
    order.extend(2..rank as i64);
    order.push(1);
    let name = rewrite.beside("last");
    let order = vec![("perm", Attribute::Ints(order))];
    rewrite.apply("Transpose", &[real], order, &name)
}

pub(super) fn reduce_mean(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let x = rewrite.dequantised(0, 1, 2)?.value;
    let mut inputs = vec![x];
    // From operator set 18 on the axes are an input.
    let attributes = match rewrite.graph.opset {
        18.. => {
            if let Some(axes) = rewrite.node.ints("axes").map(<[i64]>::to_vec) {
                let name = rewrite.beside("axes");
                inputs.push(rewrite.graph.add_constant(&name, Array::indices(axes)));
            }
            rewrite.kept(&["keepdims"])
        }
        _ => rewrite.kept(&["axes", "keepdims"]),
    };
    let name = rewrite.beside("real");
    let made = rewrite.apply("ReduceMean", &inputs, attributes, &name);
    rewrite.quantised(made, 3, 4, 0)
}

#[cfg(test)]
mod tests {
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;
    use crate::compile::graph::{Attribute, Graph};
    use crate::compile::pass::operator::testing::{keeps, rewritten, shown};

    fn graph(op: &str, opset: i64, attributes: &[(&str, Attribute)]) -> Graph {
        Draft::new(opset)
            .input("x", ElementType::U8, &[1, 3, 4, 2])
            .f32("xs", &[], &[0.5])
            .u8("xz", &[], &[128])
            .f32("ys", &[], &[0.25])
            .u8("yz", &[], &[120])
            .node_with(op, &["x", "xs", "xz", "ys", "yz"], &["y"], attributes)
            .output("y")
            .graph()
    }

    #[test]
    fn channels_that_come_last_are_moved() {
        let attributes = [
            ("channels_last", Attribute::Int(1)),
            ("kernel_shape", Attribute::Ints(vec![2, 2])),
            ("pads", Attribute::Ints(vec![0, 1, 1, 0])),
        ];
        let graph = graph("com.microsoft.QLinearAveragePool", 13, &attributes);
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    x u8[1,3,4,2]
const xs f32[] [0.5]
const xz u8[] [128.0]
const ys f32[] [0.25]
const yz u8[] [120.0]
      y = com.microsoft.QLinearAveragePool(x, xs, xz, ys, yz) channels_last=1 kernel_shape=[2, 2] pads=[0, 1, 1, 0]
out   y
=>
opset 13
in    x u8[1,3,4,2]
const xs f32[] [0.5]
const xz u8[] [128.0]
const ys f32[] [0.25]
const yz u8[] [120.0]
      x.real = DequantizeLinear(x, xs, xz)
      y.first = Transpose(x.real) perm=[0, 3, 1, 2]
      y.real = AveragePool(y.first) kernel_shape=[2, 2] pads=[0, 1, 1, 0]
      y.last = Transpose(y.real) perm=[0, 2, 3, 1]
      y = QuantizeLinear(y.last, ys, yz)
out   y
"
        );
    }

    #[test]
    fn average_between_conversions() {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![2, 2])),
            ("strides", Attribute::Ints(vec![2, 2])),
            ("pads", Attribute::Ints(vec![1, 1, 0, 0])),
            ("ceil_mode", Attribute::Int(1)),
            ("count_include_pad", Attribute::Int(1)),
        ];
        let graph = graph("com.microsoft.QLinearAveragePool", 13, &attributes);
        keeps(&graph);
        assert!(!rewritten(graph).contains("Transpose"));
    }

    #[test]
    fn global_average_between_conversions() {
        for last in [0, 1] {
            let attributes = [("channels_last", Attribute::Int(last))];
            let graph = graph("com.microsoft.QLinearGlobalAveragePool", 13, &attributes);
            keeps(&graph);
            assert_eq!(
                rewritten(graph).matches("Transpose").count(),
                2 * last as usize
            );
        }
    }

    #[test]
    fn axes_of_a_mean_are_where_the_operator_set_has_them() {
        let attributes = [
            ("axes", Attribute::Ints(vec![1, 2])),
            ("keepdims", Attribute::Int(0)),
        ];
        for (opset, wanted) in [
            (13, "ReduceMean(x.real) axes=[1, 2] keepdims=0"),
            (18, "ReduceMean(x.real, y.axes) keepdims=0"),
        ] {
            let graph = graph("com.microsoft.QLinearReduceMean", opset, &attributes);
            keeps(&graph);
            assert!(rewritten(graph).contains(wanted));
        }
    }
}
