//! One quantised operator being taken apart.
//!
//! Collects the nodes that take its place. Parameters that are constants are brought into the
//! form that DequantizeLinear wants: without axes where there is one, in a row where there are
//! many, scale and zero point in the same number.

use crate::compile::array::{Array, Data};
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, Graph, Node, ValueId};

/// Attributes of a float operator.
pub(super) type Attributes = Vec<(&'static str, Attribute)>;

/// The operator and what has been made of it.
pub(super) struct Rewrite<'g> {
    pub(super) graph: &'g mut Graph,
    pub(super) node: Node,
    made: Vec<Node>,
}

/// A value that was dequantised.
#[derive(Clone, Copy)]
pub(super) struct Real {
    pub(super) value: ValueId,
    pub(super) scale: ValueId,
    /// Whether there is more than one scale.
    pub(super) many: bool,
}

/// A scale and its zero point.
struct Parameters {
    scale: ValueId,
    zero: Option<ValueId>,
    many: bool,
}

impl<'g> Rewrite<'g> {
    pub(super) fn new(graph: &'g mut Graph, node: Node) -> Self {
        Self {
            graph,
            node,
            made: Vec::new(),
        }
    }

    /// Appends what was made to the graph.
    pub(super) fn done(self) {
        self.graph.nodes.extend(self.made);
    }

    pub(super) fn invalid(&self, why: &str) -> CompileError {
        CompileError::Invalid(format!("{}: {why}", self.node.title()))
    }

    pub(super) fn unsupported(&self, reason: &str, help: &str) -> CompileError {
        CompileError::unsupported(self.node.title(), reason, help)
    }

    /// Input `place`, which the operator cannot do without.
    pub(super) fn input(&self, place: usize) -> Result<ValueId, CompileError> {
        let input = self.node.input(place);
        input.ok_or_else(|| self.invalid(&format!("input {place} is missing")))
    }

    /// Attributes of these names that the node has.
    pub(super) fn kept(&self, names: &[&'static str]) -> Attributes {
        let attributes = &self.node.attributes;
        let kept = |name: &&'static str| Some((*name, attributes.get(*name)?.clone()));
        names.iter().filter_map(kept).collect()
    }

    pub(super) fn push(&mut self, node: Node) {
        self.made.push(node);
    }

    /// A node of ONNX's `op`, its result named after `name`.
    pub(super) fn apply(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: Attributes,
        name: &str,
    ) -> ValueId {
        let output = self.graph.add_value(name);
        let mut node = Node::new(&self.node.name, op, inputs, output);
        node.attributes
            .extend(attributes.into_iter().map(|(n, a)| (n.to_owned(), a)));
        self.push(node);
        output
    }

    /// The same, its result that of the whole operator.
    pub(super) fn result(&mut self, op: &str, inputs: &[ValueId], attributes: Attributes) {
        if let Some(output) = self.node.output() {
            let mut node = Node::new(&self.node.name, op, inputs, output);
            node.attributes
                .extend(attributes.into_iter().map(|(n, a)| (n.to_owned(), a)));
            self.push(node);
        }
    }

    /// A name beside that of the operator's result.
    pub(super) fn beside(&self, what: &str) -> String {
        let of = self.node.output().map(|id| self.graph.name(id));
        format!("{}.{what}", of.unwrap_or(&self.node.name))
    }

    /// The real numbers of the input at `place`, which has one scale.
    pub(super) fn dequantised(
        &mut self,
        place: usize,
        scale: usize,
        zero: usize,
    ) -> Result<Real, CompileError> {
        let real = self.dequantised_along(place, scale, zero, 0)?;
        match real.many {
            true => Err(self.unsupported(
                "an input has more than one scale",
                "quantise activations with one scale for each tensor",
            )),
            false => Ok(real),
        }
    }

    /// The real numbers of the input at `place`, which may have a scale for each index of
    /// `axis`.
    pub(super) fn dequantised_along(
        &mut self,
        place: usize,
        scale: usize,
        zero: usize,
        axis: i64,
    ) -> Result<Real, CompileError> {
        let input = self.input(place)?;
        let at = self.parameters(scale, zero)?;
        let value = self.dequantise(input, at.scale, at.zero, at.many.then_some(axis));
        Ok(Real {
            value,
            scale: at.scale,
            many: at.many,
        })
    }

    fn dequantise(
        &mut self,
        input: ValueId,
        scale: ValueId,
        zero: Option<ValueId>,
        axis: Option<i64>,
    ) -> ValueId {
        let mut inputs = vec![input, scale];
        inputs.extend(zero);
        let axis = match (axis, self.rank(input)) {
            (Some(axis), Some(rank)) if axis < 0 => Some(axis + rank as i64),
            _ => axis,
        };
        let attributes = axis.map(|axis| ("axis", Attribute::Int(axis)));
        let name = format!("{}.real", self.graph.name(input));
        let attributes = attributes.into_iter().collect();
        self.apply("DequantizeLinear", &inputs, attributes, &name)
    }

    /// A bias in sums of products of two factors with these scales.
    pub(super) fn bias(
        &mut self,
        bias: ValueId,
        scales: [ValueId; 2],
        alpha: f32,
        axis: Option<i64>,
    ) -> Result<ValueId, CompileError> {
        let name = format!("{}.scale", self.graph.name(bias));
        let mut scale = self.multiplied(scales, &name)?;
        if alpha != 1.0 {
            let alpha = self
                .graph
                .add_constant(&self.beside("alpha"), Array::scalar(alpha));
            scale = self.multiplied([scale, alpha], &name)?;
        }
        Ok(self.dequantise(bias, scale, None, axis))
    }

    /// The product of two scales: a constant where both are.
    pub(super) fn multiplied(
        &mut self,
        scales: [ValueId; 2],
        name: &str,
    ) -> Result<ValueId, CompileError> {
        let [a, b] = scales.map(|scale| self.graph.constant(scale));
        let (Some(a), Some(b)) = (a, b) else {
            return Ok(self.apply("Mul", &scales, Vec::new(), name));
        };
        let (Some(left), Some(right)) = (a.as_f32(), b.as_f32()) else {
            return Err(self.invalid("a scale is not of f32"));
        };
        let (shape, values): (_, Vec<f32>) = match (left, right) {
            (_, [one]) => (a.shape(), left.iter().map(|s| s * one).collect()),
            ([one], _) => (b.shape(), right.iter().map(|s| one * s).collect()),
            _ if a.shape() == b.shape() => {
                let both = left.iter().zip(right);
                (a.shape(), both.map(|(s, t)| s * t).collect())
            }
            _ => return Err(self.invalid("its scales differ in number")),
        };
        let product = Array::new(shape.to_vec(), Data::F32(values));
        let product = product.ok_or_else(|| self.invalid("its scales do not fit"))?;
        Ok(self.shared(name, product))
    }

    /// Quantises `real` into the operator's result.
    pub(super) fn quantised(
        &mut self,
        real: ValueId,
        scale: usize,
        zero: usize,
        input: usize,
    ) -> Result<(), CompileError> {
        let at = self.parameters(scale, zero)?;
        let usable = |s: f32| s.is_finite() && s > 0.0;
        let scales = self.graph.constant(at.scale).and_then(Array::as_f32);
        if at.many || scales.is_some_and(|all| !all.iter().copied().all(usable)) {
            return Err(self.invalid("the scale of its result is not one positive number"));
        }
        let zero = match at.zero {
            Some(zero) => zero,
            None => self.no_zero(input)?,
        };
        self.result("QuantizeLinear", &[real, at.scale, zero], Vec::new());
        Ok(())
    }

    /// A zero point of zero, of the type of input `place`.
    fn no_zero(&mut self, place: usize) -> Result<ValueId, CompileError> {
        let input = self.input(place)?;
        let array = self.graph.value(input).element.and_then(|element| {
            element.integer_range()?;
            Array::integers(element, Vec::new(), &[0])
        });
        match array {
            Some(array) => Ok(self.shared(&self.beside("zero"), array)),
            None => Err(self.unsupported(
                "its result has no zero point that tells its type",
                "let onnx.shape_inference write types into the model",
            )),
        }
    }

    fn parameters(&mut self, scale: usize, zero: usize) -> Result<Parameters, CompileError> {
        let scale = self.input(scale)?;
        let zero = self.node.input(zero);
        let Some(scales) = self.graph.constant(scale) else {
            let shape = self.graph.value(scale).shape.as_deref();
            let many = shape.is_some_and(|s| s.iter().any(|n| *n != Some(1)));
            return Ok(Parameters { scale, zero, many });
        };
        let values = scales.as_f32().filter(|v| v.iter().all(|s| s.is_finite()));
        let Some(values) = values else {
            return Err(self.invalid("a scale is not a finite f32"));
        };
        let zeros = zero.and_then(|zero| self.graph.constant(zero));
        let count = values.len().max(zeros.map_or(1, Array::len));
        let axes = |array: &Array| array.shape().iter().filter(|n| **n > 1).count();
        if axes(scales).max(zeros.map_or(0, axes)) > 1 {
            return Err(self.unsupported(
                "its scales lie in more than one axis",
                "quantise with one scale for each tensor or each channel",
            ));
        }
        let fits = |len: usize| len == 1 || len == count;
        if !fits(values.len()) || !fits(zeros.map_or(1, Array::len)) {
            return Err(self.invalid("scales and zero points differ in number"));
        }
        let scales = Array::new(row(count), Data::F32(stretched(values, count)));
        let zeros = match zeros {
            None => None,
            Some(zeros) => {
                let values = zeros.to_i32();
                let values = values.ok_or_else(|| self.invalid("a zero point is no integer"))?;
                let element = zeros.element();
                Array::integers(element, row(count), &stretched(&values, count))
            }
        };
        let scale = scales.map_or(scale, |scales| self.formed(scale, scales));
        let zero = zero.map(|zero| match zeros {
            Some(zeros) => self.formed(zero, zeros),
            None => zero,
        });
        Ok(Parameters {
            scale,
            zero,
            many: count > 1,
        })
    }

    /// The constant `id` in another form, as [`Rewrite::shared`] gives it.
    fn formed(&mut self, id: ValueId, array: Array) -> ValueId {
        let name = self.graph.name(id).to_owned();
        self.shared(&name, array)
    }

    /// A constant of these elements: the one of this name where it has them, or a new one.
    pub(super) fn shared(&mut self, name: &str, array: Array) -> ValueId {
        let formed = match array.rank() {
            0 => format!("{name}.scalar"),
            _ => format!("{name}.row"),
        };
        for known in [name, &formed] {
            if let Some(id) = self.graph.find(known)
                && self.graph.constant(id) == Some(&array)
            {
                return id;
            }
        }
        match self.graph.find(name) {
            Some(_) => self.graph.add_constant(&formed, array),
            None => self.graph.add_constant(name, array),
        }
    }

    /// Number of axes of a value, where it is known.
    pub(super) fn rank(&self, value: ValueId) -> Option<usize> {
        self.graph.value(value).shape.as_ref().map(Vec::len)
    }
}

/// The shape of one parameter or of many.
fn row(count: usize) -> Vec<usize> {
    match count {
        1 => Vec::new(),
        _ => vec![count],
    }
}

fn stretched<T: Copy>(values: &[T], count: usize) -> Vec<T> {
    match values {
        [one] => vec![*one; count],
        _ => values.to_vec(),
    }
}
