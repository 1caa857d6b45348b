//! `QLinearSigmoid`, `QLinearLeakyRelu` and `QLinearSoftmax` become the float operators
//! between DequantizeLinear and QuantizeLinear.
//!
//! A softmax of an operator set before 13 goes over all axes from its own on: over the last
//! axis of the flattened input, whose shape is given back afterwards.

use super::rewrite::{Attributes, Rewrite};
use crate::compile::array::Array;
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, ValueId};

pub(super) fn sigmoid(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    single(rewrite, "Sigmoid", Vec::new())
}

pub(super) fn leaky_relu(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let alpha = rewrite.kept(&["alpha"]);
    single(rewrite, "LeakyRelu", alpha)
}

fn single(rewrite: &mut Rewrite<'_>, op: &str, attributes: Attributes) -> Result<(), CompileError> {
    let x = rewrite.dequantised(0, 1, 2)?.value;
    let name = rewrite.beside("real");
    let made = rewrite.apply(op, &[x], attributes, &name);
    rewrite.quantised(made, 3, 4, 0)
}

pub(super) fn softmax(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let input = rewrite.input(0)?;
    let axis = rewrite.node.int("axis").unwrap_or(-1);
    let old = rewrite.node.int("opset").is_some_and(|opset| opset < 13);
    let rank = rewrite.rank(input).map(|rank| rank as i64);
    let last = axis == -1 || rank.is_some_and(|rank| axis == rank - 1);
    if !old || last {
        let axis = if last { -1 } else { axis };
        return single(rewrite, "Softmax", vec![("axis", Attribute::Int(axis))]);
    }
    let x = rewrite.dequantised(0, 1, 2)?.value;
    let name = rewrite.beside("flat");
    let flat = rewrite.apply("Flatten", &[x], vec![("axis", Attribute::Int(axis))], &name);
    let name = rewrite.beside("softmax");
    let along = vec![("axis", Attribute::Int(-1))];
    let made = rewrite.apply("Softmax", &[flat], along, &name);
    let shape = shape_of(rewrite, input, x);
    let name = rewrite.beside("real");
    let made = rewrite.apply("Reshape", &[made, shape], Vec::new(), &name);
    rewrite.quantised(made, 3, 4, 0)
}

/// The shape of `input`: a constant where it is known.
fn shape_of(rewrite: &mut Rewrite<'_>, input: ValueId, real: ValueId) -> ValueId {
    let name = rewrite.beside("shape");
    let known: Option<Vec<i64>> = rewrite.graph.value(input).shape.as_ref().and_then(|axes| {
        let sizes = axes.iter().map(|axis| i64::try_from((*axis)?).ok());
        sizes.collect()
    });
    match known {
        Some(sizes) => rewrite.graph.add_constant(&name, Array::indices(sizes)),
        None => rewrite.apply("Shape", &[real], Vec::new(), &name),
    }
}

#[cfg(test)]
mod tests {
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;
    use crate::compile::graph::{Attribute, Graph};
    use crate::compile::pass::operator::testing::{keeps, rewritten, shown};

    fn graph(op: &str, shape: &[usize], attributes: &[(&str, Attribute)]) -> Graph {
        Draft::new(13)
            .input("x", ElementType::U8, shape)
            .f32("xs", &[], &[0.0625])
            .u8("xz", &[], &[128])
            .f32("ys", &[], &[0.00390625])
            .u8("yz", &[], &[0])
            .node_with(op, &["x", "xs", "xz", "ys", "yz"], &["y"], attributes)
            .output("y")
            .graph()
    }

    #[test]
    fn softmax_over_its_axis() {
        let attributes = [("axis", Attribute::Int(1)), ("opset", Attribute::Int(13))];
        let graph = graph("com.microsoft.QLinearSoftmax", &[2, 3, 2], &attributes);
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    x u8[2,3,2]
const xs f32[] [0.0625]
const xz u8[] [128.0]
const ys f32[] [0.00390625]
const yz u8[] [0.0]
      y = com.microsoft.QLinearSoftmax(x, xs, xz, ys, yz) axis=1 opset=13
out   y
=>
opset 13
in    x u8[2,3,2]
const xs f32[] [0.0625]
const xz u8[] [128.0]
const ys f32[] [0.00390625]
const yz u8[] [0.0]
      x.real = DequantizeLinear(x, xs, xz)
      y.real = Softmax(x.real) axis=1
      y = QuantizeLinear(y.real, ys, yz)
out   y
"
        );
    }

    #[test]
    fn softmax_of_old_goes_over_all_later_axes() {
        let attributes = [("axis", Attribute::Int(1)), ("opset", Attribute::Int(12))];
        let graph = graph("com.microsoft.QLinearSoftmax", &[2, 3, 2], &attributes);
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    x u8[2,3,2]
const xs f32[] [0.0625]
const xz u8[] [128.0]
const ys f32[] [0.00390625]
const yz u8[] [0.0]
      y = com.microsoft.QLinearSoftmax(x, xs, xz, ys, yz) axis=1 opset=12
out   y
=>
opset 13
in    x u8[2,3,2]
const xs f32[] [0.0625]
const xz u8[] [128.0]
const ys f32[] [0.00390625]
const yz u8[] [0.0]
const y.shape i64[3] [2.0, 3.0, 2.0]
      x.real = DequantizeLinear(x, xs, xz)
      y.flat = Flatten(x.real) axis=1
      y.softmax = Softmax(y.flat) axis=-1
      y.real = Reshape(y.softmax, y.shape)
      y = QuantizeLinear(y.real, ys, yz)
out   y
"
        );
    }

    #[test]
    fn activations_between_conversions() {
        let sigmoid = graph("com.microsoft.QLinearSigmoid", &[2, 3], &[]);
        keeps(&sigmoid);
        assert!(rewritten(sigmoid).contains("y.real = Sigmoid(x.real)"));
        let attributes = [("alpha", Attribute::Float(0.125))];
        let leaky = graph("com.microsoft.QLinearLeakyRelu", &[2, 3], &attributes);
        keeps(&leaky);
        assert!(rewritten(leaky).contains("y.real = LeakyRelu(x.real) alpha=0.125"));
    }

    #[test]
    fn a_missing_zero_point_has_the_type_of_the_input() {
        let graph = Draft::new(13)
            .input("x", ElementType::I8, &[4])
            .f32("xs", &[], &[0.0625])
            .f32("ys", &[], &[0.0078125])
            .node(
                "com.microsoft.QLinearSigmoid",
                &["x", "xs", "", "ys"],
                &["y"],
            )
            .output("y")
            .graph();
        keeps(&graph);
        assert!(rewritten(graph).contains("const y.zero i8[] [0.0]"));
    }
}
