//! Products with weights: Conv, ConvTranspose, MatMul and Gemm.
//!
//! A product is linear in each of its factors, so `k_x * t_x` times weights `w` plus bias `b`
//! is `k * (t_x * (w * k_x / k) + b / k)` for any `k`. Weights and bias are constants: the
//! scale of the next quantiser is taken for `k`, and neither the scale of the input nor that
//! of the output costs anything while running. Zero padding stays zero, because `t` is zero
//! where the real value is. A product of two activations has the product of their scales.
//!
//! Exact numerics keep integers in both factors where a quantiser follows, so that the sum is
//! exact, and multiply it afterwards ([`Lowering::whole_factors`]): a network of many layers
//! makes of one sum that falls to the other side of a half many different steps at its end.
//! The engine fuses this factor, too.

use super::super::graph::{Attribute, Node, ValueId};
use super::value::{Held, Lowering, Scaled, Weights, is_byte};

/// A product of integers and what follows it.
struct WholeFactors {
    weights: ValueId,
    bias: Option<ValueId>,
    factor: ValueId,
    /// Scale of the result.
    k: f32,
}

/// Where the scales of `weights` lie in the product: the number of axes behind their axis, and
/// how often they repeat there. Nothing where they belong to an axis that is summed over.
fn output_axis(
    node: &Node,
    x_place: usize,
    rank: usize,
    weights: &Weights,
) -> Option<(usize, usize)> {
    if weights.scale.len() <= 1 {
        return Some((0, 1));
    }
    let rank_i64 = i64::try_from(rank).ok()?;
    let axis = match weights.axis {
        axis if axis < 0 => axis + rank_i64,
        axis => axis,
    };
    let transposed = |name: &str| i64::from(node.int(name).is_some_and(|t| t != 0));
    let (wanted, tail, repeats) = match node.op.as_str() {
        "Conv" => (0, rank.checked_sub(2)?, 1),
        "ConvTranspose" => {
            let groups = usize::try_from(node.int("group").unwrap_or(1)).ok()?;
            (1, rank.checked_sub(2)?, groups)
        }
        "Gemm" if x_place == 0 => (1 - transposed("transB"), 0, 1),
        "MatMul" if x_place == 0 && rank >= 2 => (rank_i64 - 1, 0, 1),
        _ => return None,
    };
    (axis == wanted).then_some((tail, repeats))
}

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
        let is_plain = |v: ValueId| matches!(self.held(v), Held::Own);
        if self.aim(y).is_none() && node.inputs.iter().flatten().all(|v| is_plain(*v)) {
            return self.copy(node);
        }
        let left = self.scaled(x);
        let (alpha, beta) = match node.op.as_str() {
            "Gemm" => (
                node.float("alpha").unwrap_or(1.0),
                node.float("beta").unwrap_or(1.0),
            ),
            _ => (1.0, 1.0),
        };
        if let Some(factors) = self.whole_factors(node, x_place, alpha, beta) {
            return self.whole_product(node, y, left.t, x_place, factors);
        }
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

    /// What a product of integers needs: weights and bias in units of `k_x` times the scale
    /// of the weights, and the factors that bring the sum into steps of the next quantiser.
    fn whole_factors(
        &mut self,
        node: &Node,
        x_place: usize,
        alpha: f32,
        beta: f32,
    ) -> Option<WholeFactors> {
        let (x, w) = (node.input(x_place)?, node.input(1 - x_place)?);
        let (Held::Scaled(left), Held::Weights(weights)) = (self.held(x), self.held(w)) else {
            return None;
        };
        let array = self.constant(weights.q)?;
        let k = self.aim(node.output()?)?;
        let bytes = is_byte(array.element());
        if !self.is_exact() || !left.steps.whole || !bytes || alpha <= 0.0 {
            return None;
        }
        let (tail, repeats) = output_axis(node, x_place, array.rank(), &weights)?;
        let units: Vec<f32> = weights.scale.iter().map(|s| left.k * s * alpha).collect();
        let units = units.repeat(repeats);
        let bias = match node.input(2) {
            Some(bias) => Some(self.bias_in_units(bias, &units, beta)?),
            None => None,
        };
        let channels = match weights.zero {
            Some(zero) => self.constant(zero)?.len(),
            None => 1,
        };
        let factors: Vec<f32> = units.iter().map(|unit| unit / k).collect();
        let mut shape = vec![1; tail];
        let factor = match factors.as_slice() {
            [single] => self.scalar(*single),
            _ => {
                shape.insert(0, factors.len());
                let name = self.source_name(w);
                self.add_f32(&format!("{name}/factor"), &shape, factors)
            }
        };
        let weights = self.whole(w, weights.q, weights.zero, channels, weights.axis);
        Some(WholeFactors {
            weights,
            bias,
            factor,
            k,
        })
    }

    /// A constant bias in units; quantised ones are in these units anyhow.
    fn bias_in_units(&mut self, bias: ValueId, units: &[f32], beta: f32) -> Option<ValueId> {
        let (shape, values) = self.constant_values(bias)?;
        let last = shape.last().copied().unwrap_or(1);
        if units.len() > 1 && values.len() != 1 && (last != units.len() || values.len() != last) {
            return None;
        }
        let quantised = matches!(self.held(bias), Held::Weights(_));
        let count = values.len().max(units.len());
        let each = (0..count).map(|place| {
            let value = values[place % values.len()];
            let unit = f64::from(units[place % units.len()]);
            let steps = value * f64::from(beta) / unit;
            let near = (steps - steps.round()).abs() <= steps.abs() * 1e-6;
            match quantised && near {
                true => steps.round() as f32,
                false => steps as f32,
            }
        });
        let each: Vec<f32> = each.collect();
        let shape = if each.len() == values.len() {
            shape
        } else {
            vec![count]
        };
        let name = self.source_name(bias);
        Some(self.add_f32(&format!("{name}/units"), &shape, each))
    }

    fn whole_product(
        &mut self,
        node: &Node,
        y: ValueId,
        t: ValueId,
        x_place: usize,
        factors: WholeFactors,
    ) {
        let mut product = node.clone();
        let mut both = [t, factors.weights];
        both.rotate_left(x_place);
        product.inputs = both.into_iter().chain(factors.bias).map(Some).collect();
        product.attributes.remove("beta");
        product.attributes.remove("alpha");
        let name = self.source_name(y);
        let sum = self.out.add_value(&format!("{name}/sum"));
        product.outputs = vec![Some(sum)];
        self.push(product);
        let t = self.result(y, factors.k);
        self.push(Node::new(&name, "Mul", &[sum, factors.factor], t));
        self.hold(y, Held::Scaled(Scaled::new(t, factors.k)));
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
        Some(self.whole(w, w, zero.map(|(id, _)| id), channels, axis))
    }
}
