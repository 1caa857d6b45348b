//! Quantised operators become DequantizeLinear, the float operator, QuantizeLinear.
//!
//! Matches `QLinearConv` and `QLinearMatMul`, and of onnxruntime's domain `QGemm`, the
//! `QLinear...` operators, its own `QuantizeLinear` and `DequantizeLinear`, and the two products
//! that give floats, which become `MatMulInteger`. Right because each of them is defined as that: the real numbers that the integers stand for, the
//! float operator, the result quantised. Sums of integers are exact where `f32` holds them, so
//! a result differs by one step at most, where a rounding falls on the other side. Constants
//! stay integers: a bias, whose scale the operators leave unsaid, gets the product of the
//! scales of input and weights. Outputs keep their names.
//!
//! What is left of other domains has no meaning that is known here, and is refused.

mod activation;
mod arithmetic;
mod convolution;
mod dynamic;
#[cfg(test)]
mod hostile;
mod pool;
mod product;
mod rewrite;
#[cfg(test)]
mod testing;

use rewrite::Rewrite;

use crate::compile::error::CompileError;
use crate::compile::graph::{Graph, Node};

/// Domain of onnxruntime's own operators.
const CONTRIB: &str = "com.microsoft";

type Rule = fn(&mut Rewrite<'_>) -> Result<(), CompileError>;

pub(super) fn run(graph: &mut Graph) -> Result<usize, CompileError> {
    let mut changed = 0;
    for node in std::mem::take(&mut graph.nodes) {
        match rule(&node) {
            Some(rule) => {
                let mut rewrite = Rewrite::new(graph, node);
                rule(&mut rewrite)?;
                rewrite.done();
                changed += 1;
            }
            None if node.is_standard() => graph.nodes.push(node),
            None => {
                return Err(CompileError::unsupported(
                    node.title(),
                    format!(
                        "operators of \"{}\" are not known, but for few",
                        node.domain
                    ),
                    "export the model with ONNX's own operators, and without the runtime's \
                     graph optimisation",
                ));
            }
        }
    }
    Ok(changed)
}

fn rule(node: &Node) -> Option<Rule> {
    let contrib = node.domain == CONTRIB;
    if !contrib && !node.is_standard() {
        return None;
    }
    Some(match node.op.as_str() {
        "QLinearConv" => convolution::conv,
        "QLinearMatMul" => product::matmul,
        _ if !contrib => return None,
        "QGemm" => product::gemm,
        "MatMulIntegerToFloat" => dynamic::matmul_to_float,
        "DynamicQuantizeMatMul" => dynamic::dynamic_matmul,
        "QLinearAdd" => arithmetic::add,
        "QLinearMul" => arithmetic::mul,
        "QLinearWhere" => arithmetic::choose,
        "QLinearConcat" => arithmetic::concat,
        "QLinearSigmoid" => activation::sigmoid,
        "QLinearLeakyRelu" => activation::leaky_relu,
        "QLinearSoftmax" => activation::softmax,
        "QLinearAveragePool" => pool::average,
        "QLinearGlobalAveragePool" => pool::global_average,
        "QLinearReduceMean" => pool::reduce_mean,
        "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" => standard,
        _ => return None,
    })
}

/// onnxruntime's copy of an operator that ONNX has.
fn standard(rewrite: &mut Rewrite<'_>) -> Result<(), CompileError> {
    let mut node = rewrite.node.clone();
    node.domain.clear();
    rewrite.push(node);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::testing::{keeps, refused, shown};
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;

    #[test]
    fn copies_of_standard_operators_become_standard() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 4])
            .f32("s", &[], &[0.5])
            .u8("z", &[], &[128])
            .node("com.microsoft.QuantizeLinear", &["x", "s", "z"], &["q"])
            .node("com.microsoft.DequantizeLinear", &["q", "s", "z"], &["y"])
            .output("y")
            .graph();
        keeps(&graph);
        assert_eq!(
            shown(graph),
            "\
opset 13
in    x f32[1,4]
const s f32[] [0.5]
const z u8[] [128.0]
      q = com.microsoft.QuantizeLinear(x, s, z)
      y = com.microsoft.DequantizeLinear(q, s, z)
out   y
=>
opset 13
in    x f32[1,4]
const s f32[] [0.5]
const z u8[] [128.0]
      q = QuantizeLinear(x, s, z)
      y = DequantizeLinear(q, s, z)
out   y
"
        );
    }

    #[test]
    fn what_is_not_known_is_refused_with_a_reason() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 4])
            .node("com.example.Own", &["x"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            refused(graph),
            "com.example.Own \"y\" cannot be compiled: operators of \"com.example\" are not \
             known, but for few; export the model with ONNX's own operators, and without the \
             runtime's graph optimisation"
        );
    }
}
