//! Writes a canonical graph for the engine.
//!
//! The engine is quick and right on float operators only, so the lowered graph has no
//! quantised ones: it computes with tensors `t` of f32 that hold quantised integers less their
//! zero point, and knows beside each the scale `k` that makes a real number of it (real =
//! `k * t`). A walk over the nodes in their order finds `t` and `k` of every value
//! ([`value`]); scales go into the weights, which stay int8 in the file under a
//! `DequantizeLinear` of constants that the engine folds on loading ([`linear`]). What is left
//! of a quantiser is two clamps and, in exact numerics, a rounding ([`quantiser`]). Operators
//! that are not known here get the real values and are copied as they are.
//!
//! Nothing is computed but constants, and no value of the original graph changes its meaning
//! under its own name: outputs and values that inner graphs capture are written back.

mod aim;
mod dynamic;
mod elementwise;
mod kernel;
mod layout;
mod linear;
mod mean;
mod quantiser;
mod value;

#[cfg(test)]
mod tests;

use super::Numerics;
use super::error::CompileError;
use super::graph::{Graph, Node};
use value::{Held, Lowering};

/// Makes of a canonical graph the one that tract runs.
pub(super) fn lower(graph: &Graph, numerics: Numerics) -> Result<Graph, CompileError> {
    let mut lowering = Lowering::new(graph, numerics);
    for node in &graph.nodes {
        lowering.node(node)?;
    }
    for &output in &graph.outputs {
        lowering.own(output);
    }
    Ok(lowering.finish())
}

impl Lowering<'_> {
    fn node(&mut self, node: &Node) -> Result<(), CompileError> {
        if !node.captures.is_empty() || !node.is_standard() {
            self.copy(node);
            return Ok(());
        }
        match node.op.as_str() {
            "QuantizeLinear" => return self.quantise(node),
            "DequantizeLinear" => return self.dequantise(node),
            "DynamicQuantizeLinear" => self.quantise_dynamically(node),
            "ConvInteger" | "MatMulInteger" => self.integer_product(node),
            "Conv" | "ConvTranspose" | "MatMul" | "Gemm" => self.product(node),
            "Add" | "Sub" | "Sum" | "Mean" | "Max" | "Min" | "Concat" | "Where" => self.join(node),
            "Mul" | "Div" => self.multiply(node),
            "Relu" | "Clip" => self.clamp(node),
            "Pad" => self.pad(node),
            "Cast" => self.cast(node),
            "Shape" | "Size" | "ArgMax" | "ArgMin" => self.look(node),
            op if layout::moves(op) => self.layout(node),
            op if elementwise::scales(op) => self.homogeneous(node),
            _ => self.copy(node),
        }
        Ok(())
    }

    /// The node as it is, on real values.
    fn copy(&mut self, node: &Node) {
        let mut copy = node.clone();
        for input in copy.inputs.iter_mut().flatten() {
            *input = self.real(*input);
        }
        for &captured in &node.captures {
            self.own(captured);
        }
        self.push(copy);
        for output in node.outputs.iter().flatten() {
            self.hold(*output, Held::Own);
        }
    }
}
