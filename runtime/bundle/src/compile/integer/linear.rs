//! Weighted sums: Conv, Gemm and MatMul with constant weights, and their biases.

use super::super::graph::Node;
use super::build::{Building, Operand};
use super::check::Checked;
use super::flow::{Flow, Pending, Quantised};
use super::node::affine;
use super::window::window;
use super::{Linear, Operator, Weights};

impl Building<'_> {
    /// The quantised constant that input `place` is.
    fn weights(&self, node: &Node, place: usize) -> Checked<Quantised> {
        let id = node.input(place).ok_or("it has no weights")?;
        match self.flows.get(&id) {
            Some(Flow::Constant(weights)) if weights.least >= -128 => Ok(weights.clone()),
            Some(Flow::Constant(_)) => Err("its weights are wider than 8 bits".to_owned()),
            _ if self.graph.constant(id).is_some() => Err("its weights are float".to_owned()),
            _ => Err("its weights are computed while the model runs".to_owned()),
        }
    }

    /// Adds the constant input `place`, if there is one, times `factor`.
    fn biased(&self, node: &Node, place: usize, factor: f64, pending: Pending) -> Checked<Flow> {
        if node.input(place).is_none() {
            return Ok(Flow::Pending(Box::new(pending)));
        }
        let Operand::Constant(shape, values) = self.operand(node, place)? else {
            return Err("its bias is computed while the model runs".to_owned());
        };
        let values: Vec<f64> = values.iter().map(|b| b * factor).collect();
        // The bias of a Conv stands for its channels, whatever comes behind them.
        let shape = match pending.operator {
            Operator::Conv { .. } => [&shape[..], &vec![1; pending.shape.len() - 2]].concat(),
            _ => shape,
        };
        let factors = vec![1.0; values.len()];
        Ok(Flow::Pending(Box::new(affine(
            pending, &shape, &factors, &values,
        )?)))
    }

    pub(super) fn conv(&mut self, node: &Node) -> Checked<Flow> {
        let weights = self.weights(node, 1)?;
        let input = self.steps(node, 0)?;
        let [_, _, sides @ ..] = weights.shape.as_slice() else {
            return Err("its weights have no window".to_owned());
        };
        let kernel: Vec<i64> = sides.iter().map(|&n| n as i64).collect();
        let shape = self.builder.tensor(input.tensor).shape.clone();
        let (window, _) = window(node, &shape, &kernel)?;
        let groups = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(0);
        let linear = linear(&weights, 0, input.scale, 1.0)?;
        let operator = Operator::Conv {
            window,
            groups,
            linear,
        };
        let pending = self
            .builder
            .pending(&node.name, operator, vec![input.tensor])?;
        self.biased(node, 2, 1.0, pending)
    }

    pub(super) fn gemm(&mut self, node: &Node) -> Checked<Flow> {
        if node.int("transA").unwrap_or(0) != 0 {
            return Err("it transposes its input".to_owned());
        }
        let channels = if node.int("transB").unwrap_or(0) != 0 {
            0
        } else {
            1
        };
        let alpha = node.float("alpha").unwrap_or(1.0);
        let pending = self.dense(node, channels, alpha)?;
        let beta = node.float("beta").unwrap_or(1.0);
        self.biased(node, 2, f64::from(beta), pending)
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Checked<Flow> {
        if let Operand::Real(_) = self.operand(node, 1)? {
            let (a, b) = (self.steps(node, 0)?, self.steps(node, 1)?);
            let operator = Operator::MatMul {
                multiplier: a.scale * b.scale,
            };
            let inputs = vec![a.tensor, b.tensor];
            let pending = self.builder.pending(&node.name, operator, inputs)?;
            return Ok(Flow::Pending(Box::new(pending)));
        }
        Ok(Flow::Pending(Box::new(self.dense(node, 1, 1.0)?)))
    }

    fn dense(&mut self, node: &Node, channels: usize, alpha: f32) -> Checked<Pending> {
        let weights = self.weights(node, 1)?;
        if weights.shape.len() != 2 {
            return Err("its weights are no matrix".to_owned());
        }
        let input = self.steps(node, 0)?;
        let linear = linear(&weights, channels, input.scale, alpha)?;
        let inputs = vec![input.tensor];
        self.builder
            .pending(&node.name, Operator::Dense(linear), inputs)
    }
}

/// Weights with their output channels, which lie along `channels`, first.
fn linear(weights: &Quantised, channels: usize, input: f32, alpha: f32) -> Checked<Linear> {
    let single = weights.scales.len() == 1 && weights.zero_points.len() == 1;
    if !single && weights.axis != channels {
        return Err("its weights have scales along another axis than its outputs".to_owned());
    }
    let outputs = weights.shape[channels];
    let behind: usize = weights.shape[channels + 1..].iter().product();
    let before: usize = weights.shape[..channels].iter().product();
    let mut ordered = Vec::with_capacity(weights.values.len());
    for channel in 0..outputs {
        for outer in 0..before {
            let start = (outer * outputs + channel) * behind;
            ordered.extend_from_slice(&weights.values[start..start + behind]);
        }
    }
    let width = before * behind;
    let zero = |channel: usize| weights.zero_points[channel % weights.zero_points.len()];
    let difference =
        |(n, v): (usize, &i32)| i8::try_from(v.checked_sub(zero(n / width.max(1)))?).ok();
    let signed: Option<Vec<i8>> = ordered.iter().enumerate().map(difference).collect();
    let packed = match (signed, weights.zero_points.as_slice()) {
        (Some(signed), _) => Weights::Signed(signed),
        (None, [zero]) => {
            let byte = |v: &i32| u8::try_from(v - weights.least).ok();
            let values: Option<Vec<u8>> = ordered.iter().map(byte).collect();
            match (values, byte(zero)) {
                (Some(values), Some(zero_point)) => Weights::Unsigned { values, zero_point },
                _ => return Err("its weights are wider than 8 bits".to_owned()),
            }
        }
        _ => return Err("its weights have zero points that differ".to_owned()),
    };
    let scale = |channel: usize| input * weights.scales[channel % weights.scales.len()] * alpha;
    Ok(Linear {
        weights: packed,
        bias: vec![0; outputs],
        multipliers: (0..outputs).map(scale).collect(),
    })
}
