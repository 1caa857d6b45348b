//! Where onnxruntime's integer kernels decide a half of a step, for exact numerics.
//!
//! A sum of two quantised values is `round(a * k_a / k + b * k_b / k)` by definition. The kernel
//! takes the integers with their zero points and one constant for both of these: the same but
//! for the last bits of an f32. For integers that fall on a half of a step these bits decide,
//! and a residual network has such a pair in many places. Models are validated with these
//! kernels, so it is computed in the same order here.

use super::super::array::{Array, ElementType};
use super::super::graph::{Node, ValueId};
use super::value::{Held, Lowering, Scaled};

impl Lowering<'_> {
    /// Adds two quantised values in the scale of the next quantiser; whether it was that.
    pub(super) fn quantised_sum(&mut self, node: &Node, y: ValueId) -> bool {
        let (Some(a), Some(b), Some(k)) = (node.input(0), node.input(1), self.aim(y)) else {
            return false;
        };
        let (Held::Scaled(left), Held::Scaled(right)) = (self.held(a), self.held(b)) else {
            return false;
        };
        let whole = left.steps.whole && right.steps.whole;
        let (Some(low), Some(high)) = (self.zero_point(a), self.zero_point(b)) else {
            return false;
        };
        if !node.is("Add") || node.inputs.len() != 2 || !self.is_exact() || !whole {
            return false;
        }
        let (first, second) = (left.k / k, right.k / k);
        let constant = 0.0 - (low * first + high * second);
        let left = self.shifted(y, left.t, low);
        let left = self.times(y, left, first);
        let right = self.shifted(y, right.t, high);
        let right = self.times(y, right, second);
        let right = self.shifted(y, right, constant);
        let t = self.result(y, k);
        self.push(Node::new(&node.name, "Add", &[left, right], t));
        self.hold(y, Held::Scaled(Scaled::new(t, k)));
        true
    }

    fn shifted(&mut self, value: ValueId, t: ValueId, by: f32) -> ValueId {
        if by == 0.0 {
            return t;
        }
        let by = self.scalar(by);
        self.emit("Add", value, &[t, by])
    }

    fn zero_point(&self, value: ValueId) -> Option<f32> {
        let zero = self.zero_of(value)?;
        let byte = matches!(zero.element(), ElementType::U8 | ElementType::I8);
        match zero.to_i32()?.as_slice() {
            [zero] if byte => Some(*zero as f32),
            _ => None,
        }
    }

    /// The zero point of what `value` was dequantised from.
    pub(super) fn zero_of(&self, value: ValueId) -> Option<&Array> {
        let mut nodes = self.source.nodes.iter();
        let maker = nodes.find(|n| n.output() == Some(value))?;
        let zero = maker.input(2).filter(|_| maker.is("DequantizeLinear"))?;
        self.constant(zero)
    }
}
