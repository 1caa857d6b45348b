//! What the lowered graph has for each value of the original one, and how to come by it in
//! another scale.
//!
//! A value of the original graph keeps its identity in the lowered graph, and if it is made
//! there it has its original meaning and type. Beside that it may be held as a float tensor
//! of another identity: as `k * t`, or as integers less a zero point.

use std::collections::{HashMap, HashSet};

use super::super::Numerics;
use super::super::array::{Array, Data, ElementType};
use super::super::graph::{Attribute, Graph, Node, ValueId};
use super::aim;

/// How the lowered graph has a value.
#[derive(Clone)]
pub(super) enum Held {
    /// Under its own identity; what the original graph has for it.
    Own,
    /// A float value as a scaled tensor.
    Scaled(Scaled),
    /// An integer value as a float tensor.
    Integer(Integer),
    /// Quantised constants that nothing has made floats of yet.
    Weights(Weights),
}

/// A float value `k * t`.
#[derive(Clone, Copy)]
pub(super) struct Scaled {
    pub(super) t: ValueId,
    /// Positive.
    pub(super) k: f32,
    pub(super) steps: Steps,
    /// The tensor before a clamp that made `t`, so that a quantiser, which clamps anyhow,
    /// need not wait for it.
    pub(super) before: Option<Bare>,
}

/// A tensor of the same scale, and the bounds that were put to it afterwards.
#[derive(Clone, Copy)]
pub(super) struct Bare {
    pub(super) t: ValueId,
    pub(super) least: f32,
    pub(super) most: f32,
}

/// What is known of the elements of a tensor.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// No element lies outside.
    pub(super) least: f32,
    pub(super) most: f32,
    /// All are integers, where integers are wanted at all.
    pub(super) whole: bool,
}

/// An integer value `t + zero`.
#[derive(Clone, Copy)]
pub(super) struct Integer {
    pub(super) t: ValueId,
    pub(super) zero: Zero,
    pub(super) element: ElementType,
    pub(super) steps: Steps,
}

/// The zero point of an integer value.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Zero {
    Known(i32),
    /// A float scalar of the lowered graph, and the value of the original graph that it is.
    Running {
        t: ValueId,
        value: ValueId,
    },
}

/// Constants `(q - zero) * scale`.
#[derive(Clone)]
pub(super) struct Weights {
    pub(super) q: ValueId,
    pub(super) scale: Vec<f32>,
    pub(super) zero: Option<ValueId>,
    pub(super) axis: i64,
}

impl Steps {
    pub(super) const UNKNOWN: Self = Self {
        least: f32::NEG_INFINITY,
        most: f32::INFINITY,
        whole: false,
    };
}

impl Scaled {
    pub(super) fn new(t: ValueId, k: f32) -> Self {
        Self {
            t,
            k,
            steps: Steps::UNKNOWN,
            before: None,
        }
    }
}

/// The walk over the original graph.
pub(super) struct Lowering<'a> {
    pub(super) source: &'a Graph,
    pub(super) out: Graph,
    pub(super) numerics: Numerics,
    /// The scale that suits the next quantiser behind a value.
    aims: HashMap<ValueId, f32>,
    held: HashMap<ValueId, Held>,
    /// Values held otherwise that were also made under their own identity.
    owned: HashSet<ValueId>,
    /// Values that were made in another scale, by the factor's bits.
    rescaled: HashMap<(ValueId, u32), ValueId>,
    scalars: HashMap<u32, ValueId>,
    casts: HashMap<ValueId, ValueId>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(source: &'a Graph, numerics: Numerics) -> Self {
        let mut out = source.clone();
        out.nodes.clear();
        Self {
            source,
            out,
            numerics,
            aims: aim::all(source),
            held: HashMap::new(),
            owned: HashSet::new(),
            rescaled: HashMap::new(),
            scalars: HashMap::new(),
            casts: HashMap::new(),
        }
    }

    pub(super) fn finish(mut self) -> Graph {
        self.out.sweep();
        // The engine wants one name for each node, other than those of inputs and constants.
        for place in 0..self.out.nodes.len() {
            let first = self.out.nodes[place].outputs.iter().flatten().next();
            if let Some(name) = first.map(|id| self.out.name(*id).to_owned()) {
                self.out.nodes[place].name = name;
            }
        }
        self.out
    }

    pub(super) fn is_exact(&self) -> bool {
        self.numerics == Numerics::Exact
    }

    pub(super) fn push(&mut self, node: Node) {
        self.out.nodes.push(node);
    }

    /// Adds a node for `value`, and a result of its own.
    pub(super) fn emit(&mut self, op: &str, value: ValueId, inputs: &[ValueId]) -> ValueId {
        let name = self.source_name(value);
        let result = self.out.add_value(&format!("{name}/{}", op.to_lowercase()));
        self.push(Node::new(&name, op, inputs, result));
        result
    }

    /// Adds a cast of `t` to `element` for `value`.
    pub(super) fn emit_cast(
        &mut self,
        value: ValueId,
        t: ValueId,
        element: ElementType,
    ) -> ValueId {
        let name = self.source_name(value);
        let result = self.out.add_value(&format!("{name}/{element}"));
        let to = Attribute::Int(i64::from(element.0));
        self.push(Node::new(&name, "Cast", &[t], result).with("to", to));
        result
    }

    pub(super) fn source_name(&self, value: ValueId) -> String {
        self.out.name(value).to_owned()
    }

    /// A new value for what stands for `value` in scale `k`: itself if that is its meaning.
    pub(super) fn result(&mut self, value: ValueId, k: f32) -> ValueId {
        if k == 1.0 {
            self.owned.insert(value);
            return value;
        }
        let name = self.source_name(value);
        self.out.add_value(&format!("{name}/steps"))
    }

    pub(super) fn hold(&mut self, value: ValueId, held: Held) {
        self.held.insert(value, held);
    }

    pub(super) fn held(&self, value: ValueId) -> Held {
        self.held.get(&value).cloned().unwrap_or(Held::Own)
    }

    pub(super) fn aim(&self, value: ValueId) -> Option<f32> {
        self.aims.get(&value).copied()
    }

    pub(super) fn scalar(&mut self, value: f32) -> ValueId {
        if let Some(known) = self.scalars.get(&value.to_bits()) {
            return *known;
        }
        let id = self
            .out
            .add_constant(&format!("{value}"), Array::scalar(value));
        self.scalars.insert(value.to_bits(), id);
        id
    }

    /// The elements of a float constant of the original graph.
    pub(super) fn constant(&self, value: ValueId) -> Option<&'a Array> {
        self.source.constant(value)
    }

    /// Whether a scale can go into `value` while the model is compiled.
    pub(super) fn absorbs(&self, value: ValueId) -> bool {
        match self.held(value) {
            Held::Weights(_) => true,
            Held::Own => self.constant(value).is_some_and(|a| a.as_f32().is_some()),
            _ => false,
        }
    }

    /// `value` as a scaled tensor, whatever it is.
    pub(super) fn scaled(&mut self, value: ValueId) -> Scaled {
        match self.held(value) {
            Held::Scaled(scaled) => scaled,
            _ => Scaled::new(self.own(value), 1.0),
        }
    }

    /// A value with the real meaning of `value`, by any identity.
    pub(super) fn real(&mut self, value: ValueId) -> ValueId {
        match self.held(value) {
            Held::Scaled(scaled) if scaled.k == 1.0 => scaled.t,
            _ => self.own(value),
        }
    }

    /// `value` itself, with its meaning and type.
    pub(super) fn own(&mut self, value: ValueId) -> ValueId {
        let held = self.held(value);
        if matches!(held, Held::Own) || !self.owned.insert(value) {
            return value;
        }
        let name = self.source_name(value);
        match held {
            Held::Own => {}
            Held::Scaled(scaled) if scaled.k == 1.0 => {
                self.push(Node::new(&name, "Identity", &[scaled.t], value));
            }
            Held::Scaled(scaled) => {
                let k = self.scalar(scaled.k);
                self.push(Node::new(&name, "Mul", &[scaled.t, k], value));
            }
            Held::Integer(integer) => {
                let t = match integer.steps.whole {
                    true => integer.t,
                    false => self.round(value, integer.t),
                };
                let q = self.shift(value, t, integer.zero);
                let to = Attribute::Int(i64::from(integer.element.0));
                self.push(Node::new(&name, "Cast", &[q], value).with("to", to));
            }
            Held::Weights(weights) => {
                let made = self.dequantised(value, &weights, 1.0);
                self.push(Node::new(&name, "Identity", &[made], value));
            }
        }
        value
    }

    /// `t + zero`.
    pub(super) fn shift(&mut self, value: ValueId, t: ValueId, zero: Zero) -> ValueId {
        let zero = match zero {
            Zero::Known(0) => return t,
            Zero::Known(zero) => self.scalar(zero as f32),
            Zero::Running { t, .. } => t,
        };
        self.emit("Add", value, &[t, zero])
    }

    /// `t * factor`.
    pub(super) fn times(&mut self, value: ValueId, t: ValueId, factor: f32) -> ValueId {
        if factor == 1.0 {
            return t;
        }
        let factor = self.scalar(factor);
        self.emit("Mul", value, &[t, factor])
    }

    /// `value * factor`: constants while compiling, others by a multiplication unless they
    /// are held in just the right scale.
    pub(super) fn rescaled(&mut self, value: ValueId, factor: f32) -> ValueId {
        if let Held::Scaled(scaled) = self.held(value)
            && is_one(scaled.k, factor)
        {
            return scaled.t;
        }
        let key = (value, factor.to_bits());
        if let Some(known) = self.rescaled.get(&key) {
            return *known;
        }
        let made = match self.held(value) {
            Held::Weights(weights) => self.dequantised(value, &weights, factor),
            Held::Scaled(scaled) => self.times(value, scaled.t, scaled.k * factor),
            _ if factor == 1.0 => self.own(value),
            Held::Own => match self
                .constant(value)
                .and_then(|a| a.as_f32().map(|v| (a, v)))
            {
                Some((array, values)) => {
                    let values = values.iter().map(|v| v * factor).collect();
                    let name = self.source_name(value);
                    self.add_f32(&format!("{name}/scaled"), array.shape(), values)
                }
                None => self.times(value, value, factor),
            },
            Held::Integer(_) => {
                let own = self.own(value);
                self.times(value, own, factor)
            }
        };
        self.rescaled.insert(key, made);
        made
    }

    pub(super) fn add_f32(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> ValueId {
        let array = Array::new(shape.to_vec(), Data::F32(values));
        let array = array.unwrap_or_else(|| Array::row(Vec::new()));
        self.out.add_constant(name, array)
    }

    /// `(q - zero) * scale * factor` of constants. Bytes stay bytes under an operator that the
    /// engine folds; anything wider, which biases are, is computed here.
    pub(super) fn dequantised(
        &mut self,
        value: ValueId,
        weights: &Weights,
        factor: f32,
    ) -> ValueId {
        let name = self.source_name(value);
        let scale: Vec<f32> = weights.scale.iter().map(|s| s * factor).collect();
        let per_axis = scale.len() > 1;
        let q = self.constant(weights.q);
        if let Some(q) = q.filter(|q| !is_byte(q.element())) {
            let values = self.computed(q, weights, factor).unwrap_or_default();
            let values = values.into_iter().map(|v| v as f32).collect();
            return self.add_f32(&format!("{name}/scaled"), q.shape(), values);
        }
        let scale = match scale.as_slice() {
            [single] => Array::scalar(*single),
            _ => Array::row(scale),
        };
        let scale = self.out.add_constant(&format!("{name}/scale"), scale);
        let result = self.out.add_value(&format!("{name}/weights"));
        let mut inputs = vec![weights.q, scale];
        inputs.extend(weights.zero);
        let mut node = Node::new(&name, "DequantizeLinear", &inputs, result);
        if per_axis {
            node = node.with("axis", Attribute::Int(weights.axis));
        }
        self.push(node);
        result
    }

    /// Shape and elements of a constant, whether floats or quantised ones.
    pub(super) fn constant_values(&self, value: ValueId) -> Option<(Vec<usize>, Vec<f64>)> {
        let (array, values) = match self.held(value) {
            Held::Weights(weights) => {
                let q = self.constant(weights.q)?;
                (q, self.computed(q, &weights, 1.0)?)
            }
            _ => {
                let array = self.constant(value)?;
                (
                    array,
                    array.as_f32()?.iter().map(|v| f64::from(*v)).collect(),
                )
            }
        };
        (!values.is_empty()).then(|| (array.shape().to_vec(), values))
    }

    fn computed(&self, q: &Array, weights: &Weights, factor: f32) -> Option<Vec<f64>> {
        let zero = match weights.zero {
            Some(zero) => self.constant(zero)?.to_i32()?,
            None => vec![0],
        };
        let rank = i64::try_from(q.rank()).ok()?;
        let axis = if weights.axis < 0 {
            weights.axis + rank
        } else {
            weights.axis
        };
        let axis = usize::try_from(axis).ok()?;
        let inner: usize = q.shape().iter().skip(axis + 1).product();
        let channels = q.shape().get(axis).copied().unwrap_or(1).max(1);
        let of = |values: usize, place: usize| match values {
            1 => 0,
            _ => place / inner.max(1) % channels,
        };
        let steps = q.to_i32()?;
        let value = |(place, step): (usize, i32)| {
            let zero = zero.get(of(zero.len(), place)).copied().unwrap_or(0);
            let scale = weights.scale.get(of(weights.scale.len(), place)).copied();
            let real = f64::from(step) - f64::from(zero);
            real * f64::from(scale.unwrap_or(1.0)) * f64::from(factor)
        };
        Some(steps.into_iter().enumerate().map(value).collect())
    }

    /// `value` as integers in a float tensor.
    pub(super) fn integer(&mut self, value: ValueId) -> Integer {
        if let Held::Integer(integer) = self.held(value) {
            return integer;
        }
        let element = self.source.value(value).element.unwrap_or(ElementType::I32);
        let t = match self.casts.get(&value) {
            Some(known) => *known,
            None => {
                let own = self.own(value);
                let cast = self.emit_cast(value, own, ElementType::F32);
                self.casts.insert(value, cast);
                cast
            }
        };
        Integer {
            t,
            zero: Zero::Known(0),
            element,
            steps: Steps {
                whole: true,
                ..Steps::UNKNOWN
            },
        }
    }
}

pub(super) fn is_byte(element: ElementType) -> bool {
    matches!(element, ElementType::I8 | ElementType::U8)
}

/// Whether `k * factor` is 1 but for the rounding of a reciprocal.
fn is_one(k: f32, factor: f32) -> bool {
    (f64::from(k) * f64::from(factor) - 1.0).abs() < 1e-7
}
