//! `QLinearConv` becomes a Conv between DequantizeLinear and QuantizeLinear.
//!
//! Scales of weights go along their first axis, the output channels; the bias has the product
//! of the scales of input and weights. Pads are zeros in real numbers as they are zero points
//! in integers.

use super::pool::{channels_first, channels_last};
use super::rewrite::Rewrite;
use crate::compile::error::CompileError;

const GEOMETRY: [&str; 6] = [
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
];

pub(super) fn conv(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let x = rewrite.dequantised(0, 1, 2)?;
    let w = rewrite.dequantised_along(3, 4, 5, 0)?;
    let (input, rank) = channels_first(rewrite, x.value, None)?;
    let mut inputs = vec![input, w.value];
    if let Some(bias) = rewrite.node.input(8) {
        let axis = w.many.then_some(0);
        inputs.push(rewrite.bias(bias, [x.scale, w.scale], 1.0, axis)?);
    }
    let attributes = rewrite.kept(&GEOMETRY);
    let name = rewrite.beside("real");
    let made = rewrite.apply("Conv", &inputs, attributes, &name);
    let made = channels_last(rewrite, made, rank);
    rewrite.quantised(made, 6, 7, 0)
}

#[cfg(test)]
mod tests {
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;
    use crate::compile::graph::{Attribute, Graph};
    use crate::compile::pass::operator::testing::{keeps, rewritten, shown};

    fn graph(weights: &[i8], scales: &[f32], attributes: &[(&str, Attribute)]) -> Graph {
        Draft::new(13)
            .input("x", ElementType::U8, &[1, 2, 4, 4])
            .f32("xs", &[], &[0.02])
            .u8("xz", &[], &[128])
            .i8("w", &[2, 1, 2, 2], weights)
            .f32("ws", &[scales.len()], scales)
            .i8("wz", &[], &[0])
            .f32("ys", &[], &[0.05])
            .u8("yz", &[1], &[100])
            .i32("b", &[2], &[300, -500])
            .node_with(
                "QLinearConv",
                &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
                &["y"],
                attributes,
            )
            .output("y")
            .graph()
    }

    #[test]
    fn scales_of_channels_go_along() {
        let attributes = [
            ("group", Attribute::Int(2)),
            ("pads", Attribute::Ints(vec![1, 0, 0, 1])),
        ];
        let weights = [9, -8, 7, -6, 100, 90, -80, 127];
        let graph = graph(&weights, &[0.5, 0.25], &attributes);
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    x u8[1,2,4,4]
const xs f32[] [0.019999999552965164]
const xz u8[] [128.0]
const w i8[2,1,2,2] [9.0, -8.0, 7.0, -6.0, 100.0, 90.0, -80.0, 127.0]
const ws f32[2] [0.5, 0.25]
const wz i8[] [0.0]
const ys f32[] [0.05000000074505806]
const yz u8[1] [100.0]
const b i32[2] [300.0, -500.0]
      y = QLinearConv(x, xs, xz, w, ws, wz, ys, yz, b) group=2 pads=[1, 0, 0, 1]
out   y
=>
opset 13
in    x u8[1,2,4,4]
const xs f32[] [0.019999999552965164]
const xz u8[] [128.0]
const w i8[2,1,2,2] [9.0, -8.0, 7.0, -6.0, 100.0, 90.0, -80.0, 127.0]
const ws f32[2] [0.5, 0.25]
const ys f32[] [0.05000000074505806]
const b i32[2] [300.0, -500.0]
const wz.row i8[2] [0.0, 0.0]
const b.scale f32[2] [0.009999999776482582, 0.004999999888241291]
const yz.scalar u8[] [100.0]
      x.real = DequantizeLinear(x, xs, xz)
      w.real = DequantizeLinear(w, ws, wz.row) axis=0
      b.real = DequantizeLinear(b, b.scale) axis=0
      y.real = Conv(x.real, w.real, b.real) group=2 pads=[1, 0, 0, 1]
      y = QuantizeLinear(y.real, ys, yz.scalar)
out   y
"
        );
    }

    #[test]
    fn one_scale_of_weights_has_no_axis() {
        let attributes = [
            ("group", Attribute::Int(2)),
            ("auto_pad", Attribute::String("SAME_LOWER".into())),
            ("strides", Attribute::Ints(vec![1, 2])),
        ];
        let graph = graph(&[1, 2, -3, 4, 5, -6, 7, 8], &[0.25], &attributes);
        keeps(&graph);
        assert!(!rewritten(graph).contains("axis"));
    }
}
