//! What a model must hold for the executor: shapes that fit, integers in range, sums that
//! cannot overflow, and sizes that a computer has room for.
//!
//! [`shape_of`] also tells the builder what a layer makes. Nothing here trusts its input:
//! every product is checked.

use super::run::image;
use super::{Element, IntegerModel, Layer, Linear, Operator, QuantisedTensor, Window};

/// Elements of the largest tensor that is taken.
const MOST_ELEMENTS: usize = 1 << 26;
/// Multiplications of the longest layer that is taken.
const MOST_WORK: usize = 1 << 36;
/// Axes of any tensor.
const MOST_AXES: usize = 8;
/// Length of a side of a window, its padding, stride or dilation.
const MOST_REACH: usize = 1 << 16;

pub(super) type Checked<T = ()> = Result<T, String>;

fn ensure(holds: bool, otherwise: &str) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

/// Whether a tensor of this shape is taken.
pub(super) fn check_size(shape: &[usize]) -> Checked {
    ensure(shape.len() <= MOST_AXES, "it has too many axes")?;
    let elements = product(shape).ok_or("it is too large")?;
    let taken = (1..=MOST_ELEMENTS).contains(&elements);
    ensure(taken, "it is empty or too large")
}

fn product(values: &[usize]) -> Option<usize> {
    values.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

impl IntegerModel {
    /// Says what is wrong with the model, if anything is.
    pub(super) fn check(&self) -> Checked {
        for tensor in &self.tensors {
            tensor
                .check()
                .map_err(|why| format!("tensor \"{}\": {why}", tensor.name))?;
        }
        let input = self.tensors.first().ok_or("it has no tensor")?;
        ensure(input.element != Element::F32, "its input is not quantised")?;
        let mut made = vec![false; self.tensors.len()];
        made[0] = true;
        for layer in &self.layers {
            self.check_layer(layer, &made)
                .map_err(|why| format!("layer \"{}\": {why}", layer.name))?;
            made[layer.output] = true;
        }
        ensure(made.iter().all(|&m| m), "a tensor is never made")?;
        ensure(self.output < self.tensors.len(), "its output is no tensor")?;
        for (place, tensor) in self.tensors.iter().enumerate() {
            let real = tensor.element == Element::F32;
            ensure(
                !real || place == self.output,
                "a real tensor is not the output",
            )?;
            ensure(
                !real || self.float_output,
                "its output is real and is not said to be",
            )?;
        }
        Ok(())
    }

    fn check_layer(&self, layer: &Layer, made: &[bool]) -> Checked {
        let known = |&place: &usize| made.get(place) == Some(&true);
        ensure(
            layer.inputs.iter().all(known),
            "it reads what is not made yet",
        )?;
        ensure(
            made.get(layer.output) == Some(&false),
            "it makes a tensor again",
        )?;
        let inputs: Vec<&QuantisedTensor> =
            layer.inputs.iter().map(|&n| &self.tensors[n]).collect();
        let output = &self.tensors[layer.output];
        let integers = inputs.iter().all(|t| t.element != Element::F32);
        ensure(integers, "it reads real values")?;
        let [low, high] = output.element.range();
        let [least, most] = layer.clamp;
        ensure(
            low <= least && least <= most && most <= high,
            "its clamp is out of range",
        )?;
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape.as_slice()).collect();
        match shape_of(&layer.operator, &shapes)? {
            Some(shape) => ensure(shape == output.shape, "it makes another shape")?,
            None => check_free_shape(&layer.operator, shapes[0], output)?,
        }
        check_sums(&layer.operator, &inputs)?;
        check_elements(&layer.operator, inputs[0], output)?;
        let work = layer
            .work(shapes[0], &output.shape)
            .ok_or("it is too much work")?;
        ensure(work <= MOST_WORK, "it is too much work")
    }
}

impl QuantisedTensor {
    fn check(&self) -> Checked {
        check_size(&self.shape)?;
        ensure(
            self.scale.is_finite() && self.scale > 0.0,
            "its scale is not positive",
        )?;
        let [low, high] = self.element.range();
        ensure(
            (low..=high).contains(&self.zero_point),
            "its zero point is out of range",
        )
    }
}

impl Layer {
    /// Multiplications with weights or between activations; elements made where there is none.
    pub(super) fn work(&self, input: &[usize], output: &[usize]) -> Option<usize> {
        let each = match &self.operator {
            Operator::Conv { linear, .. } | Operator::Dense(linear) => {
                linear.weights.len().checked_div(linear.bias.len())?
            }
            Operator::MatMul { .. } => *input.last()?,
            Operator::AveragePool { window, .. } | Operator::MaxPool(window) => {
                product(&window.kernel)?
            }
            _ => 1,
        };
        product(output)?.checked_mul(each)
    }
}

/// Shape of what the operator makes of inputs of these shapes; nothing where it is free.
pub(super) fn shape_of(operator: &Operator, inputs: &[&[usize]]) -> Checked<Option<Vec<usize>>> {
    let two = matches!(
        operator,
        Operator::MatMul { .. } | Operator::Add { .. } | Operator::Mul { .. }
    );
    let wanted = match operator {
        Operator::Concat { multipliers, .. } => multipliers.len(),
        _ if two => 2,
        _ => 1,
    };
    ensure(
        inputs.len() == wanted && wanted > 0,
        "it has too many or too few inputs",
    )?;
    let first = inputs[0];
    Ok(Some(match operator {
        Operator::Conv {
            window,
            groups,
            linear,
        } => {
            let [_, channels, ..] = image(first).ok_or("a convolution has 1 or 2 spatial axes")?;
            let outputs = linear.bias.len();
            let divided = *groups > 0 && channels % groups == 0 && outputs % groups == 0;
            ensure(divided, "its channels do not divide into its groups")?;
            let each = product(&[channels / groups, window.kernel[0], window.kernel[1]]);
            check_linear(linear, each.ok_or("its window is too large")?)?;
            windowed(first, outputs, window)?
        }
        Operator::Dense(linear) => {
            let width = *first.last().ok_or("its input has no axis")?;
            check_linear(linear, width)?;
            let mut shape = first.to_vec();
            shape.pop();
            shape.push(linear.bias.len());
            shape
        }
        Operator::MatMul { .. } => {
            let ([outer @ .., rows, inner], [right, same, columns]) = (
                first,
                match inputs[1] {
                    [outer @ .., a, b] => [outer, std::slice::from_ref(a), std::slice::from_ref(b)],
                    _ => return Err("a matrix has two axes".to_owned()),
                },
            ) else {
                return Err("a matrix has two axes".to_owned());
            };
            ensure(same == [*inner], "its matrices do not fit")?;
            ensure(right.is_empty() || right == outer, "its batches do not fit")?;
            [outer, &[*rows], columns].concat()
        }
        Operator::Add { .. } | Operator::Mul { .. } => {
            broadcast(first, inputs[1]).ok_or("its inputs do not fit")?
        }
        Operator::Concat { axis, .. } => {
            let mut shape = first.to_vec();
            let length = |part: &&[usize]| part.get(*axis).copied();
            let total = inputs
                .iter()
                .try_fold(0usize, |n, part| n.checked_add(length(part)?));
            *shape.get_mut(*axis).ok_or("it has no such axis")? = total.ok_or("it is too large")?;
            for part in inputs {
                let mut same = part.to_vec();
                same[*axis] = shape[*axis];
                ensure(same == shape, "its inputs do not fit")?;
            }
            shape
        }
        Operator::AveragePool { window, .. } | Operator::MaxPool(window) => {
            let [_, channels, ..] = image(first).ok_or("a pool has 1 or 2 spatial axes")?;
            windowed(first, channels, window)?
        }
        Operator::Mean { axis, .. } => {
            ensure(*axis < first.len(), "it has no such axis")?;
            let mut shape = first.to_vec();
            shape[*axis..].fill(1);
            shape
        }
        Operator::Softmax {
            axis, exponentials, ..
        } => {
            ensure(*axis < first.len(), "it has no such axis")?;
            ensure(exponentials.len() == 256, "a table has 256 entries")?;
            let falling = exponentials
                .windows(2)
                .all(|pair| pair[1] <= pair[0] && pair[1] >= 0.0);
            ensure(
                falling && exponentials[0] == 1.0,
                "its table is not of exponentials",
            )?;
            first.to_vec()
        }
        Operator::Table(table) => {
            ensure(table.len() == 256, "a table has 256 entries")?;
            first.to_vec()
        }
        Operator::Values(table) => {
            ensure(table.len() == 256, "a table has 256 entries")?;
            first.to_vec()
        }
        Operator::Scale {
            axis,
            multipliers,
            offsets,
        } => {
            let channels = first.get(*axis).copied();
            let fit = channels == Some(multipliers.len()) && channels == Some(offsets.len());
            ensure(fit, "its factors do not fit its axis")?;
            first.to_vec()
        }
        Operator::Transpose(order) => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            ensure(
                sorted.into_iter().eq(0..first.len()),
                "it is no order of the axes",
            )?;
            order.iter().map(|&axis| first[axis]).collect()
        }
        Operator::Reshape | Operator::Slice { .. } | Operator::Pad { .. } => return Ok(None),
    }))
}

fn check_linear(linear: &Linear, each: usize) -> Checked {
    let outputs = linear.bias.len();
    ensure(outputs > 0 && each > 0, "it has no weights")?;
    let fit = outputs.checked_mul(each) == Some(linear.weights.len());
    ensure(
        fit && linear.multipliers.len() == outputs,
        "its constants do not fit",
    )
}

fn windowed(shape: &[usize], channels: usize, window: &Window) -> Checked<Vec<usize>> {
    let fields = [window.kernel, window.strides, window.dilations];
    let reach = |v: &usize| (1..=MOST_REACH).contains(v);
    ensure(
        fields.as_flattened().iter().all(reach),
        "its window is empty or too large",
    )?;
    ensure(
        window.pads.iter().all(|&p| p <= MOST_REACH),
        "its padding is too large",
    )?;
    let [batch, _, height, width] = image(shape).ok_or("it has 1 or 2 spatial axes")?;
    let side = |axis: usize, length: usize| {
        let padded = length.checked_add(window.pads[axis] + window.pads[axis + 2])?;
        let extent = (window.kernel[axis] - 1) * window.dilations[axis] + 1;
        Some(padded.checked_sub(extent)? / window.strides[axis] + 1)
    };
    let too_small = "its window is larger than its input";
    let height = side(0, height).ok_or(too_small)?;
    let width = side(1, width).ok_or(too_small)?;
    if shape.len() == 3 {
        ensure(height == 1, "its window is higher than a row")?;
        return Ok(vec![batch, channels, width]);
    }
    Ok(vec![batch, channels, height, width])
}

/// The shape that both sides are repeated to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let axes = a.len().max(b.len());
    let length = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(axes) {
        Some(own) => shape[own],
        None => 1,
    };
    let axis = |axis: usize| match (length(a, axis), length(b, axis)) {
        (1, n) | (n, 1) => Some(n),
        (n, m) => (n == m).then_some(n),
    };
    (0..axes).map(axis).collect()
}

fn check_free_shape(operator: &Operator, from: &[usize], output: &QuantisedTensor) -> Checked {
    let to = output.shape.as_slice();
    let same_axes = |lists: &[&[usize]]| lists.iter().all(|l| l.len() == from.len());
    match operator {
        Operator::Slice { starts, steps } => {
            ensure(same_axes(&[to, starts, steps]), "it does not fit its input")?;
            for axis in 0..from.len() {
                let last = (to[axis] - 1).checked_mul(steps[axis]);
                let last = last.and_then(|last| last.checked_add(starts[axis]));
                let inside = last.is_some_and(|last| last < from[axis]);
                let step = (1..=MOST_ELEMENTS).contains(&steps[axis]);
                ensure(step && inside, "it reads outside of its input")?;
            }
            Ok(())
        }
        Operator::Pad { before, value } => {
            ensure(same_axes(&[to, before]), "it does not fit its input")?;
            for axis in 0..from.len() {
                let end = before[axis].checked_add(from[axis]);
                let inside = end.is_some_and(|end| end <= to[axis]);
                ensure(inside, "its output is smaller than its input")?;
            }
            let [low, high] = output.element.range();
            ensure((low..=high).contains(value), "its border is out of range")
        }
        _ => ensure(
            product(from) == product(to),
            "it makes another number of elements",
        ),
    }
}

/// Largest difference from the zero point.
fn reach(tensor: &QuantisedTensor) -> i64 {
    let [low, high] = tensor.element.range();
    i64::from((high - tensor.zero_point).max(tensor.zero_point - low))
}

fn check_sums(operator: &Operator, inputs: &[&QuantisedTensor]) -> Checked {
    let finite = |values: &[f32]| {
        ensure(
            values.iter().all(|v| v.is_finite()),
            "a factor is not finite",
        )
    };
    let most = reach(inputs[0]);
    let (longest, factors): (i64, &[f32]) = match operator {
        Operator::Conv { linear, .. } | Operator::Dense(linear) => {
            (longest_sum(linear, most), &linear.multipliers)
        }
        Operator::MatMul { multiplier } => {
            let length = inputs[0].shape.last().copied().unwrap_or(0) as i64;
            (
                most * reach(inputs[1]) * length,
                std::slice::from_ref(multiplier),
            )
        }
        Operator::AveragePool { scales, .. } => {
            ensure(scales.iter().all(|&s| s > 0.0), "a scale is not positive")?;
            (most, scales)
        }
        Operator::Mean { axis, multiplier } => {
            let count: usize = inputs[0].shape[*axis..].iter().product();
            (most * count as i64, std::slice::from_ref(multiplier))
        }
        Operator::Add { multipliers } => (most, multipliers),
        Operator::Mul { multiplier } => (most, std::slice::from_ref(multiplier)),
        Operator::Concat { multipliers, .. } => (most, multipliers),
        Operator::Softmax { multiplier, .. } => (most, std::slice::from_ref(multiplier)),
        Operator::Scale {
            multipliers,
            offsets,
            ..
        } => {
            finite(offsets)?;
            (most, multipliers)
        }
        Operator::Values(values) => (most, values),
        _ => return Ok(()),
    };
    ensure(
        longest <= i64::from(i32::MAX),
        "its sums do not fit into 32 bits",
    )?;
    finite(factors)
}

/// Largest magnitude that any sum of these weights reaches on the way.
fn longest_sum(linear: &Linear, most: i64) -> i64 {
    let weights = linear.weights.differences();
    let rows = weights.chunks(weights.len() / linear.bias.len());
    let row = |(row, bias): (&[i32], &i32)| {
        let sum: i64 = row.iter().map(|w| i64::from(w.abs())).sum();
        sum * most + i64::from(*bias).abs()
    };
    rows.zip(&linear.bias).map(row).max().unwrap_or(0)
}

fn check_elements(
    operator: &Operator,
    input: &QuantisedTensor,
    output: &QuantisedTensor,
) -> Checked {
    let real = output.element == Element::F32;
    match operator {
        Operator::Reshape
        | Operator::Transpose(_)
        | Operator::Slice { .. }
        | Operator::Pad { .. }
        | Operator::MaxPool(_) => ensure(
            input.element == output.element,
            "it changes the type of what it moves",
        ),
        Operator::Table(_) => ensure(!real, "a table makes no real values"),
        Operator::Values(_) => ensure(real, "its values are real"),
        _ => Ok(()),
    }
}
