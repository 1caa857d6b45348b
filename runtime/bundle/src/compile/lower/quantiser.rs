//! QuantizeLinear and DequantizeLinear.
//!
//! Quantising `k * t` with scale `s` gives the integer `round(t * k / s) + zero`, kept within
//! its type. The zero point is an integer, so the clamp may come first and without it:
//! `round(clamp(t * k / s, least - zero, most - zero))`, which is the next `t`, of scale `s`.
//! Dequantising is then nothing but knowing that. Exact numerics round, float numerics do
//! not; both clamp, because networks are trained into the saturation of their quantisers.
//!
//! Rounding half to even is adding and taking away [`MAGIC`]: at that size an f32 has no
//! fraction, and the addition rounds as the mode of every processor is, half to even. The
//! engine does both within the product before; its own rounding is a loop over the result.

use super::super::array::ElementType;
use super::super::error::CompileError;
use super::super::graph::{Node, ValueId};
use super::aim::is_scale;
use super::value::{Held, Integer, Lowering, Scaled, Steps, Weights, Zero};

/// 1.5 * 2^23, right for everything between -2^22 and 2^22.
const MAGIC: f32 = 12_582_912.0;

/// The parameters of a node.
enum Parameters {
    /// One constant for the whole tensor.
    Single { scale: f32, zero: i32 },
    /// One computed while running.
    Running,
    /// One for each element along an axis.
    Axis,
}

impl Lowering<'_> {
    /// Rounds half to even.
    pub(super) fn round(&mut self, value: ValueId, t: ValueId) -> ValueId {
        let magic = self.scalar(MAGIC);
        let high = self.emit("Add", value, &[t, magic]);
        self.emit("Sub", value, &[high, magic])
    }

    pub(super) fn quantise(&mut self, node: &Node) -> Result<(), CompileError> {
        let (Some(x), Some(scale), Some(q)) = (node.input(0), node.input(1), node.output()) else {
            self.copy(node);
            return Ok(());
        };
        let element = self.quantised_type(node);
        let (least, most) = element
            .integer_range()
            .ok_or_else(|| width(node, element))?;
        match self.parameters(node)? {
            Parameters::Single { scale, zero } => {
                let bounds = ((least - zero) as f32, (most - zero) as f32);
                let (t, steps) = self.quantised(q, x, scale, bounds);
                let zero = Zero::Known(zero);
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
            Parameters::Running => {
                let x = self.real(x);
                let scale = self.real(scale);
                let mut t = match self.is_exact() {
                    true => {
                        let ratio = self.quotient(q, x, scale);
                        self.round(q, ratio)
                    }
                    false => self.emit("Div", q, &[x, scale]),
                };
                if let Some(zero) = node.input(2) {
                    let zero = self.integer(zero);
                    let zero = self.shift(q, zero.t, zero.zero);
                    t = self.emit("Add", q, &[t, zero]);
                }
                let bounds = (least as f32, most as f32);
                let t = self.bounded(q, t, Steps::UNKNOWN, bounds);
                let steps = self.steps(bounds);
                let zero = Zero::Known(0);
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
            Parameters::Axis => self.copy(node),
        }
        Ok(())
    }

    pub(super) fn dequantise(&mut self, node: &Node) -> Result<(), CompileError> {
        let (Some(q), Some(scale), Some(x)) = (node.input(0), node.input(1), node.output()) else {
            self.copy(node);
            return Ok(());
        };
        let parameters = self.parameters(node)?;
        if let Some(weights) = self.weights(node, q, scale)? {
            self.hold(x, Held::Weights(weights));
            return Ok(());
        }
        match parameters {
            Parameters::Single { scale, zero } => {
                let Integer {
                    t,
                    zero: own,
                    steps,
                    ..
                } = self.integer(q);
                let mut scaled = Scaled::new(t, scale);
                match own {
                    Zero::Known(own) => {
                        let shift = own - zero;
                        scaled.t = self.shift(x, t, Zero::Known(shift));
                        scaled.steps = Steps {
                            least: steps.least + shift as f32,
                            most: steps.most + shift as f32,
                            whole: steps.whole,
                        };
                    }
                    Zero::Running { .. } => {
                        let whole = self.shift(x, t, own);
                        scaled.t = self.shift(x, whole, Zero::Known(-zero));
                    }
                }
                self.hold(x, Held::Scaled(scaled));
            }
            Parameters::Running => {
                let mut t = self.without_zero(x, q, node.input(2));
                let scale = self.real(scale);
                t = self.emit("Mul", x, &[t, scale]);
                self.hold(x, Held::Scaled(Scaled::new(t, 1.0)));
            }
            Parameters::Axis => self.copy(node),
        }
        Ok(())
    }

    /// The integer value `q` less a zero point, as a float tensor for `value`.
    pub(super) fn without_zero(
        &mut self,
        value: ValueId,
        q: ValueId,
        zero: Option<ValueId>,
    ) -> ValueId {
        let integer = self.integer(q);
        match (integer.zero, zero) {
            (Zero::Running { value: own, .. }, Some(zero)) if own == zero => integer.t,
            (own, None) => self.shift(value, integer.t, own),
            (own, Some(zero)) => match (own, self.constant(zero).and_then(single)) {
                (Zero::Known(own), Some(zero)) => {
                    self.shift(value, integer.t, Zero::Known(own - zero))
                }
                _ => {
                    let t = self.shift(value, integer.t, own);
                    let zero = self.integer(zero);
                    let zero = self.shift(value, zero.t, zero.zero);
                    self.emit("Sub", value, &[t, zero])
                }
            },
        }
    }

    /// `x` in steps of `scale`, within the bounds.
    fn quantised(
        &mut self,
        q: ValueId,
        x: ValueId,
        scale: f32,
        bounds: (f32, f32),
    ) -> (ValueId, Steps) {
        let held = self.scaled(x);
        let same = held.k == scale;
        let within = held.steps.least >= bounds.0 && held.steps.most <= bounds.1;
        if same && within && (held.steps.whole || !self.is_exact()) {
            return (held.t, held.steps);
        }
        if same && held.steps.whole {
            let t = self.bounded(q, held.t, held.steps, bounds);
            let steps = Steps {
                least: held.steps.least.max(bounds.0),
                most: held.steps.most.min(bounds.1),
                whole: true,
            };
            return (t, steps);
        }
        let ratio = (f64::from(held.k) / f64::from(scale)) as f32;
        let (t, steps, bounds) = match held.before {
            Some(bare) => {
                // The lower bound wins where both cannot hold, as in the clamp that was here.
                let least = (bare.least * ratio).max(bounds.0).min(bounds.1);
                let most = (bare.most * ratio).min(bounds.1).max(least);
                (bare.t, Steps::UNKNOWN, (least, most))
            }
            None => (held.t, held.steps, bounds),
        };
        let t = self.times(q, t, ratio);
        let known = Steps {
            least: steps.least * ratio,
            most: steps.most * ratio,
            whole: false,
        };
        let t = self.bounded(q, t, known, bounds);
        let t = match self.is_exact() {
            true => self.round(q, t),
            false => t,
        };
        (t, self.steps(bounds))
    }

    /// Clamps `t` where it is not known to lie inside.
    fn bounded(&mut self, q: ValueId, t: ValueId, known: Steps, bounds: (f32, f32)) -> ValueId {
        let mut t = t;
        if known.least < bounds.0 {
            let least = self.scalar(bounds.0);
            t = self.emit("Max", q, &[t, least]);
        }
        if known.most > bounds.1 {
            let most = self.scalar(bounds.1);
            t = self.emit("Min", q, &[t, most]);
        }
        t
    }

    fn steps(&self, (least, most): (f32, f32)) -> Steps {
        match self.is_exact() {
            true => Steps {
                least: least.round_ties_even(),
                most: most.round_ties_even(),
                whole: true,
            },
            false => Steps {
                least,
                most,
                whole: false,
            },
        }
    }

    fn quantised_type(&self, node: &Node) -> ElementType {
        let zero = node.input(2).and_then(|z| self.source.value(z).element);
        let said = node.int("output_dtype").and_then(|t| i32::try_from(t).ok());
        let said = said.filter(|t| *t != 0).map(ElementType);
        let told = node.output().and_then(|q| self.source.value(q).element);
        zero.or(said).or(told).unwrap_or(ElementType::U8)
    }

    fn parameters(&self, node: &Node) -> Result<Parameters, CompileError> {
        if node.int("block_size").is_some_and(|n| n != 0) {
            return Err(CompileError::unsupported(
                node.title(),
                "it has a scale for each block of elements",
                "quantise per tensor or per channel",
            ));
        }
        let scale = node.input(1).and_then(|s| self.constant(s));
        let zero = node.input(2).map(|z| self.constant(z));
        let (Some(scale), None | Some(Some(_))) = (scale, zero) else {
            return Ok(Parameters::Running);
        };
        let zero = zero.flatten();
        let Some(scales) = scale.as_f32() else {
            return Err(CompileError::unsupported(
                node.title(),
                format!("its scale is {}", scale.element()),
                "store the scales as float32",
            ));
        };
        if let Some(bad) = scales.iter().find(|s| !is_scale(**s)) {
            return Err(CompileError::unsupported(
                node.title(),
                format!("its scale {bad} is not a positive number"),
                "calibrate the quantiser on data that are not constant",
            ));
        }
        let zeros = zero.map(|z| z.to_i32().ok_or_else(|| width(node, z.element())));
        let zeros = zeros.transpose()?.unwrap_or_else(|| vec![0]);
        Ok(match (scales, zeros.as_slice()) {
            ([scale], [zero]) => Parameters::Single {
                scale: *scale,
                zero: *zero,
            },
            _ => Parameters::Axis,
        })
    }

    /// What a node over constants dequantises.
    fn weights(
        &self,
        node: &Node,
        q: ValueId,
        scale: ValueId,
    ) -> Result<Option<Weights>, CompileError> {
        let (Some(steps), Some(scale)) = (self.constant(q), self.constant(scale)) else {
            return Ok(None);
        };
        if steps.to_i32().is_none() {
            return Err(width(node, steps.element()));
        }
        let zero = node.input(2);
        let known = zero.is_none_or(|z| self.constant(z).is_some());
        let Some(scale) = scale.as_f32().filter(|_| known) else {
            return Ok(None);
        };
        // A zero point that is no more than said costs the engine a subtraction.
        let is_zero = |z: &ValueId| {
            let values = self.constant(*z).and_then(|a| a.to_i32());
            values.is_some_and(|v| v.iter().all(|v| *v == 0))
        };
        Ok(Some(Weights {
            q,
            scale: scale.to_vec(),
            zero: zero.filter(|z| !is_zero(z) || steps.element() == ElementType::U8),
            axis: node.int("axis").unwrap_or(1),
        }))
    }
}

fn single(array: &super::super::array::Array) -> Option<i32> {
    match array.to_i32()?.as_slice() {
        [value] => Some(*value),
        _ => None,
    }
}

fn width(node: &Node, element: ElementType) -> CompileError {
    CompileError::unsupported(
        node.title(),
        format!("it quantises to {element}"),
        "quantise to 8 or 16 bits",
    )
}
