//! Operators on single elements, and those that commute with a positive factor.
//!
//! Such an operator on `k * t` is `k` times the same operator on `t`. Joins of several values
//! need them in one scale: that of all if it is the same, else that of the next quantiser.
//! Products and quotients have the product and quotient of the scales.

use super::super::array::ElementType;
use super::super::graph::{Attribute, Node, ValueId};
use super::value::{Bare, Held, Lowering, Scaled, Steps};

/// Whether `op` of `k * x` is `k` times `op` of `x`, for its first input and positive `k`.
pub(super) fn scales(op: &str) -> bool {
    matches!(
        op,
        "AveragePool"
            | "GlobalAveragePool"
            | "LpPool"
            | "GlobalLpPool"
            | "ReduceMean"
            | "ReduceSum"
            | "ReduceL1"
            | "ReduceL2"
            | "LeakyRelu"
            | "PRelu"
            | "Abs"
            | "Neg"
            | "CumSum"
    )
}

/// Means of a part of the axes, which onnxruntime takes of real values; it sums steps for the
/// global one.
fn averages(op: &str) -> bool {
    matches!(op, "AveragePool" | "ReduceMean")
}

impl Lowering<'_> {
    /// The operator on `t` instead of `k * t`.
    pub(super) fn homogeneous(&mut self, node: &Node) {
        let (Some(x), Some(y)) = (node.input(0), node.output()) else {
            return self.copy(node);
        };
        let Held::Scaled(held) = self.held(x) else {
            return self.copy(node);
        };
        if self.integer_mean(node, &held) {
            return;
        }
        if self.is_exact() && held.steps.whole && averages(&node.op) {
            if !self.window_mean(node) {
                self.copy(node);
            }
            return;
        }
        let mut made = self.on(node, held.t);
        let t = self.result(y, held.k);
        made.outputs = vec![Some(t)];
        self.push(made);
        self.hold(y, Held::Scaled(Scaled::new(t, held.k)));
    }

    /// The node with `t` as its first input and real values for the others.
    pub(super) fn on(&mut self, node: &Node, t: ValueId) -> Node {
        let mut made = node.clone();
        for input in made.inputs.iter_mut().skip(1).flatten() {
            *input = self.real(*input);
        }
        if let Some(first) = made.inputs.first_mut() {
            *first = Some(t);
        }
        made
    }

    /// Operators whose results do not depend on the scale.
    pub(super) fn look(&mut self, node: &Node) {
        let Some(x) = node.input(0) else {
            return self.copy(node);
        };
        let t = match self.held(x) {
            Held::Scaled(scaled) => scaled.t,
            Held::Integer(integer) => integer.t,
            _ => return self.copy(node),
        };
        let made = self.on(node, t);
        self.push(made);
        for output in node.outputs.iter().flatten() {
            self.hold(*output, Held::Own);
        }
    }

    /// Relu and Clip; the tensor before is remembered for a quantiser.
    pub(super) fn clamp(&mut self, node: &Node) {
        let (Some(x), Some(y)) = (node.input(0), node.output()) else {
            return self.copy(node);
        };
        let relu = node.op == "Relu";
        let bound = |place: usize, open: f32| match node.input(place) {
            _ if relu => Some(open.max(0.0)),
            None => Some(open),
            Some(id) => self.constant(id).and_then(|a| a.as_single_f32()),
        };
        let bounds = bound(1, f32::NEG_INFINITY).zip(bound(2, f32::INFINITY));
        let held = match self.held(x) {
            Held::Scaled(held) => held,
            // What a quantiser reads next had best be seen through, whatever it comes from.
            Held::Own if self.aim(y).is_some() => Scaled::new(x, 1.0),
            _ => return self.copy(node),
        };
        let mut made = node.clone();
        made.inputs = vec![Some(held.t)];
        if !relu {
            for bound in node.inputs.iter().skip(1) {
                let bound = bound.map(|b| self.rescaled(b, 1.0 / held.k));
                made.inputs.push(bound);
            }
        }
        let t = self.result(y, held.k);
        made.outputs = vec![Some(t)];
        self.push(made);
        let mut scaled = Scaled::new(t, held.k);
        if let Some((least, most)) = bounds {
            let (least, most) = (least / held.k, most / held.k);
            let first = held.before.unwrap_or(Bare {
                t: held.t,
                least: f32::NEG_INFINITY,
                most: f32::INFINITY,
            });
            let within = |v: f32| v.max(least).min(most);
            scaled.before = Some(Bare {
                t: first.t,
                least: within(first.least),
                most: within(first.most),
            });
            let whole = |v: f32| v.is_infinite() || v.fract() == 0.0;
            scaled.steps = Steps {
                least: within(held.steps.least),
                most: within(held.steps.most),
                whole: held.steps.whole && whole(least) && whole(most),
            };
        }
        self.hold(y, Held::Scaled(scaled));
    }

    /// Operators that need all of their inputs in one scale.
    pub(super) fn join(&mut self, node: &Node) {
        let from = usize::from(node.op == "Where");
        let Some(y) = node.output() else {
            return self.copy(node);
        };
        let values: Vec<ValueId> = node.inputs.iter().skip(from).copied().flatten().collect();
        if node.op == "Concat" && self.concat_integers(node, &values, y) {
            return;
        }
        if self.quantised_sum(node, y) {
            return;
        }
        let Some(k) = self.common_scale(&values, y) else {
            return self.copy(node);
        };
        let mut made = node.clone();
        let factor = (1.0 / f64::from(k)) as f32;
        for input in made.inputs.iter_mut().skip(from).flatten() {
            *input = self.rescaled(*input, factor);
        }
        for input in made.inputs.iter_mut().take(from).flatten() {
            *input = self.real(*input);
        }
        let t = self.result(y, k);
        made.outputs = vec![Some(t)];
        self.push(made);
        let mut scaled = Scaled::new(t, k);
        if matches!(node.op.as_str(), "Concat" | "Max" | "Min" | "Where") {
            scaled.steps = self.hull(&values, k);
        }
        self.hold(y, Held::Scaled(scaled));
    }

    /// The scale that a join is made in; nothing when all inputs have their real values.
    fn common_scale(&self, values: &[ValueId], y: ValueId) -> Option<f32> {
        let mut scales = Vec::new();
        for &value in values {
            match self.held(value) {
                Held::Scaled(scaled) => scales.push(scaled.k),
                Held::Weights(_) => {}
                Held::Own if self.constant(value).is_some() => {}
                Held::Own | Held::Integer(_) => scales.push(1.0),
            }
        }
        let first = *scales.first()?;
        if scales.iter().all(|k| *k == first) {
            let absorbed = values
                .iter()
                .any(|v| matches!(self.held(*v), Held::Weights(_)));
            return (first != 1.0 || absorbed).then_some(first);
        }
        let other = scales.iter().copied().find(|k| *k != 1.0);
        self.aim(y).or(other)
    }

    /// What is known of elements that come from any of `values`, all held in scale `k`.
    fn hull(&self, values: &[ValueId], k: f32) -> Steps {
        let mut hull: Option<Steps> = None;
        for &value in values {
            let steps = match self.held(value) {
                Held::Scaled(scaled) if scaled.k == k => scaled.steps,
                _ => return Steps::UNKNOWN,
            };
            hull = Some(match hull {
                None => steps,
                Some(hull) => Steps {
                    least: hull.least.min(steps.least),
                    most: hull.most.max(steps.most),
                    whole: hull.whole && steps.whole,
                },
            });
        }
        hull.unwrap_or(Steps::UNKNOWN)
    }

    pub(super) fn multiply(&mut self, node: &Node) {
        let (Some(a), Some(b), Some(y)) = (node.input(0), node.input(1), node.output()) else {
            return self.copy(node);
        };
        let divides = node.op == "Div";
        let is_scaled = |v| matches!(self.held(v), Held::Scaled(s) if s.k != 1.0);
        if !is_scaled(a) && !is_scaled(b) {
            return self.copy(node);
        }
        // A positive factor for the whole tensor only changes the scale.
        for (value, other) in [(a, b), (b, a)] {
            let factor = self.constant(other).filter(|c| c.rank() == 0);
            let factor = factor.and_then(|c| c.as_single_f32());
            let Some(factor) = factor.filter(|c| super::aim::is_scale(*c)) else {
                continue;
            };
            if let Held::Scaled(held) = self.held(value)
                && (value == a || !divides)
            {
                let k = if divides {
                    held.k / factor
                } else {
                    held.k * factor
                };
                if super::aim::is_scale(k) {
                    self.hold(y, Held::Scaled(Scaled { k, ..held }));
                    return;
                }
            }
        }
        let (left, right) = (self.scaled(a), self.scaled(b));
        let k = if divides {
            left.k / right.k
        } else {
            left.k * right.k
        };
        if !super::aim::is_scale(k) {
            return self.copy(node);
        }
        let mut made = node.clone();
        made.inputs = vec![Some(left.t), Some(right.t)];
        let t = self.result(y, k);
        made.outputs = vec![Some(t)];
        self.push(made);
        self.hold(y, Held::Scaled(Scaled::new(t, k)));
    }

    /// A cast between float and integer; to f32 it is nothing but another reading of `t`.
    pub(super) fn cast(&mut self, node: &Node) {
        let (Some(x), Some(y)) = (node.input(0), node.output()) else {
            return self.copy(node);
        };
        let to_f32 = node.attributes.get("to") == Some(&Attribute::Int(ElementType::F32.0.into()));
        match self.held(x) {
            Held::Scaled(scaled) if to_f32 => self.hold(y, Held::Scaled(scaled)),
            Held::Integer(integer) if to_f32 && integer.steps.whole => {
                let t = self.shift(y, integer.t, integer.zero);
                self.hold(y, Held::Scaled(Scaled::new(t, 1.0)));
            }
            _ => self.copy(node),
        }
    }
}
