//! The operators that compute: each as a layer that waits for the scale of its result.

use super::super::graph::Node;
use super::build::{Building, Operand};
use super::check::{Checked, check_size};
use super::flow::{Flow, Pending, Real};
use super::layout::{axis, integers};
use super::window::window;
use super::{Operator, Window};

impl Building<'_> {
    pub(super) fn average_pool(&mut self, node: &Node) -> Checked<Flow> {
        let input = self.steps(node, 0)?;
        let kernel = node.ints("kernel_shape").ok_or("it has no kernel")?;
        let shape = self.builder.tensor(input.tensor).shape.clone();
        let (window, overhangs) = window(node, &shape, kernel)?;
        let whole = Window {
            strides: window.strides,
            ..Window::whole(&shape)?
        };
        // A mean of everything is computed from the sum of integers, as onnxruntime does.
        if window == whole {
            return self.mean(node, true);
        }
        let count_padding = node.int("count_include_pad").unwrap_or(0) != 0;
        if overhangs && count_padding {
            return Err("its windows reach over the padding that it counts".to_owned());
        }
        let operator = Operator::AveragePool {
            window,
            count_padding,
            scales: [input.scale, 1.0],
        };
        self.waiting(node, operator, vec![input.tensor])
    }

    fn waiting(&self, node: &Node, operator: Operator, inputs: Vec<usize>) -> Checked<Flow> {
        let pending = self.builder.pending(&node.name, operator, inputs)?;
        Ok(Flow::Pending(Box::new(pending)))
    }

    /// Mean over axes: the spatial ones, those of an input or attribute, or all.
    pub(super) fn mean(&mut self, node: &Node, spatial: bool) -> Checked<Flow> {
        let input = self.steps(node, 0)?;
        let shape = self.builder.tensor(input.tensor).shape.clone();
        let axes = match spatial {
            true => Some((2..shape.len() as i64).collect()),
            false => integers(self.graph, node, 1, "axes")?,
        };
        let gone: Vec<usize> = match axes {
            Some(list) => list
                .iter()
                .map(|&a| axis(a, shape.len()))
                .collect::<Checked<_>>()?,
            None => (0..shape.len()).collect(),
        };
        let kept = |a: &usize| !gone.contains(a);
        let mut order: Vec<usize> = (0..shape.len()).filter(kept).collect();
        let first = order.len();
        order.extend((0..shape.len()).filter(|a| !kept(a)));
        let mut tensor = input.tensor;
        if !order.is_sorted() {
            let moved: Vec<usize> = order.iter().map(|&a| shape[a]).collect();
            tensor = self
                .builder
                .moved(&node.name, Operator::Transpose(order), tensor, moved);
        }
        let operator = Operator::Mean {
            axis: first,
            multiplier: input.scale,
        };
        let mut pending = self.builder.pending(&node.name, operator, vec![tensor])?;
        let keeps = node.int("keepdims").unwrap_or(1) != 0;
        let to: Vec<usize> = match keeps {
            true => (0..shape.len())
                .map(|a| if kept(&a) { shape[a] } else { 1 })
                .collect(),
            false => (0..shape.len()).filter(kept).map(|a| shape[a]).collect(),
        };
        if to != pending.made {
            pending.shape.clone_from(&to);
            pending
                .after
                .push((node.name.clone(), Operator::Reshape, to));
        }
        Ok(Flow::Pending(Box::new(pending)))
    }

    pub(super) fn softmax(&mut self, node: &Node) -> Checked<Flow> {
        let input = self.steps(node, 0)?;
        let axes = self.builder.tensor(input.tensor).shape.len();
        let exponential = |below: i32| (-(below as f32) * input.scale).exp();
        let operator = Operator::Softmax {
            axis: axis(node.int("axis").unwrap_or(-1), axes)?,
            exponentials: (0..256).map(exponential).collect(),
            multiplier: 1.0,
        };
        self.waiting(node, operator, vec![input.tensor])
    }

    pub(super) fn concat(&mut self, node: &Node) -> Checked<Flow> {
        let mut parts = Vec::with_capacity(node.inputs.len());
        let mut integer = false;
        for place in 0..node.inputs.len() {
            let flow = node.input(place).and_then(|id| self.flows.get(&id));
            let part = match flow {
                Some(&Flow::Integer(tensor)) => {
                    let own = self.builder.tensor(tensor);
                    integer = true;
                    Real {
                        tensor,
                        scale: own.scale,
                        zero_point: own.zero_point,
                        table: None,
                    }
                }
                _ => self.steps(node, place)?,
            };
            parts.push(part);
        }
        let first = parts.first().ok_or("it has no input")?;
        let like = self.builder.tensor(first.tensor).clone();
        let operator = Operator::Concat {
            axis: axis(node.int("axis").unwrap_or(0), like.shape.len())?,
            multipliers: parts.iter().map(|p| p.scale).collect(),
        };
        let same = |part: &Real| {
            let own = self.builder.tensor(part.tensor);
            (own.element, part.scale, part.zero_point)
                == (like.element, like.scale, like.zero_point)
        };
        if integer && !parts.iter().all(same) {
            return Err("its integers are quantised in different ways".to_owned());
        }
        let inputs = parts.iter().map(|p| p.tensor).collect();
        let pending = self.builder.pending(&node.name, operator, inputs)?;
        if integer {
            return Ok(Flow::Integer(self.builder.settle(&pending, like)?));
        }
        Ok(Flow::Pending(Box::new(pending)))
    }

    pub(super) fn pad(&mut self, node: &Node) -> Checked<Flow> {
        let mode = node.text("mode").unwrap_or("constant");
        if mode != "constant" || node.input(3).is_some() {
            return Err("it pads some axes only, or not with a constant".to_owned());
        }
        let widths = integers(self.graph, node, 1, "pads")?.ok_or("it has no widths")?;
        let value = match node.input(2).map(|_| self.operand(node, 2)).transpose()? {
            Some(Operand::Constant(_, values)) => values.first().copied().unwrap_or(0.0) as f32,
            Some(_) => return Err("its border is computed while the model runs".to_owned()),
            None => 0.0,
        };
        let id = node.input(0).ok_or("it has no input")?;
        let (tensor, value, real) = match self.flows.get(&id) {
            Some(&Flow::Integer(tensor)) => (tensor, value as i32, None),
            Some(&Flow::Raw(tensor)) => (tensor, self.builder.tensor(tensor).quantise(value), None),
            _ => {
                let real = self.steps(node, 0)?;
                let steps = (value / real.scale).round_ties_even() as i32;
                if steps as f32 * real.scale != value {
                    return Err("its border is no whole number of steps".to_owned());
                }
                (
                    real.tensor,
                    steps.saturating_add(real.zero_point),
                    Some(real),
                )
            }
        };
        let from = self.builder.tensor(tensor).shape.clone();
        let widths: Option<Vec<usize>> = widths.iter().map(|&w| usize::try_from(w).ok()).collect();
        let widths = widths.filter(|w| w.len() == 2 * from.len());
        let widths = widths.ok_or("its widths do not fit or are negative")?;
        let (before, behind) = widths.split_at(from.len());
        let to: Vec<usize> = (0..from.len())
            .map(|a| before[a].saturating_add(from[a]).saturating_add(behind[a]))
            .collect();
        check_size(&to)?;
        let operator = Operator::Pad {
            before: before.to_vec(),
            value,
        };
        let raw = matches!(self.flows.get(&id), Some(Flow::Raw(_)));
        let tensor = self.builder.moved(&node.name, operator, tensor, to);
        Ok(match real {
            Some(real) => Flow::Real(Real { tensor, ..real }),
            None if raw => Flow::Raw(tensor),
            None => Flow::Integer(tensor),
        })
    }

    /// Relu and Clip.
    pub(super) fn cut(&mut self, node: &Node) -> Checked<Flow> {
        let mut bounds = [0.0, f32::MAX];
        if node.op == "Clip" {
            bounds = [
                node.float("min").unwrap_or(f32::MIN),
                node.float("max").unwrap_or(f32::MAX),
            ];
            for (place, bound) in bounds.iter_mut().enumerate() {
                if node.input(place + 1).is_some() {
                    *bound = match self.operand(node, place + 1)? {
                        Operand::Constant(_, values) if values.len() == 1 => values[0] as f32,
                        _ => return Err("its bounds are computed while the model runs".to_owned()),
                    };
                }
            }
        }
        let [low, high] = bounds;
        // Bounds that are no numbers have no order either.
        if low.partial_cmp(&high).is_none_or(|order| order.is_gt()) {
            return Err("its bounds are in the wrong order".to_owned());
        }
        match self.operand(node, 0)? {
            Operand::Pending(mut pending) => {
                pending.low = pending.low.clamp(low, high);
                pending.high = pending.high.clamp(low, high);
                Ok(Flow::Pending(pending))
            }
            Operand::Real(real) => {
                let values = self.builder.reals(&real);
                let table = values.iter().map(|v| v.clamp(low, high)).collect();
                Ok(Flow::Real(Real {
                    table: Some(table),
                    ..real
                }))
            }
            Operand::Constant(..) => Err("it computes with constants alone".to_owned()),
        }
    }

    pub(super) fn batch_normalization(&mut self, node: &Node) -> Checked<Flow> {
        let mut constants = Vec::with_capacity(4);
        for place in 1..5 {
            let Operand::Constant(_, values) = self.operand(node, place)? else {
                return Err("its constants are computed while the model runs".to_owned());
            };
            constants.push(values);
        }
        let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
        let channels = constants[0].len();
        if constants.iter().any(|c| c.len() != channels) {
            return Err("its constants do not fit".to_owned());
        }
        let factor = |c: usize| constants[0][c] / (constants[3][c] + epsilon).sqrt();
        let factors: Vec<f64> = (0..channels).map(factor).collect();
        let summand = |c: usize| constants[1][c] - constants[2][c] * factors[c];
        let summands: Vec<f64> = (0..channels).map(summand).collect();
        let operand = self.operand(node, 0)?;
        self.scaled(
            node,
            operand,
            |axes| [&[channels][..], &vec![1; axes.saturating_sub(2)]].concat(),
            &factors,
            &summands,
        )
    }

    /// Add, Sub, Mul and Div.
    pub(super) fn arithmetic(&mut self, node: &Node) -> Checked<Flow> {
        let op = node.op.as_str();
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let (operand, shape, values, behind) = match (a, b) {
            (Operand::Constant(..), Operand::Constant(..)) => {
                return Err("it computes with constants alone".to_owned());
            }
            (Operand::Constant(shape, values), other) => (other, shape, values, false),
            (other, Operand::Constant(shape, values)) => (other, shape, values, true),
            (Operand::Real(a), Operand::Real(b)) => {
                return match a.tensor == b.tensor {
                    true => self.table(node),
                    false => self.pair(node),
                };
            }
            _ => {
                return Err("an input is not quantised; put QuantizeLinear and \
                             DequantizeLinear before it"
                    .to_owned());
            }
        };
        if values.len() == 1 && matches!(operand, Operand::Real(_)) {
            return self.table(node);
        }
        let (factors, summands): (Vec<f64>, Vec<f64>) = match (op, behind) {
            ("Add", _) => values.iter().map(|&v| (1.0, v)).unzip(),
            ("Mul", _) => values.iter().map(|&v| (v, 0.0)).unzip(),
            ("Sub", true) => values.iter().map(|&v| (1.0, -v)).unzip(),
            ("Sub", false) => values.iter().map(|&v| (-1.0, v)).unzip(),
            ("Div", true) => values.iter().map(|&v| (1.0 / v, 0.0)).unzip(),
            _ => return Err("it divides by what it computes".to_owned()),
        };
        self.scaled(node, operand, |_| shape, &factors, &summands)
    }

    /// `operand * factors + summands`, whose shape follows from the number of axes.
    fn scaled(
        &mut self,
        node: &Node,
        operand: Operand,
        shape: impl FnOnce(usize) -> Vec<usize>,
        factors: &[f64],
        summands: &[f64],
    ) -> Checked<Flow> {
        let pending = match operand {
            Operand::Pending(pending) => {
                let shape = shape(pending.shape.len());
                affine(*pending, &shape, factors, summands)?
            }
            _ => {
                let real = self.steps(node, 0).or_else(|_| self.steps(node, 1))?;
                let from = self.builder.tensor(real.tensor).shape.clone();
                let shape = shape(from.len());
                let axis = channel(&shape, &from)?.unwrap_or(0);
                let operator = Operator::Scale {
                    axis,
                    multipliers: vec![real.scale; from.get(axis).copied().unwrap_or(0)],
                    offsets: vec![0.0; from.get(axis).copied().unwrap_or(0)],
                };
                let pending = self
                    .builder
                    .pending(&node.name, operator, vec![real.tensor])?;
                affine(pending, &shape, factors, summands)?
            }
        };
        Ok(Flow::Pending(Box::new(pending)))
    }

    /// Add, Sub and Mul of two tensors.
    fn pair(&mut self, node: &Node) -> Checked<Flow> {
        let (a, b) = (self.steps(node, 0)?, self.steps(node, 1)?);
        let operator = match node.op.as_str() {
            "Add" => Operator::Add {
                multipliers: [a.scale, b.scale],
            },
            "Sub" => Operator::Add {
                multipliers: [a.scale, -b.scale],
            },
            "Mul" => Operator::Mul {
                multiplier: a.scale * b.scale,
            },
            _ => return Err("it divides by what it computes".to_owned()),
        };
        self.waiting(node, operator, vec![a.tensor, b.tensor])
    }
}

/// The axis of `to` along which a constant of `shape` differs; none for a single value.
fn channel(shape: &[usize], to: &[usize]) -> Checked<Option<usize>> {
    let other = || "its constant differs along more than one axis".to_owned();
    let missing = to.len().checked_sub(shape.len()).ok_or_else(other)?;
    let mut long = (0..shape.len()).filter(|&a| shape[a] != 1);
    match (long.next(), long.next()) {
        (None, _) => Ok(None),
        (Some(a), None) if shape[a] == to[a + missing] => Ok(Some(a + missing)),
        _ => Err(other()),
    }
}

/// `pending * factors + summands` of constants of `shape`.
pub(super) fn affine(
    mut pending: Pending,
    shape: &[usize],
    factors: &[f64],
    summands: &[f64],
) -> Checked<Pending> {
    let cut = pending.low > f32::MIN || pending.high < f32::MAX;
    if cut || !pending.after.is_empty() {
        return Err(
            "what it reads is not quantised; put QuantizeLinear and DequantizeLinear \
                    before it"
                .to_owned(),
        );
    }
    let own = match &pending.operator {
        Operator::Conv { .. } => 1,
        Operator::Dense(_) => pending.shape.len() - 1,
        Operator::Scale { axis, .. } => *axis,
        _ => {
            return Err("what it reads is not quantised; put QuantizeLinear and \
                         DequantizeLinear before it"
                .to_owned());
        }
    };
    if channel(shape, &pending.shape)?.is_some_and(|axis| axis != own) {
        return Err("its constant differs along another axis than the channels".to_owned());
    }
    let at = |values: &[f64], channel: usize| values[channel % values.len()];
    match &mut pending.operator {
        Operator::Conv { linear, .. } | Operator::Dense(linear) => {
            for (channel, multiplier) in linear.multipliers.iter_mut().enumerate() {
                *multiplier *= at(factors, channel) as f32;
                let bias = &mut pending.bias[channel];
                *bias = *bias * at(factors, channel) + at(summands, channel);
            }
        }
        Operator::Scale {
            multipliers,
            offsets,
            ..
        } => {
            for (channel, multiplier) in multipliers.iter_mut().enumerate() {
                *multiplier *= at(factors, channel) as f32;
                let offset = f64::from(offsets[channel]) * at(factors, channel);
                offsets[channel] = (offset + at(summands, channel)) as f32;
            }
        }
        _ => {}
    }
    Ok(pending)
}
