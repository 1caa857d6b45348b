//! Quantisers that measure their range while running.
//!
//! DynamicQuantizeLinear takes the range of its input, zero included, for the scale of 8
//! unsigned bits. Exact numerics compute the same in floats: `t` is rounded and between
//! `-zero` and `255 - zero`, and scale and zero point are values of the lowered graph. In
//! float numerics nothing is left of it: the range is never exceeded, so without rounding the
//! quantiser changes nothing, and `t` is the input, of scale 1 and zero point 0.

use super::super::array::{Array, ElementType};
use super::super::graph::{Attribute, Node, ValueId};
use super::value::{Held, Integer, Lowering, Steps, Weights, Zero};

const MOST: f32 = 255.0;

impl Lowering<'_> {
    pub(super) fn quantise_dynamically(&mut self, node: &Node) {
        let output = |place: usize| node.outputs.get(place).copied().flatten();
        let (Some(x), Some(q)) = (node.input(0), output(0).or(output(1)).or(output(2))) else {
            return self.copy(node);
        };
        let x = self.real(x);
        let (t, scale, zero) = match self.is_exact() {
            true => self.measured(q, x),
            false => {
                let name = self.source_name(q);
                let one = self
                    .out
                    .add_constant(&format!("{name}/scale"), Array::scalar(1.0));
                let nil = self
                    .out
                    .add_constant(&format!("{name}/zero"), Array::scalar(0.0));
                (x, one, nil)
            }
        };
        let whole = self.is_exact();
        let element = ElementType::U8;
        let steps = Steps {
            whole,
            ..Steps::UNKNOWN
        };
        if let Some(q) = output(0) {
            let zero = match output(2) {
                Some(value) => Zero::Running { t: zero, value },
                None => Zero::Running { t: zero, value: q },
            };
            self.hold(
                q,
                Held::Integer(Integer {
                    t,
                    zero,
                    element,
                    steps,
                }),
            );
        }
        if let Some(value) = output(1) {
            let scale = super::value::Scaled::new(scale, 1.0);
            self.hold(value, Held::Scaled(scale));
        }
        if let Some(value) = output(2) {
            let integer = Integer {
                t: zero,
                zero: Zero::Known(0),
                element,
                steps: Steps {
                    whole: true,
                    ..Steps::UNKNOWN
                },
            };
            self.hold(value, Held::Integer(integer));
        }
    }

    /// `t`, scale and zero point by the operator's definition.
    fn measured(&mut self, q: ValueId, x: ValueId) -> (ValueId, ValueId, ValueId) {
        let nil = self.scalar(0.0);
        let most = self.scalar(MOST);
        let low = self.reduced("ReduceMin", q, x);
        let low = self.emit("Min", q, &[low, nil]);
        let high = self.reduced("ReduceMax", q, x);
        let high = self.emit("Max", q, &[high, nil]);
        let range = self.emit("Sub", q, &[high, low]);
        let scale = self.quotient(q, range, most);
        // All zeros would divide by zero.
        let tiny = self.scalar(f32::MIN_POSITIVE);
        let scale = self.emit("Max", q, &[scale, tiny]);
        let zero = self.quotient(q, low, scale);
        let zero = self.emit("Sub", q, &[nil, zero]);
        let zero = self.emit("Min", q, &[zero, most]);
        let zero = self.round(q, zero);
        let steps = self.quotient(q, x, scale);
        let least = self.emit("Sub", q, &[nil, zero]);
        let steps = self.emit("Max", q, &[steps, least]);
        let above = self.emit("Sub", q, &[most, zero]);
        let steps = self.emit("Min", q, &[steps, above]);
        (self.round(q, steps), scale, zero)
    }

    /// `a / b`, rounded once. tract multiplies by the inverse of every divisor, which is off by
    /// the last bit and moves what lies between two steps; in doubles that bit is far below.
    pub(super) fn quotient(&mut self, value: ValueId, a: ValueId, b: ValueId) -> ValueId {
        let a = self.emit_cast(value, a, ElementType::F64);
        let b = self.emit_cast(value, b, ElementType::F64);
        let ratio = self.emit("Div", value, &[a, b]);
        self.emit_cast(value, ratio, ElementType::F32)
    }

    fn reduced(&mut self, op: &str, q: ValueId, x: ValueId) -> ValueId {
        let name = self.source_name(q);
        let result = self.out.add_value(&format!("{name}/{}", op.to_lowercase()));
        let node = Node::new(&name, op, &[x], result);
        self.push(node.with("keepdims", Attribute::Int(0)));
        result
    }

    /// Constants `q` less their zero points, as floats for `w`.
    pub(super) fn whole(
        &mut self,
        w: ValueId,
        q: ValueId,
        zero: Option<ValueId>,
        channels: usize,
        axis: i64,
    ) -> ValueId {
        let weights = Weights {
            q,
            scale: vec![1.0; channels],
            zero,
            axis,
        };
        self.dequantised(w, &weights, 1.0)
    }
}
