//! Operators that only move elements or choose among them.
//!
//! They mean the same on `t` as on what it stands for, scaled or integer, and keep what is
//! known of the elements. Padding puts in a constant, which is brought into the same scale.

use super::super::array::{Array, ElementType};
use super::super::graph::{Node, ValueId};
use super::value::{Held, Integer, Lowering, Scaled, Steps, Zero};

/// Whether every element of the results is one of the first input.
pub(super) fn moves(op: &str) -> bool {
    matches!(
        op,
        "Reshape"
            | "Transpose"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Identity"
            | "Dropout"
            | "Slice"
            | "Split"
            | "Gather"
            | "Expand"
            | "Tile"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "MaxPool"
            | "GlobalMaxPool"
            | "ReduceMax"
            | "ReduceMin"
    )
}

impl Lowering<'_> {
    pub(super) fn layout(&mut self, node: &Node) {
        let Some(x) = node.input(0) else {
            return self.copy(node);
        };
        let held = self.held(x);
        let t = match &held {
            Held::Scaled(scaled) => scaled.t,
            Held::Integer(integer) => integer.t,
            Held::Own | Held::Weights(_) => return self.copy(node),
        };
        let mut made = self.on(node, t);
        // Other results are masks and places, and mean what they meant.
        let moved = if node.op == "Split" {
            node.outputs.len()
        } else {
            1
        };
        let outputs = node.outputs.iter().copied().enumerate();
        made.outputs = outputs
            .map(|(place, output)| {
                let output = output?;
                if place >= moved {
                    self.hold(output, Held::Own);
                    return Some(output);
                }
                Some(match held {
                    Held::Scaled(scaled) => {
                        let t = self.result(output, scaled.k);
                        let moved = Scaled {
                            t,
                            before: None,
                            ..scaled
                        };
                        self.hold(output, Held::Scaled(moved));
                        t
                    }
                    Held::Integer(integer) => {
                        let t = self.integer_result(output);
                        self.hold(output, Held::Integer(Integer { t, ..integer }));
                        t
                    }
                    _ => output,
                })
            })
            .collect();
        self.push(made);
    }

    pub(super) fn pad(&mut self, node: &Node) {
        let (Some(x), Some(y)) = (node.input(0), node.output()) else {
            return self.copy(node);
        };
        let constant = node.text("mode").is_none_or(|mode| mode == "constant");
        if !constant {
            return self.layout(node);
        }
        let mut made = node.clone();
        let value = node.input(2);
        let (t, filling) = match self.held(x) {
            Held::Scaled(scaled) => {
                let filling = value.map(|v| self.rescaled(v, 1.0 / scaled.k));
                (scaled.t, filling)
            }
            Held::Integer(integer) => {
                let given = value.map(|v| self.constant(v).and_then(Array::to_i32));
                let given = match given {
                    None => Some(0),
                    Some(Some(values)) => values.first().copied(),
                    Some(None) => None,
                };
                let (Some(given), Zero::Known(zero)) = (given, integer.zero) else {
                    return self.copy(node);
                };
                (integer.t, Some(self.scalar((given - zero) as f32)))
            }
            _ => return self.copy(node),
        };
        made.inputs[0] = Some(t);
        // Widths and axes may be computed by the graph, and mean what they meant.
        for place in [1, 3] {
            if let Some(Some(input)) = made.inputs.get_mut(place) {
                *input = self.real(*input);
            }
        }
        if let Some(filling) = filling {
            made.inputs.resize(made.inputs.len().max(3), None);
            made.inputs[2] = Some(filling);
        }
        match self.held(x) {
            Held::Integer(integer) => {
                let t = self.integer_result(y);
                made.outputs = vec![Some(t)];
                let steps = Steps::UNKNOWN;
                let whole = integer.steps.whole;
                let steps = Steps { whole, ..steps };
                self.hold(
                    y,
                    Held::Integer(Integer {
                        t,
                        steps,
                        ..integer
                    }),
                );
            }
            _ => {
                let k = self.scaled(x).k;
                let t = self.result(y, k);
                made.outputs = vec![Some(t)];
                self.hold(y, Held::Scaled(Scaled::new(t, k)));
            }
        }
        self.push(made);
    }

    /// Concat of integer values, if one of them is held as floats. They may differ in their
    /// zero points: those of the first hold for all.
    pub(super) fn concat_integers(&mut self, node: &Node, values: &[ValueId], y: ValueId) -> bool {
        let is_integer = |v: &ValueId| matches!(self.held(*v), Held::Integer(_));
        let Some(first) = values.iter().copied().find(|v| is_integer(v)) else {
            return false;
        };
        let first = self.integer(first);
        let Zero::Known(zero) = first.zero else {
            return false;
        };
        let mut steps = first.steps;
        let mut inputs = Vec::with_capacity(values.len());
        for &value in values {
            let integer = self.integer(value);
            let t = match integer.zero {
                Zero::Known(own) => self.shift(value, integer.t, Zero::Known(own - zero)),
                Zero::Running { .. } => {
                    let whole = self.shift(value, integer.t, integer.zero);
                    self.shift(value, whole, Zero::Known(-zero))
                }
            };
            steps.whole &= integer.steps.whole;
            if integer.zero != first.zero {
                steps = Steps {
                    whole: steps.whole,
                    ..Steps::UNKNOWN
                };
            } else {
                steps.least = steps.least.min(integer.steps.least);
                steps.most = steps.most.max(integer.steps.most);
            }
            inputs.push(Some(t));
        }
        let mut made = node.clone();
        made.inputs = inputs;
        let t = self.integer_result(y);
        made.outputs = vec![Some(t)];
        self.push(made);
        self.hold(y, Held::Integer(Integer { t, steps, ..first }));
        true
    }

    /// A new float value for an integer one.
    pub(super) fn integer_result(&mut self, value: ValueId) -> ValueId {
        let name = self.source_name(value);
        self.out.add_value(&format!("{name}/steps"))
    }

    /// Holds `t` as the 32-bit integers `value`.
    pub(super) fn hold_integer(&mut self, value: ValueId, t: ValueId) {
        let steps = Steps {
            whole: true,
            ..Steps::UNKNOWN
        };
        self.hold(
            value,
            Held::Integer(Integer {
                t,
                zero: Zero::Known(0),
                element: ElementType::I32,
                steps,
            }),
        );
    }
}
