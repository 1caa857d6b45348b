//! Products with weights: Conv, ConvTranspose, MatMul and Gemm.
//!
//! A product is linear in each of its factors, so `k_x * t_x` times weights `w` plus bias `b`
//! is `k * (t_x * (w * k_x / k) + b / k)` for any `k`. Weights and bias are constants: the
//! scale of the next quantiser is taken for `k`, and neither the scale of the input nor that
//! of the output costs anything while running. Zero padding stays zero, because `t` is zero
//! where the real value is. A product of two activations has the product of their scales.

use super::super::graph::{Attribute, Node, ValueId};
use super::value::{Held, Lowering, Scaled};

impl Lowering<'_> {
    pub(super) fn product(&mut self, node: &Node) {
        let (Some(a), Some(b), Some(y)) = (node.input(0), node.input(1), node.output()) else {
            return self.copy(node);
        };
        // MatMul and Gemm may have their constant on either side.
        let (x, w, x_place) = match (self.absorbs(b), self.absorbs(a)) {
            (false, true) => (b, a, 1),
            _ => (a, b, 0),
        };
        let absorbs = self.absorbs(w) && !self.absorbs(x);
        let left = self.scaled(x);
        let (alpha, beta) = match node.op.as_str() {
            "Gemm" => (
                node.float("alpha").unwrap_or(1.0),
                node.float("beta").unwrap_or(1.0),
            ),
            _ => (1.0, 1.0),
        };
        let (k, other) = match absorbs {
            true => {
                let k = self.aim(y).unwrap_or(1.0);
                let factor = (f64::from(left.k) * f64::from(alpha) / f64::from(k)) as f32;
                (k, self.rescaled(w, factor))
            }
            false => {
                let right = self.scaled(w);
                (left.k * right.k * alpha.abs(), right.t)
            }
        };
        let bias = node.input(2).map(|b| {
            let factor = (f64::from(beta) / f64::from(k)) as f32;
            self.rescaled(b, factor)
        });
        let mut factors = [left.t, other];
        factors.rotate_left(x_place);
        let mut product = node.clone();
        product.inputs = factors.iter().copied().chain(bias).map(Some).collect();
        product.attributes.remove("beta");
        product.attributes.remove("alpha");
        if !absorbs && alpha < 0.0 {
            let sign = Attribute::Float(-1.0);
            product = product.with("alpha", sign);
        }
        let t = self.result(y, k);
        product.outputs = vec![Some(t)];
        self.push(product);
        self.hold(y, Held::Scaled(Scaled::new(t, k)));
    }

    /// A product of integers: the same on floats, exact up to 2^24.
    pub(super) fn integer_product(&mut self, node: &Node) {
        let (Some(x), Some(w), Some(y)) = (node.input(0), node.input(1), node.output()) else {
            return self.copy(node);
        };
        let left = self.without_zero(y, x, node.input(2));
        let right = match self.whole_weights(node, w) {
            Some(weights) => weights,
            None => self.without_zero(y, w, node.input(3)),
        };
        let mut product = node.clone();
        product.op = match node.op.as_str() {
            "ConvInteger" => "Conv".to_owned(),
            _ => "MatMul".to_owned(),
        };
        product.inputs = vec![Some(left), Some(right)];
        let t = self.integer_result(y);
        product.outputs = vec![Some(t)];
        self.push(product);
        self.hold_integer(y, t);
    }

    /// Constant weights of an integer product, less their zero points, as floats.
    fn whole_weights(&mut self, node: &Node, w: ValueId) -> Option<ValueId> {
        let array = self.constant(w)?;
        let zero = match node.input(3) {
            Some(zero) => Some((zero, self.constant(zero)?)),
            None => None,
        };
        let channels = zero.map_or(1, |(_, z)| z.len());
        let axis = match node.op.as_str() {
            "ConvInteger" => 0,
            _ => i64::try_from(array.rank()).ok()? - 1,
        };
        Some(self.whole(w, zero.map(|(id, _)| id), channels, axis))
    }
}
